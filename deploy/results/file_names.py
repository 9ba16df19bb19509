"""Names of the files that are made of input images: below one folder, never outside it, never one name for two."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from common.errors import UsageError

MAX_NAME_BYTES = 200  # of a file or folder; most file systems allow 255, of which a temporary name takes some
MAX_EXTENSION_BYTES = 16
NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]')  # on Linux, macOS or Windows
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\.|$)", re.IGNORECASE)  # on Windows


def folder_names(class_names: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """Names of folders for classes, one for each, that every system accepts.

    A class is called by its own name where that is possible: `../x` becomes `.._x` without its leading dots, `_x`.
    Names that some system takes for one (`Cat` and `cat`, two forms of é) get the number of the class.
    """
    used = {_same_on_some_system(name) for name in taken}
    folders = []
    for label, name in enumerate(class_names):
        folder = safe_folder_name(name) or f"class {label}"
        if _same_on_some_system(folder) in used:
            folder = f"{folder} (class {label})"
        while _same_on_some_system(folder) in used:  # a class may be called like that
            folder += "_"
        used.add(_same_on_some_system(folder))
        folders.append(folder)
    return folders


def safe_folder_name(name: str) -> str:
    """A class name as the name of one folder; "" if nothing of it is left.

    Separators and characters that a system refuses become `_`. Dots at the start, which hide a folder, and dots and
    blanks at the end, which Windows drops, are left out.
    """
    text = NOT_IN_NAMES.sub("_", name).lstrip(". ").rstrip(". ")
    if RESERVED.match(text):
        text = f"_{text}"
    return text.encode()[:MAX_NAME_BYTES].decode(errors="ignore").rstrip(". ")


def _same_on_some_system(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def numbered_name(stem: str, number: int, extension: str) -> str:
    """`stem (2).jpg` for number 2, `stem.jpg` for number 1; a stem that is too long is cut."""
    if len(os.fsencode(extension)) > MAX_EXTENSION_BYTES:
        stem, extension = stem + extension, ""
    end = (f" ({number})" if number > 1 else "") + extension
    encoded = os.fsencode(stem)
    room = MAX_NAME_BYTES - len(os.fsencode(end))
    return (os.fsdecode(encoded[:room]) if len(encoded) > room else stem) + end


def refuse_inside_inputs(folder: str, inputs: Iterable[str | os.PathLike], flag: str) -> None:
    """Refuse to write pictures into a folder of input images: the next run would take them for inputs.

    Args:
        folder: where the pictures will be written.
        inputs: files and folders that the user named.
        flag: name of the flag that names `folder`, for the message.

    Raises:
        UsageError: `folder` is one of the input folders, or below one.
    """
    target = os.path.realpath(os.path.expanduser(folder))
    for given in inputs:
        root = os.path.realpath(os.path.expanduser(os.fspath(given)))
        if os.path.isdir(root) and (target == root or target.startswith(os.path.join(root, ""))):
            raise UsageError(
                f"{flag} {folder} is inside the input folder {os.fspath(given)}: the next run would take what is "
                f"written there for inputs; name a folder outside it"
            )


class OutputNames:
    """The path below one folder that each input image gets: as below its input folder, with numbers where two meet."""

    def __init__(self, folder: str | os.PathLike, inputs: Iterable[str | os.PathLike]):
        """Name the files of `folder`; `inputs` are the files and folders that the user named."""
        self._folder = Path(os.path.expanduser(os.fspath(folder)))
        self._roots = [os.path.expanduser(os.fspath(given)) for given in inputs]
        self._used: set[str] = set()

    def path_of(self, image: str, extension: str, *, may_replace: Callable[[Path], bool]) -> Path:
        """Choose the path for what is made of an input image.

        Args:
            image: path of the input image.
            extension: of the file, with its dot; `a.png` becomes `a.png.jpg`, so that it is not that of `a.jpg`.
            may_replace: whether a file that is there may be replaced; asked for files only.
        """
        folder, name = os.path.split(self._relative(image))
        stem = name
        if name.lower().endswith(extension):
            stem, extension = name[: -len(extension)], name[-len(extension) :]
        number = 1
        while True:
            path = self._folder / folder / numbered_name(stem, number, extension)
            key = str(path).casefold()
            if key not in self._used and (not os.path.lexists(path) or may_replace(path)):
                self._used.add(key)
                return path
            number += 1

    def _relative(self, image: str) -> str:
        """The path of an image below the input folder that holds it; its name if it was named itself."""
        holding = [root for root in self._roots if image.startswith(os.path.join(root, ""))]
        relative = os.path.relpath(image, max(holding, key=len)) if holding else os.path.basename(image)
        return relative if not relative.startswith("..") else os.path.basename(image)
