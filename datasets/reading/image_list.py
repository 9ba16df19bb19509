"""Images named by a list file: one line `<relative path> <label>` per image, split at the last blank."""

import hashlib
import os
from array import array
from collections.abc import Iterable, Sequence

import numpy as np

from common.errors import DataError
from common.files import disk_errors, write_with_checksum

from .text_lines import MAX_FAULTS, MAX_FAULTS_SHOWN, is_comment, read_lines, refuse

EXPECTED = "expected '<relative path> <label>'"
MAX_DIGITS = 100  # of a label; Python converts no text of more than 4,300 digits to a number


class JoinedPaths:
    """Many paths in two blocks of memory: a Python string per path would cost more than the path."""

    def __init__(self, paths: Iterable[bytes] = ()):
        self.joined = bytearray()
        self._ends = array("q")
        for path in paths:
            self.append(path)

    def append(self, path: bytes) -> None:
        """Add a path at the end."""
        self.joined += path
        self._ends.append(len(self.joined))

    def __getitem__(self, index: int) -> bytes:
        return bytes(self.joined[self._ends[index - 1] if index else 0 : self._ends[index]])


class ImageList:
    """Paths and labels of images, in one block of bytes and a few arrays.

    1,281,167 Python strings would cost 150 MB in every forked process, because counting references writes to their
    memory pages; the arrays are shared.

    Args:
        root: folder in which relative paths begin.
        paths: relative or absolute path of each image.
        labels: class of each image.
        list_file: list file that names the images; "" if a folder was searched.
        line_numbers: line of each image in the list file.
        class_names: names of the class folders in the order of the labels; None for a list file.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        paths: Iterable[bytes] | JoinedPaths,
        labels: Iterable[int],
        *,
        list_file: str = "",
        line_numbers: Iterable[int] = (),
        class_names: Sequence[str] | None = None,
    ):
        self.root = os.fspath(root)
        self.labels = np.fromiter(labels, dtype=np.int64)  # [N]
        self.class_names = None if class_names is None else tuple(class_names)
        self.remarks: tuple[str, ...] = ()  # sentences on files that were skipped
        self._list_file = list_file
        self._line_numbers = np.fromiter(line_numbers, dtype=np.int32)
        self._paths = paths if isinstance(paths, JoinedPaths) else JoinedPaths(paths)

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        """SHA-256 of labels and relative paths, 64 hexadecimal digits; the root, which may move, is not part of it."""
        return fingerprint_of(self.labels, bytes(self._paths.joined))

    def path(self, index: int) -> str:
        """Path of image `index`; an absolute path of the list is not changed."""
        return os.path.join(self.root, os.fsdecode(self._paths[index]))

    def original(self, index: int) -> str:
        """Path by which a person finds image `index`."""
        return self.path(index)

    def folders_and_labels(self) -> set[tuple[str, int]]:
        """(name of the folder, label) of all images; the name is "" for an image in the root itself."""
        pairs = {(self._paths[i].rpartition(b"/")[0], label) for i, label in enumerate(self.labels.tolist())}
        return {(os.path.basename(os.fsdecode(folder)), label) for folder, label in pairs}

    def label(self, index: int) -> int:
        """The class of image `index`."""
        return int(self.labels[index])

    def place(self, index: int) -> str:
        """The place that names image `index`: `file:line` of the list, or the folder that was searched."""
        return f"{self._list_file}:{self._line_numbers[index]}" if self._list_file else self.root


def fingerprint_of(labels: np.ndarray, content: bytes) -> str:
    """SHA-256 of the labels [N] int64 and of bytes that stand for the images, 64 hexadecimal digits."""
    return hashlib.sha256(labels.tobytes() + content).hexdigest()


def read_image_list(path: str | os.PathLike, root: str | os.PathLike, num_classes: int | None = None) -> ImageList:
    """Read a list file.

    A list is trusted like a command line: absolute paths and `..` are allowed. `check_files_exist` checks that the
    images exist.

    Args:
        path: the list file.
        root: folder in which relative paths begin.
        num_classes: labels are 0 to num_classes - 1; None allows any.

    Raises:
        DataError: the file cannot be read or names no image, or a line is wrong; the message names the first lines.
    """
    limit = 2**31 if num_classes is None else num_classes
    paths, labels, line_numbers, faults = JoinedPaths(), array("q"), array("i"), []
    for number, line in read_lines(path):
        entry = split_line(line)
        if entry is None and line.startswith(b"#"):  # a path may begin with #; a line without a label is a comment
            continue
        if entry and 0 <= entry[1] < limit:
            paths.append(entry[0])
            labels.append(entry[1])
            line_numbers.append(number)
        else:
            faults.append((number, _fault(line, entry, num_classes)))
            if len(faults) == MAX_FAULTS:
                break
    refuse(path, faults)
    if not labels:
        raise DataError(f"{path}: {EXPECTED} per line, got a list without images")
    return ImageList(root, paths, labels, list_file=os.fspath(path), line_numbers=line_numbers)


def split_line(line: bytes) -> tuple[bytes, int] | None:
    """Split a line into path and label, which may be out of range; None for a line without one of them."""
    parts = line.rsplit(None, 1)
    is_entry = len(parts) == 2 and parts[1].removeprefix(b"-").isdigit() and len(parts[1]) < MAX_DIGITS
    return (parts[0], int(parts[1])) if is_entry else None


def _fault(line: bytes, entry: tuple[bytes, int] | None, num_classes: int | None) -> str:
    if entry:
        largest = (2**31 if num_classes is None else num_classes) - 1
        return f"expected a label from 0 to {largest}, got {entry[1]}"
    *path, label = line.decode().rsplit(None, 1)
    if not path:
        return f"{EXPECTED}, got {label!r} alone"
    return f"{EXPECTED} with a whole number as label, got {label[:MAX_DIGITS]!r}"


def write_image_list(path: str | os.PathLike, entries: Iterable[tuple[str, int]]) -> None:
    """Write (relative path, label) pairs as a list file, whole or not at all, and its checksum to `path`.sha256.

    Every reader of this project compares the two: a list that was cut short later, by a full disk where it was copied
    to, would be a shorter data set without an error. A list without a checksum beside it is accepted.

    Raises:
        DataError: a path that a line cannot hold.
        DiskError: the file cannot be written.
    """
    lines = []
    for name, label in entries:
        if not can_stand_in_list(name):
            raise DataError(f"{path}: a line of a list cannot hold the path {name!r}; rename the file")
        lines.append(f"{name} {label}\n")
    with disk_errors(path):
        write_with_checksum(path, "".join(lines))


def can_stand_in_list(name: str) -> bool:
    """Whether a line of a list can hold a path: text in UTF-8 without line breaks and blanks at its ends."""
    is_text = name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)
    if not is_text or not name or name != name.strip() or {"\n", "\r"} & {*name}:
        return False
    return not is_comment(name.encode())


def check_files_exist(images: ImageList, limit: int = 10_000) -> None:
    """Check that the images exist: all of them, or `limit` evenly spread images of a longer list.

    Raises:
        DataError: images are missing; the message names the first ones and the share of missing images.
    """
    checked = np.unique(np.linspace(0, len(images) - 1, min(limit, len(images))).astype(np.int64)).tolist()
    missing = [index for index in checked if not os.path.isfile(images.path(index))]
    if missing:
        shown = [f"{images.place(index)}: no such file: {images.path(index)}" for index in missing[:MAX_FAULTS_SHOWN]]
        shown[-1] += f" ({len(missing)} of {len(checked)} checked files are missing; is --data_path right?)"
        raise DataError("\n".join(shown))
