"""The classes of a training: number and names come from the data, and two sources are compared by name."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from common.errors import DataError

from .class_names import IMAGENET_LABEL_LIST, imagenet_labels, read_class_names
from .reading.image_folder import is_utf8, shorten

SYNSET = re.compile(r"n\d{8}")  # name of a class folder of ImageNet
NUM_IMAGENET = 1000
MAX_SHOWN = 5
FOLDERS = "the folders"


@dataclass(frozen=True)
class Classes:
    """Classes of a training or of a file of weights.

    Attributes:
        number: number of outputs of the model.
        names: what predictions are called, in the order of the labels; None if nothing names them.
        folders: names of the class folders in the order of the labels; None if labels come from a list.
        source: one sentence for the log: where number and names come from.
        remark: what a reader of predictions must know of the names: that there are none, or that they are a guess.
    """

    number: int
    names: tuple[str, ...] | None = None
    folders: tuple[str, ...] | None = None
    source: str = ""
    remark: str = ""


class LabelRange(NamedTuple):
    """The largest label of a data set, and what names the first image that has it."""

    largest: int
    place: str


def choose_classes(images, *, given: int | None = None, label_list: str = "") -> Classes:
    """Derive number and names of the classes from the training images.

    With class folders (or shards made of them) their number. With a list: the label list, else the 1000 of ImageNet if
    all images lie in ImageNet's synset folders (`n01440764/...`) and have its labels, else the largest label + 1.

    Args:
        images: the training images: ImageList or ShardedImages.
        given: value of --nb_classes; None if it is not given.
        label_list: file of class names; "" if it is not given.

    Raises:
        DataError: --nb_classes, the label list and the data do not agree.
    """
    if images.class_names is not None:
        return _classes_of_folders(images, given, label_list)
    return _classes_of_list(images, given, label_list)


def _classes_of_folders(images, given: int | None, label_list: str) -> Classes:
    folders = tuple(images.class_names)
    if given is not None and given != len(folders):
        raise DataError(
            f"{images.root}: {len(folders)} class folders ({shorten(folders)}), but --nb_classes is {given}; "
            f"leave --nb_classes out, or set --nb_classes {len(folders)}"
        )
    source = f"{len(folders)} classes, the class folders of {images.root}"
    if label_list:
        names = tuple(read_class_names(label_list, len(folders)))
        return Classes(len(folders), names, folders, source + compare_names(names, folders, label_list))
    if is_imagenet(folders):
        names = tuple(read_class_names(IMAGENET_LABEL_LIST))
        return Classes(len(folders), names, folders, source + "; the names are ImageNet's")
    return Classes(len(folders), folders, folders, source)


def compare_names(names: Sequence[str], folders: Sequence[str], label_list: str, place: str = FOLDERS) -> str:
    """Compare a label list with the names of the class folders, or with those that a checkpoint keeps.

    A folder whose name is not UTF-8 cannot be compared with text: the list names this class.

    Args:
        names: names of the list in the order of the labels.
        folders: names that the classes have elsewhere; may be empty.
        label_list: file of the list, for messages.
        place: where `folders` are from, for messages.

    Returns:
        What to log of the comparison.

    Raises:
        DataError: the list names the folders in another order, or other classes.
    """
    if not folders:
        return ""
    pairs = [(name, folder if is_utf8(folder) else name) for name, folder in zip(names, folders, strict=True)]
    if all(_normal(name) == _normal(folder) for name, folder in pairs):
        is_whole = all(map(is_utf8, folders))
        return f"; {label_list} names them" + (" alike" if is_whole else ", and names not in UTF-8 are not compared")
    is_code = all(SYNSET.fullmatch(folder) for folder in folders)
    width = len(str(len(folders) - 1))  # datasets.idx writes 00, 01, ..., so that their order is that of the numbers
    is_number = list(folders) in ([f"{n:0{w}d}" for n in range(len(folders))] for w in (1, width))
    if (is_code or is_number) and not {*map(_normal, names)} & {*map(_normal, folders)}:
        return f"; {label_list} gives names to these codes, which cannot be compared with them"
    lines = [
        f"  {label} {name} in the list, {folder} in {place}"
        for label, (name, folder) in enumerate(pairs)
        if _normal(name) != _normal(folder)
    ]
    kind = "the classes in another order" if sorted(names) == sorted(folders) else "other classes"
    more = f"\n  and {len(lines) - MAX_SHOWN} more" if lines[MAX_SHOWN:] else ""
    known = "the class folders, whose sorted names are the labels" if place == FOLDERS else place
    raise DataError(
        f"{label_list} names {kind} than {known}:\n"
        + "\n".join(lines[:MAX_SHOWN])
        + f"{more}\nleave out --label_list, or write the names in the order of {place}"
    )


def _classes_of_list(images, given: int | None, label_list: str) -> Classes:
    largest, place = label_range(images)
    labels = labels_by_folder(images)
    if label_list:
        names = tuple(read_class_names(label_list, given))
        if largest >= len(names):
            raise DataError(
                f"{place}: label {largest}, but {label_list} names {len(names)} classes, 0 to {len(names) - 1}"
            )
        _check_names_of_labels(names, labels, label_list, images.root)
        return Classes(
            len(names), names, None, f"{len(names)} classes, as {label_list} names" + _unused(images, len(names))
        )
    if given is not None:
        if largest >= given:
            raise DataError(
                f"{place}: label {largest}, but --nb_classes is {given}; set --nb_classes {largest + 1} or more"
            )
        return Classes(
            given,
            _names_of_list(images, labels, given),
            None,
            f"{given} classes, as --nb_classes says" + _unused(images, given),
        )
    if names := _names_of_list(images, labels, NUM_IMAGENET):
        reason = "the paths of the list are synset folders of ImageNet, with its labels"
        return Classes(NUM_IMAGENET, names, None, f"{NUM_IMAGENET} classes: {reason}" + _unused(images, NUM_IMAGENET))
    source = f"{largest + 1} classes: the largest label of the list is {largest} ({place})"
    names = _names_of_list(images, labels, largest + 1)
    source += "; ImageNet's names by the folders, whose labels are not those of ImageNet" if names else ""
    return Classes(largest + 1, names, None, source + _unused(images, largest + 1))


def _names_of_list(images, labels: Mapping[str, int], number: int) -> tuple[str, ...] | None:
    """ImageNet's names of labels whose images lie in its class folders: all 1000, or a part with labels of its own."""
    folders = {label: folder for folder, label in labels.items()}
    names, known = read_class_names(IMAGENET_LABEL_LIST), imagenet_labels()
    if len(folders) != len(np.unique(images.labels)) or not known.keys() >= {*folders.values()}:
        return None
    if number == NUM_IMAGENET and all(known[folder] == label for label, folder in folders.items()):
        return tuple(names)
    if folders.keys() == {*range(number)}:
        return tuple(names[known[folders[label]]] for label in range(number))
    return None


