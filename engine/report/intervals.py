"""Intervals of 95 % around the numbers of a report: Wilson's for shares, the bootstrap for everything else."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
NUM_RESAMPLES = 1000
SEED = 0


class Estimate(NamedTuple):
    """A number with the ends of its 95 % interval, both None where there is none, and the method of the interval."""

    value: float
    low: float | None = None
    high: float | None = None
    method: str = ""


def wilson(num: int, total: int) -> Estimate:
    """The share num/total with the interval of Wilson, 1927, which holds for small counts and shares near 0 and 1."""
    if total == 0:
        return Estimate(0.0)
    share, square = num / total, Z * Z / total
    centre = (share + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(share * (1 - share) / total + square / (4 * total))
    low = 0.0 if num == 0 else max(0.0, centre - half)  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if num == total else min(1.0, centre + half)
    return Estimate(share, low, high, "wilson")


def bootstrap(measure: Callable[[np.ndarray], np.ndarray], num: int, upper: tuple[float, ...]) -> list[Estimate]:
    """Estimates with bootstrap intervals: value plus and minus 1.96 standard deviations over NUM_RESAMPLES resamples.

    The interval holds the value, also for the calibration error, which resampling raises: there the percentiles of the
    resamples would lie above the value.

    Args:
        measure: returns the numbers, float64 [K], for weights int64 [num] of the pictures; all 1 are the set itself.
        num: number of pictures.
        upper: largest possible value of each number; the smallest is 0.

    Returns:
        K estimates; without an interval where all resamples are alike, for example because every picture is right.
    """
    rng = np.random.default_rng(SEED)
    values = measure(np.ones(num, np.int64))
    resamples = np.array(
        [measure(np.bincount(rng.integers(0, num, num), minlength=num)) for _ in range(NUM_RESAMPLES if num else 0)]
    )
    estimates = []
    for i, value in enumerate(map(float, values)):
        spread = Z * float(resamples[:, i].std()) if num else 0.0
        ends = (max(0.0, value - spread), min(upper[i], value + spread), "bootstrap")
        estimates.append(Estimate(value, *ends) if spread > 1e-12 else Estimate(value))
    return estimates
