"""Find images in folders: one folder per class for training, any files and folders for prediction."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from common.cli import did_you_mean_path
from common.errors import DataError

from .decode import IMAGE_EXTENSIONS
from .image_list import ImageList

MAX_SHOWN = 5

# Names that systems and programs add to folders and archives; names that begin with a dot are skipped, too.
SYSTEM_NAMES = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("lost+found", "@eadir", "#recycle", "icon\r"),
}

# Images that no decoder of the project reads, and what converts them.
FOREIGN_EXTENSIONS = {
    **dict.fromkeys(
        (".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".tga", ".exr", ".dds", ".ico"), "magick mogrify"
    ),
    **dict.fromkeys((".psd", ".psb", ".xcf", ".svg", ".eps", ".ai", ".pdf"), "magick mogrify"),
    **dict.fromkeys(
        (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"), "darktable-cli or dcraw"
    ),
}


class FolderScan:
    """Finds the images below folders and counts what it passes over."""

    def __init__(self):
        self.skipped: Counter[str] = Counter()  # files and folders of systems and hidden ones, by name
        self.foreign: Counter[str] = Counter()  # images of types that are not read, by extension
        self.not_utf8: list[str] = []  # names of class folders
        self.beside: list[str] = []  # names of files where class folders are expected
        self.alike: list[str] = []  # a sentence for each pair of classes with nearly the same name

    def images_below(self, folder: str, *, except_folder: str | None = None) -> Iterator[str]:
        """Yield the image files below `folder`; each folder is visited once, however many links lead to it."""
        visited = {_identity(except_folder)} if except_folder else set()
        waiting = [folder]
        while waiting:
            current = waiting.pop()
            identity = _identity(current)
            if identity in visited:
                continue
            visited.add(identity)
            for entry in self.entries(current):
                if is_folder(entry):
                    waiting.append(entry.path)
                elif entry.name.lower().endswith(IMAGE_EXTENSIONS):
                    yield entry.path
                else:
                    extension = os.path.splitext(entry.name)[1].lower()
                    self.foreign[extension] += extension in FOREIGN_EXTENSIONS

    def entries(self, folder: str) -> list[os.DirEntry]:
        """The entries of a folder but for hidden ones and those of systems, which are counted.

        Raises:
            DataError: the folder cannot be read.
        """
        try:
            with os.scandir(folder) as entries:
                every = list(entries)
        except OSError as error:
            raise DataError(f"{folder}: {error.strerror}") from None
        kept = [entry for entry in every if not is_system_name(entry.name)]
        self.skipped.update(_kind(entry.name) for entry in every if is_system_name(entry.name))
        return kept

    @property
    def remarks(self) -> list[str]:
        """A sentence for each thing that was passed over or may be a mistake."""
        lines = [remark_on_files(self.beside)] if self.beside else []
        lines += self.alike
        if self.not_utf8:
            shown = shorten([repr(os.fsencode(name))[1:] for name in self.not_utf8])
            lines.append(
                f"names of class folders are not UTF-8 and cannot be exported: {shown}; rename the folders, for names "
                "in GBK with convmv -f gbk -t utf-8 -r --notest, or name the classes by --label_list of main.py"
            )
        if self.skipped:
            names = ", ".join(f"{count} {name}" for name, count in sorted(self.skipped.items()))
            lines.append(f"skipped hidden and system files and folders: {names}")
        for extension, count in sorted(self.foreign.items()):
            if count:
                files = f"{count} {extension} file{'s are' if count > 1 else ' is'}"
                tool = FOREIGN_EXTENSIONS[extension]
                how = f"{tool} -format jpg *{extension}" if "mogrify" in tool else tool
                them = "them" if count > 1 else "it"
                lines.append(f"{files} not read: convert {them} to JPEG or PNG, for example with {how}")
        return lines


def remark_on_files(beside: Sequence[str]) -> str:
    """A sentence for files that lie where class folders are expected."""
    number, verb = ("1 file", "is") if len(beside) == 1 else (f"{len(beside)} files", "are")
    return f"{number} beside the class folders {verb} not used: {shorten(beside)}"


def remarks_on_names(classes: Iterable[str]) -> list[str]:
    """A sentence for each class whose name is that of an earlier one but for case, blanks or width of letters."""
    remarks, alike = [], {}
    for name in classes:
        plain = unicodedata.normalize("NFKC", name).casefold().strip()
        if is_utf8(name) and plain in alike:
            remarks.append(f"the classes {alike[plain]!a} and {name!a} look alike; are they one class?")
        alike.setdefault(plain, name)
    return remarks


def is_system_name(name: str) -> bool:
    """Whether a file or folder is hidden or belongs to a system: `.ipynb_checkpoints`, `__MACOSX`, `Thumbs.db`."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def _kind(name: str) -> str:
    return "._*" if name.startswith("._") else name


