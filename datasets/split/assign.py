"""Divide the pictures of each class among the parts of a split: by seed, copies on one side, rare classes in train."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.errors import DataError

from ..reading.image_folder import shorten


@dataclass(frozen=True)
class Shares:
    """How a folder is split.

    Attributes:
        seed: seed of the order in which pictures are taken.
        val: share of each class for validation, 0 to 1.
        test: share of each class that is kept for a last test; 0 for none.
    """

    seed: int = 0
    val: float = 0.2
    test: float = 0.0

    def __post_init__(self):
        if not (0 < self.val < 1 and 0 <= self.test < 1 and self.val + self.test < 1):
            raise DataError(f"shares {self.val:g} for val and {self.test:g} for test leave nothing for train")


@dataclass(frozen=True)
class Pictures:
    """Pictures to divide; all sequences have N entries.

    Attributes:
        paths: paths from the root.
        labels: class of each picture.
        groups: number of the set of copies that each picture belongs to.
        names: the classes in the order of the labels.
    """

    paths: Sequence[str]
    labels: np.ndarray
    groups: np.ndarray
    names: Sequence[str]

    def sets_of_copies(self) -> list[np.ndarray]:
        """The sets of copies as arrays of indices; a picture without a copy is a set of its own."""
        order = np.argsort(self.groups, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.groups[order])) + 1)

    def sets_by_class(self, seed: int) -> dict[int, list[np.ndarray]]:
        """The sets of copies of each class as arrays of indices, in an order drawn by the seed; without those of two.

        The draw is a checksum of seed and path, so that a picture more does not change the order of the others.
        """
        sets = [one for one in self.sets_of_copies() if not self.is_of_two_classes(one)]
        sets.sort(key=lambda one: hashlib.sha256(f"{seed} {self.paths[one[0]]}".encode(errors="replace")).digest())
        by_class: dict[int, list[np.ndarray]] = {label: [] for label in range(len(self.names))}
        for one in sets:
            by_class[int(self.labels[one[0]])].append(one)
        return by_class

    def copies_in_two_classes(self) -> list[np.ndarray]:
        """The sets of copies that lie in two classes or more, as arrays of indices."""
        return [one for one in self.sets_of_copies() if self.is_of_two_classes(one)]

    def is_of_two_classes(self, one: np.ndarray) -> bool:
        """Whether the pictures of a set have more than one label."""
        return bool((self.labels[one] != self.labels[one[0]]).any())


def divide(pictures: Pictures, shares: Shares) -> tuple[dict[str, np.ndarray], list[str]]:
    """Divide pictures into train, val and, if asked for, test.

    A class with two pictures or more that are no copies of each other has at least one in train and one in val. A set
    of copies is never divided, and one that lies in two classes is in train, since its label may be wrong.

    Returns:
        Sorted indices of each part, and sentences on classes that have no picture in one of them.
    """
    parts = {name: [] for name in ("train", "val", *(("test",) if shares.test else ()))}
    absent = {name: [] for name in parts}
    shared = pictures.copies_in_two_classes()
    in_train = {int(label) for one in shared for label in pictures.labels[one]}
    counts = np.bincount(pictures.labels, minlength=len(pictures.names))
    for label, sets in pictures.sets_by_class(shares.seed).items():
        left = list(sets)
        for name, share in (("val", shares.val), ("test", shares.test)):
            if name not in parts:
                continue
            taken = _take(left, max(1, round(share * int(counts[label]))), must_leave=label not in in_train)
            parts[name] += taken
            if not taken:
                absent[name].append(f"{pictures.names[label]} ({counts[label]})")
        parts["train"] += left
    parts["train"] += shared
    remarks = [
        f"no picture of class {shorten(names)} is in {name}: {_what_follows(name)}; the number of pictures of the "
        "class is in brackets, copies are kept together"
        for name, names in absent.items()
        if names
    ]
    return {name: _joined(sets) for name, sets in parts.items()}, remarks


def _what_follows(part: str) -> str:
    return "its accuracy cannot be measured" if part == "val" else "it cannot be tested"


def _take(sets: list[np.ndarray], wanted: int, *, must_leave: bool) -> list[np.ndarray]:
    """Take sets with `wanted` pictures or fewer out of `sets`, at least one set; one set stays if `must_leave`."""
    taken, number = [], 0
    for one in list(sets):
        if len(sets) <= must_leave or number >= wanted:
            break
        if number + len(one) <= wanted:
            taken.append(one)
            number += len(one)
            sets[:] = [other for other in sets if other is not one]
    if not taken and len(sets) > must_leave:  # all sets are larger than the share
        taken = [min(sets, key=len)]
        sets[:] = [other for other in sets if other is not taken[0]]
    return taken


def divide_into_folds(pictures: Pictures, indices: np.ndarray, num_folds: int, seed: int) -> list[np.ndarray]:
    """Divide some of the pictures into parts of nearly the same number of pictures of each class.

    Args:
        pictures: all pictures.
        indices: those to divide; sets of copies are whole in it.
        num_folds: number of parts.
        seed: seed of the order.

    Returns:
        Sorted indices of each part; every index is in one of them.
    """
    wanted = set(indices.tolist())
    sizes = np.zeros((num_folds, len(pictures.names)), int)
    folds: list[list[np.ndarray]] = [[] for _ in range(num_folds)]
    sets = [one for of_class in pictures.sets_by_class(seed).values() for one in of_class]
    for one in [*pictures.copies_in_two_classes(), *sorted(sets, key=len, reverse=True)]:
        if one[0] not in wanted:
            continue
        label = pictures.labels[one[0]]
        at = min(range(num_folds), key=lambda fold: (sizes[fold, label], sizes[fold].sum()))
        folds[at].append(one)
        np.add.at(sizes[at], pictures.labels[one], 1)
    return [_joined(fold) for fold in folds]


def _joined(sets: Sequence[np.ndarray]) -> np.ndarray:
    return np.sort(np.concatenate([np.zeros(0, np.int64), *sets]))
