"""Lines of a text file that a person wrote: UTF-8 with or without BOM, any line ending, blank lines and comments."""

import os
import re
from collections.abc import Iterator

from common.errors import DataError

MAX_FAULTS_SHOWN = 3


def read_lines(path: str | os.PathLike) -> Iterator[tuple[int, bytes]]:
    """Yield (number, content) of every line that is neither blank nor a comment; numbers start at 1.

    Raises:
        DataError: the file cannot be read, or is not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
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
            shown[-1] += f" (and {len(faults) - MAX_FAULTS_SHOWN} more lines)"
        raise DataError("\n".join(shown))
