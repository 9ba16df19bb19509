"""Judge arrays of a port by arrays that its reference has recorded earlier, in the precision of the recording."""

from collections.abc import Iterable, Mapping

import numpy as np

from ..compare import compare
from ..pipeline.judge import array_difference
from ..rules import Arrays
from ..verdict import FAIL, INCONCLUSIVE, Check, within

MAX_NAMES = 8  # of a message
# A recording in float64, relative: Paddle keeps constants such as an epsilon as float32, and a recording does not.
FLOAT64_TOLERANCE = 1e-7
LEAST_ROUNDINGS = 2  # of the type of a recording, relative; the port's own rounding may happen to be smaller
MAX_ROUNDING = 1e-4  # relative; a port whose own rounding is larger is not judged by it


def paired_keys(port: Iterable[str], recorded: Iterable[str]) -> dict[str, str]:
    """{recorded key: key of the port}: by name, and in order if as many keys are left over on both sides.

    The value is an empty text for a recorded key that the port has not.
    """
    port, recorded = list(port), list(recorded)
    pairs = {key: key if key in port else "" for key in recorded}
    own, others = [key for key in port if key not in pairs], [key for key in recorded if not pairs[key]]
    if len(own) == len(others):
        pairs |= zip(others, own, strict=True)
    return pairs


def recorded_checks(
    what: str,
    arrays: tuple[Arrays, Arrays],
    recorded: Arrays,
    *,
    rounding: float,
    tolerance: float,
    own: float = 0.0,
    accepts_constants: bool = True,
) -> list[Check]:
    """One check for each recorded array.

    A recording in float32 lies from the exact values as far as the reference rounds. The port's own rounding, its
    float32 against its float64, measures that: the largest over all arrays, for one number may be exact by chance.

    Args:
        what: word of the stage, for the names of the checks.
        arrays: {key: array} of the port in float32 and in float64.
        recorded: {key: array} of the reference.
        rounding: largest distance that passes, as a multiple of the port's own rounding.
        tolerance: largest relative distance that passes; 0 takes that of the rounding.
        own: least rounding of the port, of what these arrays are computed from.
        accepts_constants: whether arrays of equal numbers prove something; outputs of layers do not.
    """
    single, exact = arrays
    own = max([own, *own_roundings(single, exact)])
    if own > MAX_ROUNDING and not tolerance:
        reason = f"the port in float32 and in float64 differ by {own:.1e}: random numbers, or large rounding"
        return [Check(f"{what}: {key}", INCONCLUSIVE, detail=reason) for key in recorded]
    checks = []
    for key, name in paired_keys(exact, recorded).items():
        if not name:
            known = ", ".join(list(exact)[:MAX_NAMES]) or "nothing"
            more = f" and {len(exact) - MAX_NAMES} more" if len(exact) > MAX_NAMES else ""
            checks.append(
                Check(f"{what}: {key}", FAIL, detail=f"recorded, and the port has no {key}; it has {known}{more}")
            )
            continue
        allowed = tolerance or _allowed(recorded[key], rounding * own)
        difference = array_difference(exact[name], recorded[key])
        if not difference.note and (accepts_constants or recorded[key].size == 1):
            difference = difference._replace(inconclusive="")
        detail = "" if name == key else f"{name} of the port, paired in order"
        checks.append(within(f"{what}: {key}", difference, allowed, detail=detail))
    if not recorded:
        checks.append(Check(what, FAIL, detail="the recording has no array"))
    return checks


def own_roundings(single: Arrays, exact: Arrays) -> list[float]:
    """The relative distances of the port in float32 from the port in float64, of each array of numbers."""
    found = [compare(single[key], exact[key]).relative for key in exact if exact[key].dtype.kind == "f"]
    return [value for value in found if np.isfinite(value)]


def _allowed(array: np.ndarray, rounding: float) -> float:
    """Largest relative distance from a recording, by the type that its numbers were computed in."""
    if array.dtype.kind != "f":
        return FLOAT64_TOLERANCE
    unit = np.finfo(np.float32).eps
    if array.dtype.itemsize < 4:  # float16
        unit = np.finfo(array.dtype).eps
    elif not np.array_equal(array, array.astype(np.float32), equal_nan=True):  # 0.1 as a number of Python is float64
        return FLOAT64_TOLERANCE
    scale = float(unit / np.finfo(np.float32).eps)
    return max(rounding * scale, LEAST_ROUNDINGS * float(unit))


def items_of(recorded: Mapping[str, np.ndarray]) -> dict[str, tuple[int, str]]:
    """{recorded key: (number of the item, path in it)} of keys such as `dataset_3`, `3`, `3.label` or `batch_0.0`.

    The path of a key without one is empty: the first array of the item. Other keys are left out.
    """
    found = {}
    for key in recorded:
        head, _, path = key.partition(".")
        digits = head[len(head.rstrip("0123456789")) :]
        if digits:
            found[key] = (int(digits), path)
    return found