def scan_image_folder(root: str | os.PathLike) -> ImageList:
    """List all images below `root`, whose sub-folders are the classes: their sorted names are labels 0, 1, 2, ...

    Images are searched recursively and sorted by path. What was passed over is in `remarks` of the list.

    Raises:
        DataError: no class, or a class without images: to leave it out would shift the labels of all classes after it.
    """
    scan = FolderScan()
    classes = list_classes(root, scan)
    note = "".join(f"; {remark}" for remark in scan.remarks)
    if not classes:
        raise DataError(
            f"{os.fspath(root)}: expected one folder per class, got none; "
            f"or name a list file, or run datasets.pack to its end if it was stopped{note}"
        )
    empty = [name for name, paths in classes.items() if not paths]
    if empty:
        raise DataError(
            f"{os.fspath(root)}: no image in class {shorten(empty)}; {_looked_for()}, or remove the folder{note}"
        )
    images = join_classes(root, classes)
    images.remarks = tuple(f"{os.fspath(root)}: {remark}" for remark in scan.remarks)
    return images


def list_classes(root: str | os.PathLike, scan: FolderScan | None = None) -> dict[str, list[bytes]]:
    """The sorted classes below `root`, and the sorted paths of the images of each, relative to `root`."""
    root, scan = os.fspath(root), scan or FolderScan()
    classes = {}
    entries = scan.entries(root)
    scan.beside += sorted(entry.name for entry in entries if not is_folder(entry))
    for name in sorted(entry.name for entry in entries if is_folder(entry)):
        paths = sorted(scan.images_below(os.path.join(root, name), except_folder=root))
        classes[name] = [os.fsencode(os.path.relpath(path, root)) for path in paths]
    scan.not_utf8 += [name for name in classes if not is_utf8(name)]
    scan.alike += remarks_on_names(classes)
    return classes


def is_utf8(name: str) -> bool:
    """Whether a file name is text in UTF-8; Python keeps the bytes of other names as surrogates."""
    return name.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in name)


def join_classes(root: str | os.PathLike, classes: dict[str, list[bytes]]) -> ImageList:
    """The images of all classes as one list; the position of a class is its label."""
    paths = [path for of_class in classes.values() for path in of_class]
    labels = [label for label, of_class in enumerate(classes.values()) for _ in of_class]
    return ImageList(root, paths, labels, class_names=list(classes))


def find_images(paths: str | os.PathLike | Iterable[str | os.PathLike], scan: FolderScan | None = None) -> list[str]:
    """List the images that `paths` name: a file as it is, a folder as all images below it, sorted.

    The order of `paths` is kept, and a file is taken whatever its name. `~` is the home folder. `scan` counts what is
    passed over.

    Raises:
        DataError: nothing at a path, or no image in a folder.
    """
    scan, images = scan or FolderScan(), []
    for given in [paths] if isinstance(paths, str | os.PathLike) else paths:
        path = os.path.expanduser(os.fspath(given))
        if not os.path.exists(path):
            raise DataError(f"{path}: no such file or folder{did_you_mean_path(path)}")
        found = sorted(scan.images_below(path)) if os.path.isdir(path) else [path]
        if found == [path] and not os.path.isfile(path):
            raise DataError(f"{path}: not a regular file and no folder: a pipe or a device can have no end")
        if not found:
            note = "".join(f"; {remark}" for remark in scan.remarks)
            raise DataError(f"{path}: no image in this folder or below; {_looked_for()}{note}")
        images += found
    if not images:
        raise DataError("no images named; give files or folders")
    return images


def is_folder(entry: os.DirEntry) -> bool:
    """As `entry.is_dir()`, which raises for a link to itself."""
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def _identity(folder: str) -> tuple[int, int]:
    try:
        status = os.stat(folder)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}") from None
    return status.st_dev, status.st_ino


def shorten(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:MAX_SHOWN]) + (f" and {len(names) - MAX_SHOWN} more" if names[MAX_SHOWN:] else "")


def _looked_for() -> str:
    return f"looked for {' '.join(IMAGE_EXTENSIONS)} in any case"
