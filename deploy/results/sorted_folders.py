"""--sort_into: copies of the pictures in one folder per predicted class; nothing is overwritten or moved."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from common.errors import DiskError, UsageError
from common.files import disk_errors, write_atomically
from datasets.reading.decode import read_bytes

from .file_names import folder_names, numbered_name

NO_CLASS = "no class"  # folder of pictures of which no class reaches the threshold


class SortedFolders:
    """Copies every predicted picture into the folder of its most probable class."""

    def __init__(self, folder: str | os.PathLike, class_names: Sequence[str] | None, num_classes: int):
        """Choose the folders of the classes below `folder`, which is created with the first picture.

        Raises:
            UsageError: there is a file of that name.
        """
        self._folder = Path(os.path.expanduser(os.fspath(folder)))
        if self._folder.exists() and not self._folder.is_dir():
            raise UsageError(f"--sort_into {folder}: there is a file of this name; name a folder")
        names = class_names or [f"class {label}" for label in range(num_classes)]
        self._folders = folder_names(names, taken=[NO_CLASS])
        self.num_copied = self.num_present = 0

    def write(self, predictions: Iterable[dict]) -> None:
        """Copy the pictures of `predictions`; those that could not be read are left out.

        Raises:
            BadImage: a picture cannot be read any more.
            DiskError: a copy cannot be written.
        """
        for prediction in predictions:
            if "error" not in prediction:
                labels = prediction["class_ids"]
                self._copy(prediction["file_name"], self._folders[labels[0]] if labels else NO_CLASS)

    def _copy(self, source: str, class_folder: str) -> None:
        content = bytes(read_bytes(source))
        folder = self._folder / class_folder
        with disk_errors(folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            if folder.is_symlink():
                raise DiskError(
                    f"{folder} is a link: copies would be written elsewhere; remove it, or name another folder"
                )
            folder.mkdir(exist_ok=True)
            is_new = _write_new(folder, os.path.basename(source), content, os.stat(source))
        self.num_copied += is_new
        self.num_present += not is_new

    def summary(self) -> str:
        """One sentence on what was copied."""
        present = f", and already there: {self.num_present}" if self.num_present else ""
        return f"pictures copied into {self._folder}, one folder per class: {self.num_copied}{present}"


def _write_new(folder: Path, name: str, content: bytes, status: os.stat_result) -> bool:
    """Write `content` under `name`, or the first of `name (2)`, ... that is free; not if such a file has it already."""
    stem, extension = os.path.splitext(name)
    number = 1
    while True:
        path = folder / numbered_name(stem, number, extension)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # takes the name, and follows no link
        except FileExistsError:
            if _has_content(path, content):
                return False
            number += 1
            continue
        try:
            write_atomically(path, content)  # replaces the empty file that has taken the name
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return True


def _has_content(path: Path, content: bytes) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != len(content):
        return False
    return path.read_bytes() == content
