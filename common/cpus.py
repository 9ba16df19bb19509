"""How many processors this process may use."""

import os


def usable_cpus() -> int:
    """Number of processors that the affinity mask of this process allows, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
