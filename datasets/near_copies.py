"""Find near-copies: pictures that differ by compression, size or a little light, by thumbnails that correlate."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

SIDE = 8
THUMBNAIL_BYTES = SIDE * SIDE * 3

# Pearson correlation of two thumbnails from which on they are those of one picture. Among the 310 pictures of
# `python -m demo.textures` two that are no copies reach 0.990, and no copy of half the size falls below 0.995, none of
# JPEG quality 50 below 0.997; two of scikit-learn's 1,797 digits reach 0.991.
MIN_CORRELATION = 0.994
MIN_CONTRAST = 3.0  # standard deviation of a thumbnail, of 255; below it noise decides the correlation
MAX_LOG_ASPECT_RATIO = 0.1  # difference of log(width / height) of two copies
LEAF = 1024  # thumbnails that are compared each with each


def thumbnail_of(image: Image.Image) -> np.ndarray:
    """The thumbnail of an RGB image: the means of SIDE x SIDE boxes.

    Returns:
        [THUMBNAIL_BYTES] uint8.
    """
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), np.uint8).reshape(-1)


def find_near_copies(thumbnails: np.ndarray, aspects: np.ndarray) -> np.ndarray:
    """Find pairs that join all near-copies: thumbnails that correlate by MIN_CORRELATION, sides in proportion.

    The search is exact: normalised thumbnails that correlate so well are near each other along every direction, so the
    set is halved with an overlap until few are left to be compared each with each.

    Args:
        thumbnails: [N, THUMBNAIL_BYTES] uint8.
        aspects: width / height [N] of the images; 0 leaves an image out.

    Returns:
        Pairs of indices [M, 2] int64: in each set of near-copies, of copies of copies too, every image with the first.
    """
    vectors = thumbnails.astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(vectors, axis=1)
    usable = np.flatnonzero((norms >= MIN_CONTRAST * THUMBNAIL_BYTES**0.5) & (aspects > 0))
    if len(usable) < 2:
        return np.zeros((0, 2), np.int64)
    vectors = vectors[usable] / norms[usable, None]
    log_aspects = np.log(aspects[usable])
    sample = vectors[:: max(1, len(vectors) // 10_000)]
    directions = np.linalg.eigh(sample.T @ sample)[1][:, ::-1][:, :48]  # those of the largest spread
    distance = (2 - 2 * MIN_CORRELATION) ** 0.5
    parts = _neighbours(vectors @ directions, distance)
    pairs = np.concatenate([_pairs_in(part, vectors[part], log_aspects[part]) for part in parts])
    groups = group_copies(len(usable), pairs)
    others = np.flatnonzero(groups != np.arange(len(usable)))
    return np.stack([usable[groups[others]], usable[others]], axis=1)


def _neighbours(projected: np.ndarray, distance: float) -> Iterator[np.ndarray]:
    """Yield sets of indices such that any two points within `distance` are together in one of them."""
    waiting = [np.arange(len(projected))]
    while waiting:
        part = waiting.pop()
        if len(part) > LEAF:
            at = projected[part]
            axis = at.std(axis=0).argmax()
            middle = np.median(at[:, axis])
            low, high = part[at[:, axis] <= middle + distance], part[at[:, axis] >= middle]
            if max(len(low), len(high)) < 0.9 * len(part):
                waiting += [low, high]
                continue
        yield part


def _pairs_in(part: np.ndarray, vectors: np.ndarray, log_aspects: np.ndarray) -> np.ndarray:
    """Compare all vectors of a set, a block of rows at a time; the pairs [M, 2] join what belongs together.

    Frames of one film can all be near each other: not every pair is kept, but for every image one with its group.
    """
    group = np.arange(len(part))
    for start in range(0, len(part), LEAF):
        is_near = vectors[start : start + LEAF] @ vectors.T >= MIN_CORRELATION
        for row in np.flatnonzero(is_near.sum(axis=1) > 1):
            near = np.flatnonzero(is_near[row])
            near = near[np.abs(log_aspects[near] - log_aspects[start + row]) <= MAX_LOG_ASPECT_RATIO]
            joined = np.unique(group[near])
            if len(joined) > 1:
                group[np.isin(group, joined)] = joined[0]
    others = np.flatnonzero(group != np.arange(len(part)))
    return np.stack([part[group[others]], part[others]], axis=1)


def group_copies(number: int, pairs: np.ndarray) -> np.ndarray:
    """Join pairs to groups: copies of copies belong together.

    Args:
        number: number of images, N.
        pairs: pairs of indices [M, 2].

    Returns:
        The smallest index of its group for every image [N].
    """
    parent = np.arange(number)

    def root_of(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first, second in np.asarray(pairs).tolist():
        low, high = sorted((root_of(first), root_of(second)))
        parent[high] = low
    return np.array([root_of(index) for index in range(number)], np.int64).reshape(number)
