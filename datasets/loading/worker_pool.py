"""Who makes batches ahead of their use: processes, or threads where a program can have none."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Protocol

import numpy as np

from common.errors import MissingDependencyError

from .process_pool import ProcessPool
from .sample import Failure, SampleMaker, Task
from .slots import SLOTS_PER_WORKER
from .thread_pool import ThreadPool

SHARED_MEMORY = "/dev/shm"  # where multiprocessing makes it on Linux


class WorkerPool(Protocol):
    """What `Workers` and `Threads` have in common."""

    def fill(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, np.ndarray, list[Failure]]]: ...

    def awaited_image(self) -> str: ...

    def close(self) -> None: ...


def open_pool(samples: SampleMaker, batch_size: int, num_workers: int, worker_type: str) -> WorkerPool:
    """`num_workers` processes or threads; "auto" means processes, and threads where those cannot be had, which is said.

    Raises:
        MissingDependencyError: `worker_type` is "process", and there can be none.
    """
    if worker_type == "thread":
        return ThreadPool(samples, batch_size, num_workers)
    obstacle = describe_lack_of_memory(samples, batch_size, num_workers)
    if not obstacle:
        try:
            return ProcessPool(samples, batch_size, num_workers)
        except (OSError, AssertionError) as error:  # the latter in a process that may have no children
            obstacle = f"no process can be started to read images ({error})"
    if worker_type == "process":
        raise MissingDependencyError(f"{obstacle}; --worker_type auto goes on with threads")
    _say(f"{obstacle}: going on with {num_workers} threads, to the same batches")
    return ThreadPool(samples, batch_size, num_workers)


def describe_lack_of_memory(samples: SampleMaker, batch_size: int, num_workers: int) -> str:
    """A sentence if the batches of `num_workers` do not fit into shared memory.

    Containers have 64 MB of it unless told otherwise, and a process that writes beyond is killed without a word.
    """
    if not os.path.isdir(SHARED_MEMORY):
        return ""
    batch_bytes = 3 * batch_size * samples.side**2
    need, free = num_workers * SLOTS_PER_WORKER * batch_bytes, shutil.disk_usage(SHARED_MEMORY).free
    if need <= free:
        return ""
    return (
        f"{SHARED_MEMORY} has {free / 2**20:.0f} MB free, {num_workers} processes need {need / 2**20:.0f} (give the "
        "container more, docker run --shm-size, or lower --batch_size)"
    )


@cache
def _say(remark: str) -> None:
    """Once where training and evaluation meet the same obstacle."""
    print(f"warning: {remark}", file=sys.stderr, flush=True)
