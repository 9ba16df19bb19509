"""Compare two arrays by one relative error; shapes must be equal, nothing is broadcast or transposed."""

from collections.abc import Iterable
from itertools import permutations
from typing import NamedTuple

import numpy as np

from .exchange import as_floats, sketch

CONSTANT = 1e-12  # an array whose values differ by less than this share of the largest is constant
# A gradient that is zero but for rounding (of a bias before a batch norm) is judged by this share of the largest one.
LEAST_SHARE = 1e-6
MAX_AXES = 5  # of an array whose axes are tried in every order


class Difference(NamedTuple):
    """Result of a comparison of an array of the port with the array that is expected of it, the reference's.

    Attributes:
        relative: largest |actual - expected|, divided by the largest |expected|; infinite if the two arrays cannot be
            compared.
        max_abs: largest |actual - expected|.
        scale: largest |expected|.
        note: why the arrays cannot be compared.
        inconclusive: why equality would prove nothing, or an empty text.
    """

    relative: float
    max_abs: float = 0.0
    scale: float = 0.0
    note: str = ""
    inconclusive: str = ""


def least_scale(gradients: Iterable[np.ndarray]) -> float:
    """The smallest number by which the error of one of these gradients is divided."""
    return LEAST_SHARE * max((float(np.abs(array).max()) for array in gradients if array.size), default=0.0)


def compare(actual: np.ndarray, expected: np.ndarray, *, least_scale: float = 0.0, absolute: float = 0.0) -> Difference:
    """Compare an array of the port with that of the reference.

    Args:
        actual: array of the port.
        expected: array of the reference, of the same shape.
        least_scale: smallest number to divide by, for arrays that are zero but for rounding.
        absolute: error that is subtracted before the division.
    """
    if actual.shape != expected.shape:
        return Difference(np.inf, note=f"shape {list(actual.shape)} against {list(expected.shape)}")
    if actual.size == 0:
        return Difference(0.0, inconclusive="empty")
    if unusable := not_finite(actual, expected):
        return unusable
    if "c" in (actual.dtype.kind, expected.dtype.kind):
        actual, expected = actual.astype(np.complex128), expected.astype(np.complex128)
    actual, expected = as_floats(actual), as_floats(expected)
    max_abs, scale = float(np.abs(actual - expected).max()), float(np.abs(expected).max())
    relative = _ratio(max(max_abs - absolute, 0.0), max(scale, least_scale))
    is_constant = expected.size > 1 and float(np.ptp(expected)) <= CONSTANT * scale
    return Difference(relative, max_abs, scale, inconclusive="constant" if is_constant else "")


def compare_axes(actual: np.ndarray, expected: np.ndarray, *, absolute: float = 0.0) -> Difference | None:
    """Compare arrays whose axes may be in another order: the smallest difference of all orders with the right shape.

    None if the arrays have as many elements and no order of the axes gives the shape.

    Args:
        actual: array of the port.
        expected: array of the reference.
        absolute: as in `compare`.
    """
    orders = [
        axes
        for axes in permutations(range(actual.ndim) if actual.ndim <= MAX_AXES else ())
        if tuple(actual.shape[axis] for axis in axes) == expected.shape
    ]
    if orders:
        found = [compare(actual.transpose(axes), expected, absolute=absolute) for axes in orders]
        return min(found, key=lambda difference: difference.relative)
    return None if actual.size == expected.size else compare(actual, expected)


def without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its axes of length 1."""
    return tuple(length for length in shape if length != 1)


def compare_packed(
    actual: np.ndarray, expected: np.ndarray, *, least_scale: float = 0.0, absolute: float = 0.0
) -> Difference:
    """Compare as `compare` does, where the reference may have sent a sketch of a big array.

    Args:
        actual: whole array of the port.
        expected: array of the reference, or a sketch of it.
        least_scale: as in `compare`.
        absolute: as in `compare`.
    """
    if actual.shape != expected.shape:
        actual = sketch(actual)
    return compare(actual, expected, least_scale=least_scale, absolute=absolute)


def compare_sketches(actual: np.ndarray, expected: np.ndarray, *, least_scale: float = 0.0) -> Difference:
    """Compare two sketches by the norm of their difference, divided by the norm of `expected`.

    A sketch estimates the norm of the whole array without bias, but not its largest element.
    """
    if actual.shape != expected.shape:
        return Difference(np.inf, note=f"sketch {list(actual.shape)} against {list(expected.shape)}")
    if unusable := not_finite(actual, expected):
        return unusable
    distance, scale = float(np.linalg.norm(actual - expected)), float(np.linalg.norm(expected))
    return Difference(_ratio(distance, max(scale, least_scale)), distance, scale)


def distance_of(actual: np.ndarray, exact: np.ndarray) -> float:
    """Norm of the difference of two arrays; one of the two may be a sketch. Infinite if a number is not finite."""
    a, b = np.ravel(as_floats(actual)), np.ravel(as_floats(exact))
    if a.size != b.size:
        a, b = sketch(a), sketch(b)
    if a.size != b.size:
        return np.inf
    distance = float(np.linalg.norm(a - b))
    return distance if np.isfinite(distance) else np.inf


def not_finite(actual: np.ndarray, expected: np.ndarray) -> Difference | None:
    """The result for arrays with NaN or infinity: different if on one side, inconclusive if on both. None if finite."""
    is_actual_finite, is_expected_finite = np.isfinite(actual).all(), np.isfinite(expected).all()
    if is_actual_finite and is_expected_finite:
        return None
    if is_actual_finite or is_expected_finite:
        side = "reference" if is_actual_finite else "port"
        return Difference(np.inf, note=f"NaN or infinity in the {side}")
    return Difference(np.inf, note="NaN or infinity on both sides", inconclusive="not finite")


def is_degenerate(array: np.ndarray) -> bool:
    """Whether equality with this array proves nothing: it is constant, or has NaN or infinity."""
    numbers = as_floats(array)
    is_constant = array.size > 1 and np.ptp(numbers) <= CONSTANT * max(np.abs(numbers).max(), 1e-300)
    return bool(is_constant or not np.isfinite(array).all())


def _ratio(distance: float, scale: float) -> float:
    """0 for equal arrays, infinite for any difference from an array of zeros."""
    if distance == 0:
        return 0.0
    return distance / scale if scale else np.inf
