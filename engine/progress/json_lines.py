"""Files to which a run appends lines of JSON: append whole lines, read the good ones, set a damaged file aside."""

import errno
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

from common.files import set_aside, write_atomically
from common.regular_files import read_regular

logger = logging.getLogger(__name__)


def append_lines(path: Path, text: str) -> None:
    """Append whole lines to a file; where the disk takes a part of them only, the file stays as it was.

    Raises:
        OSError: the file cannot be written, or the disk is full.
    """
    data = text.encode()
    with open(path, "ab", buffering=0) as file:
        size = file.tell()
        if file.write(data) < len(data):
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_json_lines(path: str | Path) -> tuple[list[tuple[str, dict]], bool]:
    """Read the lines that are JSON objects with a whole number `epoch`.

    Returns:
        (line, object) pairs, and whether there is another line: of a damaged file. The last line of a run that was
        killed may be cut short; it is left out, and no damage.

    Raises:
        OSError: the file cannot be read, or is no regular file.
    """
    *lines, unfinished = read_regular(path).decode("utf-8", errors="replace").split("\n")
    pairs = [(line, _parsed(line)) for line in lines]
    good = [(line, record) for line, record in pairs if record]
    is_damaged = len(good) < len(lines)
    if record := _parsed(unfinished):
        good.append((unfinished, record))
    return good, is_damaged


def _parsed(line: str) -> dict | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and type(record.get("epoch")) is int and "\ufffd" not in line else None


def keep_lines(path: Path, is_kept: Callable[[dict], bool]) -> None:
    """Write a file anew with those of its good lines that `is_kept` accepts; a damaged file gets another name first.

    A damaged log must not end a training that can continue; a warning names both files.

    Raises:
        OSError: a file cannot be written; the older one is not lost.
    """
    try:
        good, is_damaged = read_json_lines(path)
    except FileNotFoundError:
        return
    except OSError:
        good, is_damaged = [], True
    if is_damaged:
        aside = set_aside(path)
        logger.warning(f"{path} is damaged: it is now {aside}, and its {len(good)} good lines are kept in a new {path}")
    write_atomically(path, "".join(line + "\n" for line, record in good if is_kept(record)))
