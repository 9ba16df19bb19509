"""Give memory back to the system, and tell when a process had not enough of it."""

import ctypes
import gc
import resource
import sys
from contextlib import suppress
from pathlib import Path

LARGE = 1_000_000  # kilobytes; a process that holds less has no need of it
GROWTH = 200_000  # kilobytes; a collection takes up to half a second, and finds little where less was added
_left = 0  # kilobytes that this process held after its last collection
STATM = Path("/proc/self/statm")  # of Linux; its second number is the pages that this process holds
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of ru_maxrss
# What the exceptions of numpy, torch and Paddle say.
REFUSED = ("MemoryError", "can't allocate memory", "ResourceExhaustedError", "bad_alloc")
NEXT_STEP = "give smaller inputs, for example --shape 1,3,64,64 (in the zoo --sides 64), or close other programs"


def free_recorded_models() -> None:
    """Collect what is held in circles, and return freed blocks to the system.

    Done in a process that holds a gigabyte, when it holds more than its last collection left. Recorded models, their
    hooks and their traces hold each other. What is freed stays with malloc for the next request, and blocks of other
    sizes do not fit into it.
    """
    global _left
    if _held_kilobytes() > max(LARGE, _left + GROWTH):
        gc.collect()
        with suppress(AttributeError, OSError):  # other libraries of C than that of GNU have no such function
            ctypes.CDLL(None).malloc_trim(0)
        _left = _held_kilobytes()


def _held_kilobytes() -> int:
    """The memory that this process holds; on systems that do not tell it the most that it ever held.

    The most is inherited by every process that this one starts, and one array of images that is long gone would have
    each of them collect after each model.
    """
    if STATM.exists():
        return int(STATM.read_text().split()[1]) * resource.getpagesize() // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT // 1024


def is_refused(error: Exception | str) -> bool:
    """Whether an exception, or its type and message, says that there was no memory."""
    return any(words in repr(error) for words in REFUSED)


def gigabytes(usage: "resource.struct_rusage") -> str:
    """The most memory that a process held, for a message."""
    return f"{usage.ru_maxrss * UNIT / 1e9:.1f} GB"
