"""Compare the accuracies of the two sides: is their difference larger than the spread between seeds allows?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from ..verdict import FAIL, INCONCLUSIVE, PASS
from .paddle_run import Trained

# Quantile 0.975 of Student's distribution, by degrees of freedom; a larger number has about the last one.
STUDENT = {2: 4.303, 4: 2.776, 6: 2.447, 8: 2.306, 10: 2.228, 12: 2.179, 14: 2.145, 16: 2.120, 18: 2.101, 20: 2.086}
MAX_FIRST_LOSS_ERROR = 1e-4  # relative, in float32; of a network without dropout


@dataclass(frozen=True)
class Comparison:
    """The result of a whole training on both sides.

    Attributes:
        port: trainings of the port, one for each seed.
        reference: those of the reference, with the same seeds.
        has_dropout: the two sides draw other dropout masks, so that even the first losses differ.
        one_picture_percent: what one validation image is of the accuracy.
    """

    port: Sequence[Trained]
    reference: Sequence[Trained]
    has_dropout: bool
    one_picture_percent: float

    @property
    def difference_percent(self) -> float:
        """Mean accuracy of the port minus that of the reference, after the last epoch, in points."""
        return fmean(last(self.port)) - fmean(last(self.reference))

    @property
    def spread_percent(self) -> float | None:
        """Standard deviation between seeds, pooled over both sides, at least one picture; None with one seed."""
        if len(self.port) < 2:
            return None
        pooled = math.sqrt((variance(last(self.port)) + variance(last(self.reference))) / 2)
        return max(pooled, self.one_picture_percent)

    @property
    def allowed_percent(self) -> float | None:
        """Largest difference of two means of equal trainings in 95 of 100 cases (Student's test for two samples)."""
        if self.spread_percent is None:
            return None
        number = len(self.port)
        quantile = STUDENT.get(2 * (number - 1), min(STUDENT.values()))
        return quantile * self.spread_percent * math.sqrt(2 / number)

    @property
    def first_loss_error(self) -> float:
        """Largest relative difference of the losses of the first step: same images, same weights."""
        pairs = zip(self.port, self.reference, strict=True)
        return max(abs(ours.first_loss / theirs.first_loss - 1) for ours, theirs in pairs)

    @property
    def status(self) -> str:
        """pass, fail, or inconclusive with one seed, which has no spread."""
        if not self.has_dropout and not self.first_loss_error <= MAX_FIRST_LOSS_ERROR:
            return FAIL
        if self.allowed_percent is None:
            return INCONCLUSIVE
        return PASS if abs(self.difference_percent) <= self.allowed_percent else FAIL

    def lines(self) -> list[str]:
        """The comparison in words."""
        texts = [
            f"{name:8s} top-1 {', '.join(f'{value:.2f}' for value in last(runs))} %; mean {fmean(last(runs)):.2f} %"
            for name, runs in (("Paddle", self.port), ("PyTorch", self.reference))
        ]
        dropout = " (the network has dropout, whose masks differ)" if self.has_dropout else ""
        texts.append(f"loss of the first step: relative difference {self.first_loss_error:.1e}{dropout}")
        if self.allowed_percent is None:
            what = "one seed has no spread; give more, for example --seeds 0 1 2"
        else:
            what = (
                f"spread between seeds {self.spread_percent:.2f}, so equal trainings differ by at most "
                f"{self.allowed_percent:.2f} points in 95 of 100 cases"
            )
        return [*texts, f"difference {self.difference_percent:+.2f} points; {what}: {self.status.upper()}"]

    def to_dict(self) -> dict:
        """The comparison as plain values, for a JSON file."""
        return {
            "status": self.status,
            "difference_percent": round(self.difference_percent, 4),
            "spread_percent": _rounded(self.spread_percent),
            "allowed_percent": _rounded(self.allowed_percent),
            "first_loss_error": float(f"{self.first_loss_error:.3g}"),
            "has_dropout": self.has_dropout,
            "paddle": [_run(run) for run in self.port],
            "pytorch": [_run(run) for run in self.reference],
        }


def last(runs: Sequence[Trained]) -> list[float]:
    """The accuracy of each training after its last epoch, in percent."""
    return [run.top1_percent[-1] for run in runs]


def _run(run: Trained) -> dict:
    top1 = [round(value, 3) for value in run.top1_percent]
    return {"seed": run.seed, "top1_percent": top1, "seconds": run.seconds}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
