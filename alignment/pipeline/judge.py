"""Compare what the two sides' functions returned, array by array, and name the first that differs."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from ..case import Case
from ..compare import Difference, compare, without_ones
from ..layers.hints import value_hints
from ..layers.source import definition_line
from ..rules import Arrays
from ..verdict import FAIL, INCONCLUSIVE, Check, within

NUMBERS = "fiub"  # kinds of numpy types


def nested_check(
    name: str, actual: Arrays, expected: Arrays, tolerance: float, *, changing: Iterable[str] = (), detail: str = ""
) -> Check:
    """Check that the two sides have the same arrays: whole numbers and texts exactly, the others within the tolerance.

    Shapes that differ in axes of length 1 alone, [1] and [] for example, are compared.

    Args:
        name: of the check.
        actual: {path: array} of the port.
        expected: {path: array} of the reference.
        tolerance: largest relative error that passes.
        changing: paths whose values depend on a seed; a difference in them is inconclusive.
        detail: what was compared, for a check that passes.
    """
    pairs, remark = paired_names(actual, expected)
    if not pairs:
        return Check(name, FAIL, detail=remark)
    worst, changing = Difference(0.0), set(changing)
    for own, other in pairs.items():
        difference = array_difference(actual[own], expected[other])
        if difference.relative > tolerance:
            where = own if own == other else f"{own}, in the reference {other}"
            num_wrong = sum(array_difference(actual[a], expected[b]).relative > tolerance for a, b in pairs.items())
            found = f"{num_wrong} of {len(pairs)} differ, the first: {where}; {difference.note}".rstrip("; ")
            if own in changing and not difference.note:
                reason = "random: another seed gives other values, and the two frameworks draw differently; draw with "
                reason += "numpy or random, which have the same seeds on both sides, or leave the augmentation out"
                return Check(name, INCONCLUSIVE, difference.relative, tolerance, f"{found} is {reason}")
            return Check(name, FAIL, difference.relative, tolerance, found, hints=_hints(actual[own], expected[other]))
        worst = max(worst, difference, key=lambda one: one.relative)
    return within(name, worst._replace(inconclusive=""), tolerance, detail="; ".join(filter(None, [detail, remark])))


def with_functions(case: Case, key: str, checks: Iterable[Check]) -> list[Check]:
    """The checks of the user's function under a key of the case, the first that fails with its line on both sides."""
    checks = list(checks)
    first = next((index for index, check in enumerate(checks) if check.status == FAIL), None)
    if first is not None:
        lines = function_lines(case, key)
        checks[first] = replace(checks[first], source=checks[first].source or lines)
    return checks


def function_lines(case: Case, key: str) -> list[str]:
    """The first lines of the user's function under a key of the case, as far as it is in a file."""
    sides = [side for side in ("port", "reference") if getattr(getattr(case, key), side)]
    lines = [(side, definition_line(case.function_spec(key, side)["callable"])) for side in sides]
    return [f"{side:<9} {line}" for side, line in lines if line]


def paired_names(actual: Mapping, expected: Mapping) -> tuple[dict[str, str], str]:
    """({name in the port: in the reference}, remark); names that differ are paired in order if there are as many.

    The names are empty if no pairing is possible; the remark then says why.
    """
    if actual.keys() == expected.keys():
        return {name: name for name in actual}, ""
    if len(actual) != len(expected):
        only_port = [name for name in actual if name not in expected]
        only_reference = [name for name in expected if name not in actual]
        return {}, (
            f"{len(actual)} arrays in the port, {len(expected)} in the reference; in the port alone: "
            f"{', '.join(only_port[:4]) or 'none'}; in the reference alone: {', '.join(only_reference[:4]) or 'none'}"
        )
    pairs = dict(zip(actual, expected, strict=True))
    own, other = next((a, b) for a, b in pairs.items() if a != b)
    return pairs, f"the names differ and are paired in order: {own} with {other}"


def array_difference(actual: np.ndarray, expected: np.ndarray) -> Difference:
    """The difference of two arrays; infinite, with a note, if they cannot be compared or whole numbers differ."""
    kinds = {actual.dtype.kind, expected.dtype.kind}
    if without_ones(actual.shape) != without_ones(expected.shape):
        return Difference(np.inf, note=f"shape {list(actual.shape)}, in the reference {list(expected.shape)}")
    actual = actual.reshape(expected.shape)
    if not kinds <= set(NUMBERS):
        is_equal = np.array_equal(actual.astype(str), expected.astype(str))
        return Difference(0.0) if is_equal else Difference(np.inf, note=_first_values(actual, expected))
    if "f" not in kinds:
        return Difference(0.0) if np.array_equal(actual, expected) else Difference(
            np.inf, note=_first_values(actual, expected)
        )  # fmt: skip
    return compare(actual, expected)


def _first_values(actual: np.ndarray, expected: np.ndarray) -> str:
    index = int(np.argmax(actual.ravel() != expected.ravel()))
    return f"{actual.ravel()[index]}, in the reference {expected.ravel()[index]}"


def _hints(actual: np.ndarray, expected: np.ndarray) -> list[str]:
    """What the difference looks like; a picture [C, H, W] is looked at as a batch of one."""
    if {actual.dtype.kind, expected.dtype.kind} != {"f"} or actual.shape != expected.shape:
        return []
    if actual.size == 1:
        return [f"{actual.item() / expected.item():.6g} times the reference's"] if expected.item() else []
    if actual.ndim == 3:
        actual, expected = actual[None], expected[None]
        if actual.shape[1] == 3:
            return _channel_hints(actual, expected) or value_hints(actual, expected)
    return value_hints(actual, expected)


def _channel_hints(actual: np.ndarray, expected: np.ndarray) -> list[str]:
    """Hints for pictures [N, 3, H, W] whose channels are each scaled or shifted, as a wrong mean or std does."""
    hints = []
    for channel in range(3):
        one, other = actual[:, channel].ravel().astype(float), expected[:, channel].ravel().astype(float)
        if np.ptp(other) == 0:
            return []
        slope, shift = np.polyfit(other, one, 1)
        if np.abs(slope * other + shift - one).max() > 1e-4:
            return []
        if abs(slope - 1) > 1e-4 or abs(shift) > 1e-4:
            hints.append(f"channel {channel} is {slope:.4g} times the reference's plus {shift:.4g}: mean or std?")
    return hints
