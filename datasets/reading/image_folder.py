"""Images found in folders: one folder a class for training, any files and folders for prediction."""

import os
from collections.abc import Iterable, Iterator

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
