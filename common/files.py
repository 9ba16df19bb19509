"""Write files so that a reader never sees a part of one, and compute their checksums."""

import functools
import glob
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import DiskError
from .regular_files import open_regular

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

BLOCK_BYTES = 2**20
CHECKSUM_SUFFIX = ".sha256"  # of the file beside a list that says whether the list is whole
MAX_CHECKSUM_BYTES = 2**14  # of that file: a checksum and a name


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
        with _open_held(temporary, mode, options) as file:
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


def _open_held(path: Path, mode: str, options: dict) -> IO:
    """Open a file for writing and hold a lock on it, by which `remove_abandoned` knows that its writer is alive."""
    while True:
        file = open(path, mode, **options)  # noqa: SIM115 (the caller closes it)
        if try_lock(file) is False or os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # `remove_abandoned` came between the two calls


def try_lock(file: IO | int) -> bool | None:
    """Lock an open file or folder for this process, until it is closed.

    Returns:
        True; None where another process holds the lock; False where the file system or the operating system has none.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except (OSError, AttributeError):
        return False
    return True


def wait_for_lock(file: IO | int) -> None:
    """Lock an open file or folder for this process, after another one if need be; without locks, do nothing."""
    with suppress(OSError, AttributeError):
        fcntl.flock(file, fcntl.LOCK_EX)


def remove_abandoned(path: str | os.PathLike) -> list[Path]:
    """Delete the temporary files that killed writers of `path` left, and return them.

    A file whose writer lives, on this machine or on another one, stays, and so do all where the system has no locks.
    """
    path = Path(path)
    return _remove_abandoned(path.parent, f".{glob.escape(path.name)}.*.tmp")


def remove_abandoned_in(folder: str | os.PathLike) -> list[Path]:
    """Delete the temporary files that killed writers of any file of a folder left, and return them."""
    return _remove_abandoned(Path(folder), ".*.tmp")


def _remove_abandoned(folder: Path, pattern: str) -> list[Path]:
    removed = []
    for leftover in sorted(folder.glob(pattern)):
        with suppress(OSError), open_regular(leftover) as file:
            if try_lock(file):
                leftover.unlink()
                removed.append(leftover)
    return removed


def write_atomically(path: str | os.PathLike, data: bytes | str | Iterable[bytes]) -> None:
    """Write `data` (text is encoded as UTF-8) to `path`: whole or not at all, and flushed to the disk.

    Raises:
        OSError: the file cannot be written; an older file of that name is untouched.
    """
    parts = [data.encode()] if isinstance(data, str) else [data] if isinstance(data, bytes) else data
    with atomic_write(path) as file:
        file.writelines(parts)


def write_with_checksum(path: str | os.PathLike, data: bytes | str) -> None:
    """Write `data` to `path`, and its SHA-256 to `path`.sha256 in the form of `sha256sum`, which can check it.

    The checksum stands beside the file, because readers of other projects take every line of a list for an image. It
    is removed first and written last: a process that is killed at any point leaves a whole file, with its own checksum
    or with none. Temporary files of killed writers of `path` are removed.

    Raises:
        OSError: the file cannot be written; an older file of that name is untouched.
    """
    path, data = Path(path), data.encode() if isinstance(data, str) else data
    beside = path.with_name(path.name + CHECKSUM_SUFFIX)
    for name in (path, beside):
        remove_abandoned(name)
    with atomic_write(path) as file:
        file.write(data)
        file.flush()
        beside.unlink(missing_ok=True)  # as late as possible: a full disk is known by now
    write_checksum_beside(path, hashlib.sha256(data).hexdigest())


def write_checksum_beside(path: Path, sha256: str, note: str = "") -> None:
    """Write the checksum of `path` to `path`.sha256 in the form of `sha256sum`; `note` becomes a comment.

    Raises:
        OSError: the file cannot be written.
    """
    is_plain = not {"\n", "\\"} & {*path.name}
    name = path.name if is_plain else path.name.replace("\\", "\\\\").replace("\n", "\\n")
    line = f"{'' if is_plain else chr(92)}{sha256}  {name}\n" + f"# {note}\n" * bool(note)
    write_atomically(path.with_name(path.name + CHECKSUM_SUFFIX), os.fsencode(line))


def checksum_beside(path: str | os.PathLike) -> str | None:
    """The SHA-256 that `write_with_checksum` wrote beside `path`, as 64 hexadecimal digits; None if there is none.

    Raises:
        OSError: the file of the checksum cannot be read.
        ValueError: it does not begin with a checksum.
    """
    beside = Path(f"{os.fspath(path)}{CHECKSUM_SUFFIX}")
    if not beside.is_file():
        return None
    with open_regular(beside) as file:
        line = file.read(MAX_CHECKSUM_BYTES)
    if not (match := re.match(rb"\\?([0-9a-f]{64})[ \n]", line)):
        raise ValueError(f"{beside}: expected '<sha256>  <name>', got {line[:80]!r}")
    return match[1].decode()


def set_aside(path: str | os.PathLike) -> Path:
    """Rename a damaged file to `<name>.damaged`, or `<name>.damaged-2` and so on, and return its new path.

    Raises:
        OSError: the file cannot be renamed.
    """
    path = Path(path)
    names = (f"{path.name}.damaged" + (f"-{number}" if number > 1 else "") for number in itertools.count(1))
    aside = next(path.with_name(name) for name in names if not os.path.lexists(path.with_name(name)))
    os.rename(path, aside)
    return aside


def fsync_file(path: str | os.PathLike) -> None:
    """Flush the content of a file that another library has written."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


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
    with open_regular(path) as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