def _unused(images, number: int) -> str:
    used = np.unique(images.labels)
    if len(used) == number:
        return ""
    first = "; labels begin at 0, and label 0 has none: does the list count from 1?" if used[0] == 1 else ""
    return f"; only {len(used)} of them have training images{first}"


def _check_names_of_labels(names: Sequence[str], labels: Mapping[str, int], label_list: str, root: str) -> None:
    """Raise DataError if a folder of a list is called as another class of the label list."""
    by_name: dict[str, list[int]] = {}  # two classes may have one name: ImageNet has two cranes
    for label, name in enumerate(names):
        by_name.setdefault(_normal(name), []).append(label)
    for folder, label in labels.items():
        if label not in by_name.get(_normal(folder), [label]):
            raise DataError(
                f"{root}: the images of folder {folder} have label {label}, but {label_list} gives {folder} the label "
                f"{by_name[_normal(folder)][0]}; correct one of the two files"
            )


# --- Two data sets --------------------------------------------------------------------------------------------------


def compare_splits(train, val, num_classes: int) -> list[str]:
    """Compare the classes of training and validation images by name.

    Returns:
        Sentences on what cannot be compared; to be logged as warnings.

    Raises:
        DataError: a class has another label in the other split, or is missing there.
    """
    if train.class_names is not None and val.class_names is not None:
        _check_same_folders(train, val)
        return []
    largest, place = label_range(val)
    if largest >= num_classes:
        raise DataError(f"{place}: label {largest}, but the training has {num_classes} classes, 0 to {num_classes - 1}")
    if train.class_names is None and val.class_names is None:
        _check_labels(labels_by_folder(train), labels_by_folder(val), f"the list of {val.root}", "the training list")
        return []
    folders, listed = (train, val) if val.class_names is None else (val, train)
    return _compare_list_with_folders(listed, folders, num_classes)


def _compare_list_with_folders(listed, folders, num_classes: int) -> list[str]:
    by_folder = {name: label for label, name in enumerate(folders.class_names)}
    known = labels_by_folder(listed)
    _check_labels(known, by_folder, f"the class folders of {folders.root}", "the list of the other split")
    if len(by_folder) != num_classes:
        raise DataError(
            f"{folders.root}: {len(by_folder)} class folders ({shorten(folders.class_names)}) for labels 0 to "
            f"{num_classes - 1} of the list of the other split; add the missing folder, or name these images by a "
            "list, too"
        )
    if known.keys() >= by_folder.keys():
        return []
    return [
        f"labels of the list under {listed.root} cannot be compared with the class folders of {folders.root}, because "
        "its paths do not tell the class. The folders are labels 0, 1, 2, ... in the order of their names: "
        f"{shorten(folders.class_names)}"
    ]


