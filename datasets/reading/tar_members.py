"""Files inside tar shards, named by their place: `train-00003.tar@1048576+40321` has 40,321 bytes from 1,048,576 on."""

import mmap
import re
from functools import lru_cache

from common.errors import BadImage

MAX_OPEN = 256  # shards that a process keeps mapped; each costs one of the usual 1,024 file descriptors

_PLACE = re.compile(r"(.*\.tar)@(\d+)\+(\d+)", re.DOTALL)


def member_place(shard: str, offset: int, size: int) -> str:
    """The path by which `read_member` reads a file of a shard, from its first byte and its number of bytes."""
    return f"{shard}@{offset}+{size}"


def is_member(path: str) -> bool:
    """Whether `path` is the place of a file in a shard."""
    return _PLACE.fullmatch(path) is not None


def read_member(path: str) -> memoryview:
    """Read the file at a place of a shard, without a copy.

    Raises:
        BadImage: the shard ends before the end of the file.
        OSError: the shard cannot be opened.
    """
    shard, offset, size = _PLACE.fullmatch(path).groups()
    content, end = _mapped(shard), int(offset) + int(size)
    if end > len(content):
        raise BadImage(path, f"the shard ends at byte {len(content)}; pack it again")
    return memoryview(content)[int(offset) : end]


@lru_cache(MAX_OPEN)
def _mapped(shard: str) -> mmap.mmap:
    with open(shard, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
