"""Write files so that a reader never sees a part of one, and compute their checksums."""

import functools
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import DiskError

BLOCK_BYTES = 2**20


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb", *, replace: bool = True, **options) -> Iterator[IO]:
    """Open a temporary file beside `path`; at the end of the context flush it to the disk and rename it to `path`.

    A process that is killed at any point leaves either the older file of that name or the whole new one, and at most a
    file `.<name>.<process>-<random>.tmp` beside it. The folder is flushed too, so that the rename survives a power cut.

    Args:
        path: the file to write; its folder must exist.
        mode: "wb" or "w".
        replace: False leaves the temporary file under its name, for a caller that does the rename itself.
        options: `encoding`, `errors`, `newline` of `open`.

    Raises:
        OSError: the file cannot be written; the temporary file is removed and an older file is untouched.
    """
    path = Path(path)
    temporary = temporary_path(path)
    try:
        with open(temporary, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
            fsync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def temporary_path(path: Path) -> Path:
    """Name of the temporary file that `atomic_write` uses for `path` in this process.

    Processes of several machines may write into one folder under the same process id, so a random number is added.
    """
    return path.with_name(f".{path.name}.{os.getpid()}-{_random_part(os.getpid())}.tmp")


@functools.cache
def _random_part(pid: int) -> str:
    return os.urandom(4).hex()


def write_atomically(path: str | os.PathLike, data: bytes | str | Iterable[bytes]) -> None:
    """Write `data` (text is encoded as UTF-8) to `path`: whole or not at all, and flushed to the disk.

    Raises:
        OSError: the file cannot be written; an older file of that name is untouched.
    """
    parts = [data.encode()] if isinstance(data, str) else [data] if isinstance(data, bytes) else data
    with atomic_write(path) as file:
        file.writelines(parts)


def fsync_folder(folder: str | os.PathLike) -> None:
    """Flush the entries of a folder, so that a rename in it survives a power cut. Windows cannot open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def disk_errors(what: str | os.PathLike) -> Iterator[None]:
    """Turn an OSError inside the context into a DiskError.

    Raises:
        DiskError: `cannot write <what>: <reason>`, with exit code 74.
    """
    try:
        yield
    except OSError as error:
        raise DiskError(f"cannot write {os.fspath(what)}: {error.strerror or error}") from error


def sha256_of_file(path: str | os.PathLike) -> str:
    """SHA-256 of the content of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()  # hashlib.file_digest is missing in Python 3.10
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
