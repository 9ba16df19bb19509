"""Manifest: the checksums of all files of a data set, in the form of `sha256sum`, against silent damage."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator

import numpy as np

from common.errors import DataError
from common.files import disk_errors, remove_abandoned, write_atomically
from common.regular_files import read_regular

from .reading.image_list import ImageList

HEAD = "# whole: "  # start of the first line
ESCAPES = {"n": "\n", "r": "\r"}  # any other escaped letter stands for itself


def write_manifest(
    path: str | os.PathLike, root: str | os.PathLike, rows: Iterable[tuple[ImageList, np.ndarray]]
) -> int:
    """Write `<sha256>  <path from root>` for every file that could be read; `sha256sum -c`, run in `root`, checks it.

    The first line, a comment for `sha256sum`, has the number of files and a checksum of the lines after it.

    Args:
        path: the manifest.
        root: root of the data.
        rows: images, and their facts of `datasets.check.examine`.

    Returns:
        Number of checksums.

    Raises:
        DiskError: the manifest cannot be written.
    """
    lines = manifest_lines(row for images, facts in rows for row in _checksums(root, images, facts))
    data = "".join(lines).encode(errors="surrogateescape")
    head = f"{HEAD}{len(lines)} files, sha256 {hashlib.sha256(data).hexdigest()}\n"
    with disk_errors(path):
        remove_abandoned(path)
        write_atomically(path, head.encode() + data)
    return len(lines)


def manifest_lines(rows: Iterable[tuple[str, str]]) -> list[str]:
    """One line for each (path, checksum); a file without a checksum has none."""
    return [_line(name, checksum) for name, checksum in rows if checksum]


def _line(name: str, checksum: str) -> str:
    """One line as `sha256sum` writes it: a backslash before the checksum says that the name has escaped line breaks."""
    if "\n" not in name:
        return f"{checksum}  {name}\n"
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n")
    return f"\\{checksum}  {escaped}\n"


def read_manifest(path: str | os.PathLike) -> dict[str, str]:
    """Read a manifest: checksum by path.

    Raises:
        DataError: the file cannot be read, or a line is not one of a manifest.
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    if data.startswith(HEAD.encode()):
        head, _, data = data.partition(b"\n")
        if head.split()[-1] != hashlib.sha256(data).hexdigest().encode():
            raise DataError(
                f"{path}: does not have the lines that its first line tells of: cut short, damaged or edited; write it "
                "again by --write_manifest, or remove the first line if it was edited on purpose"
            )
    elif not data:
        raise DataError(f"{path}: is empty; write it again by --write_manifest")
    checksums = {}
    for number, line in enumerate(data.decode("utf-8", errors="surrogateescape").split("\n"), start=1):
        if not line or line.startswith("#"):
            continue
        checksum, separator, name = line.partition("  ")
        if checksum.startswith("\\"):
            checksum, name = checksum[1:], _unescaped(name)
        if len(checksum) != 64 or not separator or not name:
            raise DataError(f"{path}:{number}: expected '<sha256>  <path>', got {line.strip()[:80]!r}")
        checksums[name] = checksum
    return checksums


def _unescaped(name: str) -> str:
    return re.sub(r"\\(.)", lambda escape: ESCAPES.get(escape[1], escape[1]), name)


def changed_files(
    manifest: dict[str, str], root: str | os.PathLike, images: ImageList, facts: np.ndarray
) -> dict[int, str]:
    """Compare files with a manifest.

    Args:
        manifest: checksum by path.
        root: root of the data.
        images: the images to compare.
        facts: their facts of `datasets.check.examine`.

    Returns:
        What is different, by index, for files that are not in the manifest or have another checksum.
    """
    changed = {}
    for index, (name, checksum) in enumerate(_checksums(root, images, facts)):
        if name not in manifest:
            changed[index] = "not in the manifest"
        elif checksum and manifest[name] != checksum:
            changed[index] = f"sha256 {checksum[:12]}..., the manifest has {manifest[name][:12]}..."
    return changed


def _checksums(root: str | os.PathLike, images: ImageList, facts: np.ndarray) -> Iterator[tuple[str, str]]:
    """(path from root, checksum) of each image; an empty checksum if the file could not be read."""
    for index in range(len(images)):
        checksum = bytes(facts["sha256"][index]).ljust(32, b"\0").hex() if facts["num_bytes"][index] >= 0 else ""
        yield os.path.relpath(images.path(index), root), checksum
