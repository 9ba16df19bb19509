"""A plain folder: one folder per class, without train/ and val/; what is in it, and what of it is no picture."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import DataError

from ..reading.decode import IMAGE_EXTENSIONS
from ..reading.image_folder import FolderScan, is_folder, remark_on_files, remarks_on_names, shorten
from ..reading.image_list import can_stand_in_list
from ..reading.shards import is_sharded

SPLITS = ("train", "val")
# What other projects call the folders of a split.
SPLIT_WORDS = {"train", "training", "val", "valid", "validation", "test", "testing", "eval", "dev"}


@dataclass(frozen=True)
class PlainFolder:
    """The pictures of a plain folder.

    Attributes:
        root: the folder.
        names: the classes in the order of the labels.
        paths: paths from `root`, sorted within a class.
        labels: class of each path.
        unlistable: paths that no line of a list can hold: with line breaks, or not in UTF-8.
        remarks: sentences on what is not used.
    """

    root: str
    names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: tuple[int, ...]
    unlistable: tuple[str, ...]
    remarks: tuple[str, ...]


def is_plain_folder(root: str | os.PathLike) -> bool:
    """Whether `root` is a folder without train/ and val/.

    Raises:
        DataError: `root` is the train/ or val/ of a data set, or holds a split under other names.
    """
    root = os.fspath(root)
    if not os.path.isdir(root):
        return False
    if is_sharded(root):
        raise DataError(f"{root}: one split, packed into shards; did you mean {_parent(root)}?")
    names = _folders(root)
    if found := [name for name in SPLITS if name in names]:
        folder, others = os.path.join(root, found[0]), [name for name in names if name.casefold() not in SPLIT_WORDS]
        if len(found) == 1 and others and not _folders(folder) and not is_sharded(folder):
            raise DataError(
                f"{root}: the folder {found[0]} has no class folders and stands beside {shorten(others)}, so it may be "
                f"a split or a class; rename it if it is a class, for example to {found[0]}_"
            )
        return False
    own, parent = os.path.basename(os.path.abspath(root)), _parent(root)
    if own in SPLITS and all(os.path.isdir(os.path.join(parent, split)) for split in SPLITS):
        raise DataError(f"{root}: one half of a split; did you mean {parent}, which holds train/ and val/?")
    if names and {name.casefold() for name in names} <= SPLIT_WORDS:
        raise DataError(
            f"{root}: expected folders train and val, or one folder per class, got {shorten(names)}; "
            "rename them to train and val"
        )
    return True


def is_inside(path: str | os.PathLike, root: str | os.PathLike) -> bool:
    """Whether a path lies in a folder, after links are followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _folders(root: str) -> list[str]:
    return sorted(entry.name for entry in FolderScan().entries(root) if is_folder(entry))


def _parent(root: str) -> str:
    return os.path.dirname(os.path.abspath(root))


def find_plain_folder(root: str | os.PathLike) -> PlainFolder:
    """List the pictures of a plain folder; folders without any file are no classes, and are named.

    Raises:
        DataError: fewer than two classes, or a class whose pictures cannot be read for their type or their name.
    """
    root = os.fspath(root)
    scan, classes, empty = FolderScan(), {}, []
    entries = sorted(scan.entries(root), key=lambda entry: entry.name)
    for name in (entry.name for entry in entries if is_folder(entry)):
        of_class = FolderScan()
        found = sorted(of_class.images_below(os.path.join(root, name), except_folder=root))
        scan.skipped.update(of_class.skipped)
        scan.foreign.update(of_class.foreign)
        foreign = +of_class.foreign
        if not found and foreign:
            raise DataError(f"{root}: no picture of class {name} can be read; {'; '.join(of_class.remarks)}")
        if found:
            classes[name] = [os.path.relpath(path, root) for path in found]
        else:
            empty.append(name)
    beside = [entry.name for entry in entries if not is_folder(entry)]
    if len(classes) < 2:
        raise DataError(_too_few_classes(root, list(classes), empty, beside))
    paths, labels, unlistable = [], [], []
    for label, (name, of_class) in enumerate(classes.items()):
        good = [path for path in of_class if can_stand_in_list(path)]
        if not good or not can_stand_in_list(name):
            raise DataError(
                f"{root}: no line of a list can hold the names of class {name!r}; rename the folder without blanks at "
                "its ends, line breaks and letters that are not UTF-8 (of GBK: convmv -f gbk -t utf-8 -r --notest)"
            )
        unlistable += [path for path in of_class if not can_stand_in_list(path)]
        paths += of_class
        labels += [label] * len(of_class)
    remarks = [f"{root}: {remark}" for remark in (*_remarks(list(classes), empty, beside), *scan.remarks)]
    return PlainFolder(root, tuple(classes), tuple(paths), tuple(labels), tuple(unlistable), tuple(remarks))


def _too_few_classes(root: str, classes: Sequence[str], empty: Sequence[str], beside: Sequence[str]) -> str:
    pictures = [name for name in beside if name.lower().endswith(IMAGE_EXTENSIONS)]
    if pictures:
        number = "1 picture that lies" if len(pictures) == 1 else f"{len(pictures)} pictures that lie"
        other = f"; beside that is the folder {classes[0]}" if classes else ""
        return (
            f"{root}: expected one folder of pictures per class, got {number} in it directly: "
            f"{shorten(pictures)}{other}. Is it one class, and did you mean {_parent(root)}? Otherwise put the "
            "pictures of each class into a folder with its name, or name list files"
        )
    if not classes:
        found = f"folders without pictures, {shorten(empty)}" if empty else "none"
        return (
            f"{root}: expected one folder of pictures per class, or train/ and val/ with one each, got {found}; put "
            "the pictures of each class into a folder with its name, or name list files"
        )
    inner = os.path.join(root, classes[0])
    if len(_folders(inner)) >= 2:
        return f"{root}: one class only, {classes[0]}; did you mean {inner}, which holds {shorten(_folders(inner))}?"
    return (
        f"{root}: one class only, {classes[0]}, and a classifier needs two; add a folder with pictures of another "
        "class, of everything else for example"
    )


def _remarks(classes: Sequence[str], empty: Sequence[str], beside: Sequence[str]) -> list[str]:
    remarks = []
    if empty:
        remarks.append(f"folders without a picture are no classes: {shorten(empty)}")
    if beside:
        remarks.append(remark_on_files(beside))
    if words := [name for name in classes if name.casefold() in SPLIT_WORDS]:
        remarks.append(f"{shorten(words)} is taken for a class; a split has the folders train and val")
    return remarks + remarks_on_names(classes)
