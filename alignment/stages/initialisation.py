"""Stage 2: compare the fresh weights of both models: exact values of constants, and the spread of drawn numbers."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..rules import Arrays
from ..session import Session
from ..verdict import FAIL, REMARK, Check, StageResult, exactly

# Models that are built on each side: two show what is drawn, more give many numbers of small tensors.
MIN_DRAWS, MAX_DRAWS = 2, 8
MAX_NUMBERS = 4_000_000  # of all models of one side, if more than two are built
# Two equal distributions are called different with a chance below one in a million for each tensor: 5 standard
# deviations for the spread, and the limit of Kolmogorov and Smirnov for the shape.
DEVIATIONS, KOLMOGOROV = 5.0, 2.7
MAX_SAMPLE = 20_000  # numbers of one tensor that are compared
MAX_NAMES = 4
# Share of a number by which a table may differ that the model computes itself: both frameworks compute the sine of a
# position of 5000 in float32 with an error of 3e-4.
TABLE_ERROR = 1e-3
LEAST_FOR_A_SHAPE = 1000  # numbers of a tensor in all fresh models
Draws = dict[str, list[np.ndarray]]  # {name: the first numbers of the tensor in each fresh model}


class Finding(NamedTuple):
    """How a tensor differs from its match.

    Attributes:
        what: of all tensors that are reported together.
        words: the two distributions.
        decides: whether the difference is a failure.
    """

    what: str
    words: str
    decides: bool


def run(session: Session) -> StageResult:
    """Compare the distributions of fresh weights, tensor by tensor.

    A matrix or filter that is constant on one side alone, and constants that differ, fail. So do fixed numbers that are
    not trained, a mean of the images for example, if one of them differs. Other distributions are a
    remark, because they matter only to a training from the start, unless the case gives `tolerances.initialisation`.
    """
    size = sum(math.prod(shape) for shape in session.port_shapes.values())
    num_draws = int(np.clip(MAX_NUMBERS // max(size, 1), MIN_DRAWS, MAX_DRAWS))
    actual, expected = port_samples(session, num_draws), reference_samples(session, num_draws)
    parameters, trained = (_port_names(session, key) for key in ("is_parameter", "is_trained"))
    limit = session.case.tolerances.initialisation
    found: dict[tuple[str, bool], list[tuple[str, str]]] = {}
    for name in [name for name in session.port_shapes if name in actual and name in expected]:
        is_matrix = name in parameters and sum(side > 1 for side in session.port_shapes[name]) > 1
        finding = None if name in trained else difference_of_fixed(actual[name], expected[name])
        if not finding:
            a, b = (np.concatenate(draws[name])[:MAX_SAMPLE] for draws in (actual, expected))
            finding = difference_of(a, b, is_matrix=is_matrix, limit=limit)
        if finding:
            found.setdefault((finding.what, finding.decides), []).append((name, finding.words))
    if not found:
        detail = f"{len(expected)} tensors, {num_draws} fresh models on each side"
        return StageResult("initialisation", [exactly("fresh weights", True, detail)])
    ordered = sorted(found.items(), key=lambda item: not item[0][1])
    return StageResult("initialisation", [_check(what, decides, tensors) for (what, decides), tensors in ordered])


def _port_names(session: Session, key: str) -> set[str]:
    """Names in the port of the entries of the reference that have this property."""
    entries = [entry["name"] for entry in session.inventory["entries"] if entry[key]]
    return {name for entry in entries for name in session.rules.port_names(entry)}


def _check(what: str, decides: bool, tensors: list[tuple[str, str]]) -> Check:
    shown = "; ".join(f"{name}: {words}" for name, words in tensors[:MAX_NAMES])
    more = f"; and {len(tensors) - MAX_NAMES} more" if len(tensors) > MAX_NAMES else ""
    text = f"{what} of {len(tensors)} tensors: {shown}{more}"
    layer = tensors[0][0].rpartition(".")[0] if decides else ""
    return Check("fresh weights", FAIL if decides else REMARK, detail=text, layer=layer)


def port_samples(session: Session, num_draws: int) -> Draws:
    """The numbers in several fresh models of the port."""
    import paddle

    from ..paddle_side.port import state_arrays

    def fresh_model(seed: int) -> Arrays:
        paddle.seed(seed)
        return state_arrays(session.port.build())

    found = _samples(fresh_model(draw) for draw in range(num_draws))
    paddle.seed(0)
    return found


def reference_samples(session: Session, num_draws: int) -> Draws:
    """The numbers in several fresh models of the reference, by the names and in the layouts of the port."""
    spec = session.case.reference_spec
    models = (session.reference.ask_arrays("fresh_state", reference=spec, seed=draw)[1] for draw in range(num_draws))
    return _samples(session.rules.to_port(model) for model in models)


def _samples(models: Iterable[Arrays]) -> Draws:
    draws: Draws = {}
    for model in models:
        for name, array in model.items():
            draws.setdefault(name, []).append(np.ravel(array)[:MAX_SAMPLE].copy())
    return draws


def difference_of_fixed(actual: list[np.ndarray], expected: list[np.ndarray]) -> Finding | None:
    """How numbers differ that are the same in every fresh model of a side; None if they agree, or if one is drawn.

    The forward cannot show it: the port is compared with the weights of the reference, and these numbers are among
    them.

    Args:
        actual: [N] of each model of the port.
        expected: [N] of each model of the reference.
    """
    if not all(np.array_equal(draw, draws[0], equal_nan=True) for draws in (actual, expected) for draw in draws):
        return None
    a, b = actual[0], expected[0]
    if a.shape != b.shape or not a.size or ((a == a[0]).all() and (b == b[0]).all()):
        return None  # the stage `weights` reports it; single numbers are compared as constants
    if a.dtype.kind in "fc":
        sizes = np.sort(np.abs(b[np.isfinite(b) & (b != 0)]))
        least = float(sizes[(len(sizes) - 1) // 2]) if sizes.size else 0.0  # a sine may be near zero in a table
        is_equal = np.isclose(a, b, TABLE_ERROR, TABLE_ERROR * least, equal_nan=True)
    else:
        is_equal = a == b
    if is_equal.all():
        return None
    place = int(np.argmin(is_equal))
    words = f"number {place} is {a[place]!s:.9}, in the reference {b[place]!s:.9}; {(~is_equal).sum()} differ"
    return Finding("another constant", words, True)


def difference_of(actual: np.ndarray, expected: np.ndarray, *, is_matrix: bool, limit: float) -> Finding | None:
    """What differs between the numbers of a tensor of the port and those of its match, or None.

    Args:
        actual: [N] of the port.
        expected: [M] of the reference.
        is_matrix: whether the tensor has two axes or more; only such a tensor must not be constant on one side.
        limit: largest quotient of the standard deviations that passes; a shape that differs then fails too.
    """
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    is_constant = np.ptp(a) == 0, np.ptp(b) == 0
    is_strict = math.isfinite(limit)
    words = f"{_words(a)}, in the reference {_words(b)}"
    if all(is_constant):
        is_equal = math.isclose(float(a[0]), float(b[0]), rel_tol=1e-6)
        return None if is_equal else Finding("another constant", words, True)
    if any(is_constant):
        return Finding("a constant on one side", words, is_matrix or is_strict)
    quotient = a.std() / b.std()
    is_wide = abs(math.log(quotient)) > DEVIATIONS * math.sqrt(_variance_of_log_std(a) + _variance_of_log_std(b))
    is_moved = abs(a.mean() - b.mean()) > DEVIATIONS * math.hypot(a.std() / len(a) ** 0.5, b.std() / len(b) ** 0.5)
    is_other = kolmogorov(a, b) > KOLMOGOROV * math.sqrt((len(a) + len(b)) / (len(a) * len(b)))
    if not (is_wide or is_moved or is_other):
        return None
    decides = is_strict and (is_moved or is_other or max(quotient, 1 / quotient) > limit)
    return Finding("another distribution", words, decides)


def kolmogorov(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference between the two empirical distributions."""
    numbers = np.sort(np.concatenate([a, b]))
    shares = [np.searchsorted(np.sort(sample), numbers, side="right") / len(sample) for sample in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())


def _variance_of_log_std(sample: np.ndarray) -> float:
    """Variance of the logarithm of the standard deviation of a sample, from its fourth moment."""
    centred = sample - sample.mean()
    variance = float((centred**2).mean())
    return max(float((centred**4).mean()) / variance**2 - 1, 0.1) / (4 * len(sample))


def _words(sample: np.ndarray) -> str:
    """The distribution in words: constant, uniform or normal by its largest numbers, and its standard deviation.

    Of a few numbers of a uniform distribution the largest may be anywhere, so they are called random.
    """
    if np.ptp(sample) == 0:
        return f"all {sample[0]:.6g}"
    std, largest = float(sample.std()), float(np.abs(sample - sample.mean()).max())
    shape = "uniform" if largest < 1.8 * std else "normal" if largest > 2.2 * std else "truncated"
    shape = shape if len(sample) >= LEAST_FOR_A_SHAPE else "random"
    mean = f", mean {sample.mean():.2g}" if abs(sample.mean()) > 0.2 * std else ""
    return f"{shape} of standard deviation {std:.2g}{mean}"