def _check_same_folders(train, val) -> None:
    if list(train.class_names) == list(val.class_names):
        return
    for here, there in ((train, val), (val, train)):
        alone = sorted(set(here.class_names) - set(there.class_names))
        if not alone:
            continue
        twin = next((name for name in there.class_names if _normal(name) == _normal(alone[0])), None)
        form = ""
        if twin:
            form = (
                f" (there is {twin!r}, the same text in another Unicode form, {twin!a} and {alone[0]!a}; "
                "rename one of the two folders)"
            )
        raise DataError(
            f"class {shorten(alone)} is in {here.root} but not in {there.root}; labels would not agree{form}"
        )
    _check_labels(
        {name: label for label, name in enumerate(train.class_names)},
        {name: label for label, name in enumerate(val.class_names)},
        val.root,
        train.root,
    )


def _check_labels(labels: Mapping[str, int], others: Mapping[str, int], place: str, other_place: str) -> None:
    for name, label in others.items():
        if labels.get(name, label) != label:
            raise DataError(
                f"class {name} has label {label} in {place}, but {labels[name]} in {other_place}; "
                "name the images of both by list files with the same labels"
            )


# --- Data and weights -----------------------------------------------------------------------------------------------


def compare_with_weights(images, weights: Classes, source: object) -> list[str]:
    """Compare the classes of images with those of a file of weights by name, or at least by their number.

    Args:
        images: the images that are evaluated, or trained on.
        weights: the classes of the weights; `folders` None for weights that were trained from lists, or do not tell.
        source: name of the file, for messages.

    Returns:
        Sentences on what cannot be compared; to be logged as warnings.

    Raises:
        DataError: a class is missing, has another label or another name in the weights.
    """
    names = weights.folders or weights.names
    counts = Counter(names or ())
    known = {name: label for label, name in enumerate(names or ()) if counts[name] == 1}
    folders = tuple(images.class_names or ())
    if folders and (weights.folders is not None or set(folders) & set(known)):
        _check_folders_of_weights(folders, names, images.root, source)
        return []
    largest, place = label_range(images)
    if largest >= weights.number:
        raise DataError(
            f"{place}: label {largest}, but {source} has {weights.number} outputs, 0 to {weights.number - 1}; "
            "these weights belong to other classes"
        )
    if not folders:
        _check_labels(known, labels_by_folder(images), f"the list of {images.root}", source)
        return []
    if len(folders) != weights.number:
        raise DataError(
            f"{images.root}: {len(folders)} class folders ({shorten(folders)}), but {source} has {weights.number} "
            "outputs and does not say their folders; labels would not agree. Name these images by a list file"
        )
    return [
        f"{source} does not say its class folders: labels are the folders of {images.root} in the order of their "
        f"names, {shorten(folders)}"
    ]


def _check_folders_of_weights(folders: Sequence[str], trained: Sequence[str], root: str, source: object) -> None:
    if list(folders) == list(trained):
        return
    missing = [name for name in trained if name not in set(folders)]
    foreign = [name for name in folders if name not in set(trained)]
    if missing and not foreign:
        raise DataError(
            f"{root}: no folder for class {shorten(missing)} of the weights {source}; labels would not agree. "
            "Add the folder with an image, or name the images by a list file"
        )
    if foreign:
        raise DataError(
            f"{root}: the weights {source} do not know class {shorten(foreign)}; they were trained on "
            f"{shorten(trained)}. Leave these folders out, or train for all classes: main.py --finetune {source}"
        )
    _check_labels(
        {name: label for label, name in enumerate(trained)}, {n: i for i, n in enumerate(folders)}, root, source
    )


# --- What data tells ------------------------------------------------------------------------------------------------


def label_range(images) -> LabelRange:
    """The largest label of the images, and the place of the first image that has it."""
    index = int(images.labels.argmax())
    return LabelRange(int(images.labels[index]), images.place(index))


def labels_by_folder(images) -> dict[str, int]:
    """Label of each folder that the images of a list lie in, where one folder has one label and one label one folder.

    A list of a flat folder tells nothing: all its images lie in one folder.
    """
    if not hasattr(images, "folders_and_labels"):  # shards of a list
        return {}
    pairs = images.folders_and_labels()
    num_labels, num_folders = Counter(folder for folder, _ in pairs), Counter(label for _, label in pairs)
    alone = [pair for pair in pairs if pair[0] and num_labels[pair[0]] == num_folders[pair[1]] == 1]
    return dict(sorted(alone, key=lambda pair: pair[1]))  # the first conflict is the same in every run


def is_imagenet(folders: Sequence[str]) -> bool:
    """Whether class folders are the 1000 synsets of ImageNet, whose sorted names have the order of its label list."""
    return len(folders) == NUM_IMAGENET and all(SYNSET.fullmatch(folder) for folder in folders)


def describe_order(folders: Sequence[str]) -> str:
    """A sentence if folder names are numbers whose order as text is not that of the numbers; else ""."""
    if not all(name.isdecimal() for name in folders) or list(folders) == sorted(folders, key=int):
        return ""
    label = next(i for i, name in enumerate(folders) if int(name) != i)
    return (
        f"class folders are sorted as text, so label {label} is folder {folders[label]!r}: {shorten(folders)}; "
        "names with leading zeros, 00, 01, ..., 10, keep the order of numbers"
    )


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", os.fspath(name).strip())
