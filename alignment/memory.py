"""Give back the memory of recorded models: their hooks and traces hold each other until Python collects them."""

import gc
import resource

LARGE = 2_000_000  # kilobytes; a process that never held more has no need of it


def free_recorded_models() -> None:
    """Collect what is held in circles, in a process that has held more than two gigabytes."""
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > LARGE:
        gc.collect()
