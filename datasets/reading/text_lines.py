"""Lines of a text file that a person wrote: UTF-8 with or without BOM, any line ending, blank lines and comments."""

import hashlib
import os
import re
from collections.abc import Iterator

from common.errors import DataError
from common.files import CHECKSUM_SUFFIX, checksum_beside
from common.regular_files import read_regular

MAX_FAULTS_SHOWN = 3
MAX_FAULTS = 10_000  # that are counted; the file is hardly a list then
MAX_BYTES = 1 << 30  # a list of the 14 million images of ImageNet-21k has 0.6 GB
MAX_ATTEMPTS = 5  # to read a file and its checksum, while another process replaces both


def read_lines(path: str | os.PathLike, max_bytes: int = MAX_BYTES) -> Iterator[tuple[int, bytes]]:
    """Yield (number, content) of every line that is neither blank nor a comment; numbers start at 1.

    Raises:
        DataError: the file cannot be read, has more than `max_bytes`, is not UTF-8, or has another checksum than the
            file beside it says.
    """
    data = _read_whole(path, max_bytes)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: expected UTF-8 text, got byte 0x{data[error.start]:02x}; save the file as UTF-8"
        ) from None
    for number, line in enumerate(_split(data.removeprefix(b"\xef\xbb\xbf")), start=1):
        line = line.strip()
        if line and not is_comment(line):
            yield number, line


def _read_whole(path: str | os.PathLike, max_bytes: int) -> bytes:
    """Read a file, and compare it with the checksum beside it, if there is one."""
    try:
        for _ in range(MAX_ATTEMPTS):
            expected = checksum_beside(path)
            data = read_regular(path, max_bytes)
            if expected in (None, hashlib.sha256(data).hexdigest()):
                return data
    except OSError as error:
        raise DataError(f"{error.filename or path}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{error}; remove it if {path} is whole") from None
    beside = f"{path}{CHECKSUM_SUFFIX}"
    raise DataError(
        f"{path}: {len(data)} bytes, which do not have the checksum in {beside}: cut short, damaged or edited; write "
        f"the file again, or remove {beside} if it was edited on purpose"
    )


def _split(data: bytes) -> Iterator[bytes]:
    """Yield the lines one by one: a list of 1,281,167 lines would take 100 MB."""
    start = 0
    for end in re.finditer(rb"\r\n|\n|\r", data):
        yield data[start : end.start()]
        start = end.end()
    yield data[start:]


def is_comment(line: bytes) -> bool:
    """Whether a line is a comment: `#` alone or followed by a blank. Names and paths may begin with `#`."""
    return re.match(rb"#(\s|$)", line) is not None


def refuse(path: str | os.PathLike, faults: list[tuple[int, str]]) -> None:
    """Refuse a file that has faulty lines.

    Raises:
        DataError: `faults`, pairs of line number and sentence, is not empty; the message has the first ones and their
            number.
    """
    if faults:
        shown = [f"{path}:{number}: {sentence}" for number, sentence in faults[:MAX_FAULTS_SHOWN]]
        if len(faults) > MAX_FAULTS_SHOWN:
            at_least = "at least " if len(faults) >= MAX_FAULTS else ""
            num_more = len(faults) - MAX_FAULTS_SHOWN
            shown[-1] += f" (and {at_least}{num_more} more line{'s' * (num_more != 1)})"
        raise DataError("\n".join(shown))
