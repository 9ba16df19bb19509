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
    ours_finite, theirs_finite = np.isfinite(ours).all(), np.isfinite(theirs).all()
    if not (ours_finite and theirs_finite):
        if ours_finite or theirs_finite:
            return Difference(np.inf, note="NaN or infinity " + ("in the reference" if ours_finite else "in the port"))
        return Difference(np.inf, note="NaN or infinity on both sides", proves_nothing="not finite")
    apart = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    place = np.unravel_index(int(apart.argmax()), apart.shape)
    max_abs, scale = float(apart[place]), float(np.abs(theirs).max())
    relative = (max_abs - absolute) / max(scale, least_scale) if max_abs > absolute else 0.0
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
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return Difference(np.inf, note="NaN or infinity", proves_nothing="not finite")
    apart, scale = float(np.linalg.norm(ours - theirs)), float(np.linalg.norm(theirs))
    return Difference(apart / max(scale, least_scale) if apart else 0.0, apart, scale)
