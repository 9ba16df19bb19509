"""Open regular files only: a read from a pipe can wait for ever, and a device can have no end."""

import errno
import os
import stat
from typing import IO

KINDS_OF_FILES = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: str | os.PathLike, mode: str = "rb", **options) -> IO:
    """Open a regular file, or a link to one, for reading.

    Nothing else is opened: a read from a pipe can wait for ever, and a device can have no end.

    Args:
        path: the file.
        mode: "rb" or "r".
        options: `encoding`, `errors`, `newline` of `open`.

    Raises:
        OSError: the file cannot be opened, or is a folder, a pipe, a socket or a device; `strerror` says which.
    """
    check_regular(path)
    return open(path, mode, opener=_open_without_waiting, **options)


def check_regular(path: str | os.PathLike) -> None:
    """Check that `path` is a regular file, or a link to one.

    Raises:
        OSError: it does not exist, or is something else; `strerror` says what.
    """
    _refuse_special(os.stat(path).st_mode, path)


def read_regular(path: str | os.PathLike, max_bytes: int | None = None) -> bytes:
    """Read a regular file of at most `max_bytes`.

    Raises:
        OSError: the file cannot be read, is no regular file, or is larger; `strerror` says which.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if max_bytes is not None and size > max_bytes:
            raise OSError(errno.EFBIG, f"has {size:,} bytes, and at most {max_bytes:,} are read", os.fspath(path))
        # A file may grow while it is read; `read` allocates all that it is asked for, 1 GB for a list of two lines.
        return file.read() if max_bytes is None else file.read(min(max_bytes, size + 2**16))


def _open_without_waiting(path: str | os.PathLike, flags: int) -> int:
    """Open a file that may have been exchanged for a pipe after it was checked."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    try:
        _refuse_special(os.fstat(descriptor).st_mode, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_special(mode: int, path: str | os.PathLike) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        kind = KINDS_OF_FILES.get(stat.S_IFMT(mode), "a special file")
        raise OSError(errno.EINVAL, f"is {kind}, not a regular file", os.fspath(path))
