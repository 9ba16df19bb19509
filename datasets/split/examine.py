"""Look at every picture of a plain folder once: checksum, thumbnail, and why a picture cannot be read."""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from common.cpus import usable_cpus
from common.errors import BadImage

from ..near_copies import SIDE, THUMBNAIL_BYTES, find_near_copies, group_copies, thumbnail_of
from ..reading.decode import decode, read_bytes

QUIET_SECONDS = 2.0  # a longer look says how far it is
EVERY_SECONDS = 10.0
CHUNK = 64  # pictures per job of a thread


@dataclass(frozen=True)
class Examined:
    """What is known of the pictures of a folder.

    Attributes:
        sha256: 64 hexadecimal digits of each file; "" of a file that could not be opened.
        reasons: by index, why a picture cannot be read.
        groups: [N] int64, the smallest index among the copies and near-copies of each picture.
    """

    sha256: tuple[str, ...]
    reasons: dict[int, str]
    groups: np.ndarray


def examine_pictures(root: str | os.PathLike, paths: Sequence[str]) -> Examined:
    """Read and decode all pictures once, and find copies (by checksum) and near-copies (by thumbnail).

    A JPEG is decoded at the smallest scale that the thumbnail needs: all of its data is read, as in training.
    """
    thumbnails = np.zeros((len(paths), THUMBNAIL_BYTES), np.uint8)
    aspects, checksums, reasons = np.zeros(len(paths)), [], {}
    full = [os.path.join(root, path) for path in paths]
    for index, (checksum, seen, reason) in enumerate(_with_progress(full, _look_at)):
        checksums.append(checksum)
        if seen is None:
            reasons[index] = reason
        else:
            aspects[index], thumbnails[index] = seen
    first_of: dict[str, int] = {}
    copies = [(first_of.setdefault(checksum, i), i) for i, checksum in enumerate(checksums) if i not in reasons]
    aspects[[second for first, second in copies if first != second]] = 0  # compared through their first copy
    pairs = np.concatenate([np.array(copies, np.int64).reshape(-1, 2), find_near_copies(thumbnails, aspects)])
    return Examined(tuple(checksums), reasons, group_copies(len(paths), pairs))


def checksums_of(root: str | os.PathLike, paths: Sequence[str]) -> list[str]:
    """SHA-256 of each file; "" of one that cannot be opened."""
    return list(_with_progress([os.path.join(root, path) for path in paths], _checksum))


def _look_at(path: str) -> tuple[str, tuple[float, np.ndarray] | None, str]:
    """(checksum, (width / height, thumbnail) or None, reason)."""
    checksum = ""
    try:
        data = bytes(read_bytes(path))
        checksum = hashlib.sha256(data).hexdigest()
        if not data:
            raise BadImage("", "0 bytes")
        image = decode(data, "", least_side=4 * SIDE)
        return checksum, (image.width / image.height, thumbnail_of(image)), ""
    except BadImage as error:
        return checksum, None, error.reason


def _checksum(path: str) -> str:
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except BadImage:
        return ""


def _with_progress(paths: Sequence[str], function: Callable) -> Iterator:
    """Yield the results of `function` for all paths in order, from threads; decoding runs without Python's lock."""
    started = told = time.monotonic()
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    threads, done = ThreadPoolExecutor(usable_cpus()), 0
    try:
        for results in threads.map(lambda chunk: [function(path) for path in chunk], chunks):
            yield from results
            done += len(results)
            now = time.monotonic()
            if done < len(paths) and now - started > QUIET_SECONDS and (told == started or now - told > EVERY_SECONDS):
                told, left = now, (now - started) * (len(paths) - done) / done
                print(f"{done:,} of {len(paths):,} pictures read, {left:.0f} s to go", file=sys.stderr, flush=True)
    finally:
        threads.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
