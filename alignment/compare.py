"""How far two tensors are apart, in one number that means the same for every layer; nothing is broadcast or turned."""

from typing import NamedTuple

import numpy as np

from .exchange import sketch


class Difference(NamedTuple):
    """`relative` is the largest |ours - theirs| over the largest |theirs|; inf where the two cannot be compared."""

    relative: float
    max_abs: float = 0.0
    scale: float = 0.0
    where: tuple[int, ...] = ()
    note: str = ""
    proves_nothing: str = ""  # why equality would be no evidence


def compare(ours: np.ndarray, theirs: np.ndarray, *, least_scale: float = 0.0, absolute: float = 0.0) -> Difference:
    """`least_scale` keeps tensors that are zero but for rounding from being judged by it; `absolute` is forgiven."""
    if ours.shape != theirs.shape:
        return Difference(np.inf, note=f"shape {list(ours.shape)} against {list(theirs.shape)}")
    if ours.size == 0:
        return Difference(0.0, proves_nothing="empty")
    if unusable := not_finite(ours, theirs):
        return unusable
    ours, theirs = ours.astype(np.float64, copy=False), theirs.astype(np.float64, copy=False)
    apart = np.abs(ours - theirs)
    place = np.unravel_index(int(apart.argmax()), apart.shape)
    max_abs, scale = float(apart[place]), float(np.abs(theirs).max())
    relative = _ratio(max(max_abs - absolute, 0.0), max(scale, least_scale))
    constant = "constant" if theirs.size > 1 and float(np.ptp(theirs)) <= 1e-12 * scale else ""
    return Difference(relative, max_abs, scale, tuple(map(int, place)), proves_nothing=constant)


def compare_packed(
    ours: np.ndarray, theirs: np.ndarray, *, least_scale: float = 0.0, absolute: float = 0.0
) -> Difference:
    """As `compare`, where the reference may have sent a sketch of a big tensor."""
    return compare(
        ours if ours.shape == theirs.shape else sketch(ours), theirs, least_scale=least_scale, absolute=absolute
    )


def compare_sketches(ours: np.ndarray, theirs: np.ndarray, *, least_scale: float = 0.0) -> Difference:
    """Root mean square of the difference over that of the reference: what a sketch estimates without bias."""
    if ours.shape != theirs.shape:
        return Difference(np.inf, note=f"sketch {list(ours.shape)} against {list(theirs.shape)}")
    if unusable := not_finite(ours, theirs):
        return unusable
    apart, scale = float(np.linalg.norm(ours - theirs)), float(np.linalg.norm(theirs))
    return Difference(_ratio(apart, max(scale, least_scale)), apart, scale)


def not_finite(ours: np.ndarray, theirs: np.ndarray) -> Difference | None:
    """What NaN and infinity come to: on one side a difference, on both sides nothing that could be judged."""
    ours_finite, theirs_finite = np.isfinite(ours).all(), np.isfinite(theirs).all()
    if ours_finite and theirs_finite:
        return None
    if ours_finite or theirs_finite:
        return Difference(np.inf, note="NaN or infinity " + ("in the reference" if ours_finite else "in the port"))
    return Difference(np.inf, note="NaN or infinity on both sides", proves_nothing="not finite")


def _ratio(apart: float, scale: float) -> float:
    """0 for equal tensors, inf for any difference from a reference that is all zeros."""
    if apart == 0:
        return 0.0
    return apart / scale if scale else np.inf
