"""Images found in folders: one folder a class for training, any files and folders for prediction."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from common.errors import DataError

from .decode import IMAGE_EXTENSIONS
from .image_list import ImageList

SHOWN_NAMES = 5


def scan_image_folder(root: str | os.PathLike) -> ImageList:
    """All images below `root`, whose sub-directories are the classes: sorted names are labels 0, 1, 2, ...

    Images are searched recursively and sorted by path. A class without images is an error, because leaving it out would
    shift the labels of all classes after it.
    """
    classes = list_classes(root)
    if not classes:
        raise DataError(
            f"{os.fspath(root)}: expected a folder for each class, got none; "
            "or name a list file, or run datasets.pack to its end if it was stopped"
        )
    empty = [name for name, paths in classes.items() if not paths]
    if empty:
        raise DataError(f"{os.fspath(root)}: no image in class {_some(empty)}; {_looked_for()}, or remove the folder")
    return join_classes(root, classes)


def list_classes(root: str | os.PathLike) -> dict[str, list[bytes]]:
    """The sorted classes below `root`, and the sorted paths of the images of each, from `root` on."""
    root = os.fspath(root)
    classes = {}
    for name in sorted(entry.name for entry in _entries(root) if _is_folder(entry)):
        found = sorted(_walk(os.path.join(root, name), (_identity(root),)))
        classes[name] = [os.fsencode(os.path.relpath(path, root)) for path in found]
    return classes


def join_classes(root: str | os.PathLike, classes: dict[str, list[bytes]]) -> ImageList:
    """The images of all classes; the place of a class is its label."""
    paths = [path for found in classes.values() for path in found]
    labels = [label for label, found in enumerate(classes.values()) for _ in found]
    return ImageList(root, paths, labels, class_names=list(classes))


def check_same_classes(train: ImageList, val: ImageList) -> None:
    """Raise DataError, naming the difference, if the class folders of a split have other labels in the other split.

    A list tells of what classes its labels are where its images lie in folders of the same names, one for each label.
    """
    for here, there in ((train, val), (val, train)):
        if here.class_names and not there.class_names:
            _check_labels(here, _labels_of_folders(there), "the list of the other split")
        elif alone := sorted(set(here.class_names or ()) - set(there.class_names or ())):
            raise DataError(f"class {_some(alone)} is in {here.root} but not in {there.root}; labels would not agree")


def _labels_of_folders(listed: ImageList) -> dict[str, int]:
    labels, first = np.unique(listed.labels, return_index=True)
    names = [os.path.basename(os.path.dirname(listed.path(index))) for index in first]
    return {name: label for name, label in zip(names, labels.tolist(), strict=True) if names.count(name) == 1}


def check_trained_classes(images: ImageList, trained: Sequence[str] | None) -> None:
    """Raise DataError if the class folders of `images` are only some of those that were `trained`, or in other places.

    Their labels would be counted without the others. Other names, as of a label list, tell nothing.
    """
    if images.class_names and trained and set(images.class_names) < set(trained):
        alone = sorted(set(trained) - set(images.class_names))
        raise DataError(
            f"{images.root}: no folder for class {_some(alone)} of the weights; labels would not agree. "
            "Add the folder with an image, or name the images by a list file"
        )
    _check_labels(images, {name: label for label, name in enumerate(trained or ())}, "the weights")


def _check_labels(images: ImageList, others: Mapping[str, int], place: str) -> None:
    for label, name in enumerate(images.class_names or ()):
        if others.get(name, label) != label:
            raise DataError(
                f"{images.root}: class {name} would have label {label}, by the order of the folders, but has "
                f"{others[name]} in {place}; name these images by a list file, too"
            )


def find_images(paths: str | os.PathLike | Iterable[str | os.PathLike]) -> list[str]:
    """The images that `paths` name: a file as it is, a folder as all images below it, sorted.

    The order of `paths` is kept, and a file is taken whatever its name.

    Raises:
        DataError: nothing at a path, or no image in a folder.
    """
    found = []
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        path = os.fspath(path)
        if not os.path.exists(path):
            raise DataError(f"{path}: no such file or folder")
        images = sorted(_walk(path)) if os.path.isdir(path) else [path]
        if not images:
            raise DataError(f"{path}: no image in this folder or below; {_looked_for()}")
        found += images
    if not found:
        raise DataError("no images named; give files or folders")
    return found


def _walk(folder: str, above: tuple = ()) -> Iterator[str]:
    """Image files below `folder`; a link back to a folder `above` it is not followed."""
    identity = _identity(folder)
    if identity in above:
        return
    for entry in _entries(folder):
        if _is_folder(entry):
            yield from _walk(entry.path, (*above, identity))
        elif entry.name.lower().endswith(IMAGE_EXTENSIONS):
            yield entry.path


def _is_folder(entry: os.DirEntry) -> bool:
    """As `entry.is_dir()`, which raises for a link to itself."""
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _entries(folder: str) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}") from None


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {len(names) - SHOWN_NAMES} more" if names[SHOWN_NAMES:] else "")


def _looked_for() -> str:
    return f"looked for {' '.join(IMAGE_EXTENSIONS)} in any case"
