"""Dividing pictures: shares of each class, copies on one side, rare classes, order by seed, folds."""

import numpy as np
import pytest

from common.errors import DataError
from datasets.split.assign import Pictures, Shares, divide, divide_into_folds


def pictures_of(counts: dict[str, int], groups: dict[int, int] | None = None) -> Pictures:
    """Pictures of classes of the given sizes; `groups` gives pictures the number of a set of copies."""
    paths = [f"{name}/{i}.jpg" for name, count in counts.items() for i in range(count)]
    labels = [label for label, count in enumerate(counts.values()) for _ in range(count)]
    numbers = np.arange(len(paths))
    for index, group in (groups or {}).items():
        numbers[index] = group
    return Pictures(paths, np.array(labels), numbers, list(counts))


def counts_in(pictures: Pictures, indices) -> list[int]:
    return np.bincount(pictures.labels[indices], minlength=len(pictures.names)).tolist()


def test_every_class_has_its_share_and_every_picture_one_side():
    pictures = pictures_of({"a": 100, "b": 10, "c": 7})
    parts, remarks = divide(pictures, Shares(val=0.2, test=0.1))
    assert counts_in(pictures, parts["val"]) == [20, 2, 1]
    assert counts_in(pictures, parts["test"]) == [10, 1, 1]
    assert sorted(np.concatenate(list(parts.values()))) == list(range(117))
    assert remarks == []


def test_rare_classes_have_a_picture_in_train_and_the_rest_is_said():
    pictures = pictures_of({"one": 1, "two": 2, "three": 3, "four": 4})
    parts, remarks = divide(pictures, Shares())
    assert counts_in(pictures, parts["train"]) == [1, 1, 2, 3]
    assert counts_in(pictures, parts["val"]) == [0, 1, 1, 1]
    assert remarks == [
        "no picture of class one (1) is in val: its accuracy cannot be measured; the number of pictures of the class "
        "is in brackets, copies are kept together"
    ]
    _, remarks = divide(pictures, Shares(test=0.1))
    assert "class one (1), two (2) is in test: it cannot be tested" in remarks[1]


@pytest.mark.parametrize("seed", range(5))
def test_copies_are_on_one_side(seed):
    pictures = pictures_of({"a": 30, "b": 30}, {3: 2, 4: 2, 17: 16, 40: 35})
    parts, _ = divide(pictures, Shares(seed, val=0.4))
    for copies in ([2, 3, 4], [16, 17], [35, 40]):
        assert sum(bool(set(copies) & set(part.tolist())) for part in parts.values()) == 1
    assert counts_in(pictures, parts["val"]) == [12, 12]


def test_copies_in_two_classes_are_in_train_and_a_class_of_copies_alone_too():
    pictures = pictures_of({"a": 10, "b": 10, "c": 3, "d": 2}, {15: 5, 21: 20, 22: 20, 24: 6})
    for seed in range(10):
        parts, remarks = divide(pictures, Shares(seed, val=0.5))
        assert {5, 15, 20, 21, 22, 6, 24} <= set(parts["train"].tolist())
        assert 23 in parts["val"]  # the only other picture of d, which is in train by its copy
        assert "class c (3) is in val" in remarks[0]


def test_a_class_of_few_large_sets_still_has_one_in_val():
    pictures = pictures_of({"a": 20, "b": 20}, dict.fromkeys(range(12), 0) | dict.fromkeys(range(12, 20), 12))
    parts, _ = divide(pictures, Shares())
    assert counts_in(pictures, parts["val"]) == [8, 4]


def test_the_seed_and_nothing_else_changes_the_split_and_a_new_picture_moves_few():
    pictures = pictures_of({"a": 200, "b": 50})
    first, again, other = (divide(pictures, Shares(seed))[0]["val"].tolist() for seed in (0, 0, 1))
    assert first == again != other
    more = pictures_of({"a": 201, "b": 50})
    paths = {pictures.paths[i] for i in first} ^ {more.paths[i] for i in divide(more, Shares())[0]["val"]}
    assert len(paths) <= 3


@pytest.mark.parametrize("shares", [{"val": 0}, {"val": 1}, {"val": 0.6, "test": 0.4}, {"test": 1}])
def test_shares_that_leave_nothing_are_refused(shares):
    with pytest.raises(DataError, match="leave nothing for train"):
        Shares(**shares)


def test_folds_hold_every_picture_once_with_copies_together():
    pictures = pictures_of({"a": 50, "b": 23, "c": 2}, {1: 0, 2: 0, 60: 3})
    indices = np.array([i for i in range(75) if i not in (10, 11)])
    folds = divide_into_folds(pictures, indices, 5, seed=0)
    assert sorted(np.concatenate(folds)) == indices.tolist()
    for copies in ({0, 1, 2}, {3, 60}):
        assert sum(bool(copies & set(fold.tolist())) for fold in folds) == 1
    sizes = np.array([counts_in(pictures, fold) for fold in folds])
    assert (np.ptp(sizes, axis=0) <= [3, 1, 1]).all()
