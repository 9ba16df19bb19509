"""The images and class names that the flags of the scripts name: list files, or folders of classes."""

import os

from common.cli import did_you_mean_path
from common.errors import DataError

from .image_folder import scan_image_folder
from .image_list import ImageList, check_files_exist, read_image_list
from .shards import ShardedImages, is_sharded, open_shards


def open_dataset(
    root: str | os.PathLike,
    split: str,
    list_file: str | os.PathLike | None,
    num_classes: int | None = None,
    *,
    check_files: bool = True,
) -> ImageList | ShardedImages:
    """Open the images of a list file, or without one of the folder `root`/`split`.

    Args:
        root: root of the data; the paths of a list begin there.
        split: folder below `root`, which holds one folder per class, or the shards of `datasets.pack`.
        list_file: list file of the split; None takes the folder.
        num_classes: labels are 0 to num_classes - 1; None leaves the check to datasets/classes.py.
        check_files: check that the files of a list exist (a sample of a long list), and that shards have their length;
            one rank is enough for that.

    Raises:
        DataError: nothing is there, a line of the list is wrong, or there are more classes than `num_classes`.
    """
    if not os.path.isdir(root):
        near = did_you_mean_path(root) or "; name the root of the data with --data_path"
        raise DataError(f"{root}: no such folder{near}")
    if is_sharded(os.path.join(root, split)):
        if list_file:
            raise DataError(f"{root}/{split} holds shards, which have their labels with them; leave out {list_file}")
        return open_shards(os.path.join(root, split), num_classes, check_files=check_files)
    if list_file:
        images = read_image_list(list_file, root, num_classes)
        if check_files:
            check_files_exist(images)
        return images
    folder = os.path.join(root, split)
    if not os.path.isdir(folder):
        found = other_name_of(root, split)
        if found:
            raise DataError(f"{folder}: no such folder, but {os.path.join(root, found)} is one; rename it to {split}")
        raise DataError(
            f"{folder}: no such folder; expected train/ and val/ below --data_path, each with a folder for each class "
            f"or packed; or name a list file of {split}: --cls_label_path_{split}, or --list of datasets.pack"
            + _hint_of_half(root, split)
        )
    images = scan_image_folder(folder)
    if num_classes is not None and len(images.class_names) > num_classes:
        raise DataError(
            f"{images.root}: {len(images.class_names)} class folders, but --nb_classes is {num_classes}; "
            f"set --nb_classes {len(images.class_names)}"
        )
    return images


def other_name_of(root: str | os.PathLike, split: str) -> str:
    """The folder below `root` that other projects call the split, `valid` or `Train` for example; "" without one."""
    wanted = {"train": ("train", "training"), "val": ("val", "valid", "validation", "eval")}.get(split, ())
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    return next((name for word in wanted for name in names if name.lower() == word), "")


def _hint_of_half(root: str | os.PathLike, split: str) -> str:
    """What to do with a train/ that has no val/ beside it."""
    train = os.path.join(root, "train")
    if split != "val" or not os.path.isdir(train):
        return ""
    return f"; or let main.py split that folder: --data_path {train}"
