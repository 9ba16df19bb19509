"""Give back the memory of recorded models: their hooks and traces hold each other until Python collects them."""

import gc
import resource
from pathlib import Path

LARGE = 2_000_000  # kilobytes; a process that holds less has no need of it
STATM = Path("/proc/self/statm")  # of Linux; its second number is the pages that this process holds


def free_recorded_models() -> None:
    """Collect what is held in circles, in a process that holds more than two gigabytes."""
    if _held_kilobytes() > LARGE:
        gc.collect()


def _held_kilobytes() -> int:
    """The memory that this process holds; on systems that do not tell it the most that it ever held.

    The most is inherited by every process that this one starts, and one array of images that is long gone would have
    each of them collect after each model.
    """
    if STATM.exists():
        return int(STATM.read_text().split()[1]) * resource.getpagesize() // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
