"""Worker pools: processes or threads that fill batches of pixels ahead of their use, and return them in order."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import cache
from typing import Protocol

import numpy as np

from common.errors import MissingDependencyError
from common.printable import print_safely

from .process_pool import ProcessPool
from .sample import SLOTS_PER_WORKER, Failure, FilledBatch, SampleMaker, Task, batches_in_order, fill_batch

SHARED_MEMORY = "/dev/shm"  # where multiprocessing allocates it on Linux


class WorkerPool(Protocol):
    """What fills batches: worker processes, worker threads, or the calling thread itself."""

    def batches(self, tasks: Iterable[Task]) -> Iterator[FilledBatch]:
        """Fill one batch per task; batches come in the order of `tasks`, which are read a few ahead."""
        ...

    def current_image(self) -> str:
        """Path and index of the image that the next batch waits for, for a message; any thread may call this."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...


def open_pool(
    samples: SampleMaker, batch_size: int, num_workers: int, worker_type: str, *, replaces_workers: bool = False
) -> WorkerPool:
    """Start the workers of a loader.

    Args:
        samples: makes one row of pixels from one image file.
        batch_size: rows of the largest batch.
        num_workers: number of processes or threads; 0 fills batches in the calling thread.
        worker_type: "process", "thread", or "auto", which starts processes, and where that is impossible prints the
            reason and starts threads.
        replaces_workers: whether a process that dies or hangs at an image is replaced, see ProcessPool.

    Raises:
        MissingDependencyError: `worker_type` is "process", and this machine cannot start or feed the processes.
    """
    if num_workers == 0:
        return SerialPool(samples, batch_size)
    if worker_type == "thread":
        return ThreadPool(samples, batch_size, num_workers)
    obstacle = shared_memory_shortage(samples, batch_size, num_workers)
    if not obstacle:
        try:
            return ProcessPool(samples, batch_size, num_workers, replaces_workers=replaces_workers)
        except (OSError, AssertionError) as error:  # AssertionError: this process may not have child processes
            obstacle = f"no process can be started to read images ({error})"
    if worker_type == "process":
        raise MissingDependencyError(f"{obstacle}; --worker_type auto continues with threads")
    _warn(f"{obstacle}: continuing with {num_workers} threads, which make the same batches")
    return ThreadPool(samples, batch_size, num_workers)


def shared_memory_shortage(samples: SampleMaker, batch_size: int, num_workers: int) -> str:
    """Describe how much shared memory the batches of `num_workers` processes lack; empty if there is enough.

    A container has 64 MB of shared memory by default. A process that writes beyond the limit is killed by SIGBUS,
    without a message.
    """
    if not os.path.isdir(SHARED_MEMORY):
        return ""
    batch_bytes = 3 * batch_size * samples.side**2
    needed, free = num_workers * SLOTS_PER_WORKER * batch_bytes, shutil.disk_usage(SHARED_MEMORY).free
    if needed <= free:
        return ""
    return (
        f"{SHARED_MEMORY} has {free / 2**20:.0f} MB free, {num_workers} processes need {needed / 2**20:.0f} (give the "
        "container more, docker run --shm-size, or lower --batch_size)"
    )


@cache
def _warn(message: str) -> None:
    """Print a warning once, though the loaders of training and evaluation meet the same obstacle."""
    print_safely(f"warning: {message}", sys.stderr)


# ------------------------------------------------------------------------------------------------ the calling thread


class SerialPool:
    """Fills batches in the calling thread, with no worker."""

    def __init__(self, samples: SampleMaker, batch_size: int):
        self._samples = samples
        self._rows = np.empty((batch_size, samples.side, samples.side, 3), np.uint8)
        self._current: tuple[Task, int] | None = None  # (task, row)

    def batches(self, tasks: Iterable[Task]) -> Iterator[FilledBatch]:
        """Fill one batch per task, when it is asked for."""
        for task in tasks:
            try:
                failures = fill_batch(self._rows, self._samples, task, lambda row, task=task: self._begin(task, row))
            finally:
                self._current = None
            yield FilledBatch(task, self._rows[: len(task.indices)], failures)

    def _begin(self, task: Task, row: int) -> None:
        self._current = task, row

    def current_image(self) -> str:
        """Path and index of the image that is being read."""
        match self._current:
            case None:
                return ""
            case (task, row):
                return f"{task.paths[row]} (image {task.indices[row]})"

    def close(self) -> None:
        """There is nothing to end."""


# ------------------------------------------------------------------------------------------------------------ threads


class ThreadPool:
    """`num_workers` threads that fill the same batches as the processes of `ProcessPool`.

    Pillow, OpenCV and simplejpeg release Python's lock while they decode and resize; everything else runs in one thread
    at a time. A thread cannot be killed: a thread that hangs in a read outlives `close`.
    """

    def __init__(self, samples: SampleMaker, batch_size: int, num_workers: int):
        num_slots = num_workers * SLOTS_PER_WORKER
        self._samples = samples
        self._slots = [np.empty((batch_size, samples.side, samples.side, 3), np.uint8) for _ in range(num_slots)]
        self._current_rows = [0] * num_slots
        self._futures: dict[int, Future] = {}  # by slot
        self._awaited: tuple[int, Task] | None = None  # (slot, task)
        self._is_closed = False
        self._executor = ThreadPoolExecutor(num_workers, thread_name_prefix="images")

    def batches(self, tasks: Iterable[Task]) -> Iterator[FilledBatch]:
        """Fill one batch per task; the order is that of `tasks`."""
        return batches_in_order(tasks, self._slots, self._submit, self._result)

    def _submit(self, slot: int, task: Task) -> None:
        self._current_rows[slot] = 0
        self._futures[slot] = self._executor.submit(self._fill, slot, task)

    def _fill(self, slot: int, task: Task) -> list[Failure]:
        def begin(row: int) -> None:
            if self._is_closed:
                raise CancelledError
            self._current_rows[slot] = row

        return fill_batch(self._slots[slot], self._samples, task, begin)

    def _result(self, slot: int, task: Task) -> list[Failure]:
        self._awaited = slot, task
        try:
            return self._futures.pop(slot).result()
        finally:
            self._awaited = None

    def current_image(self) -> str:
        """Path and index of the image that the next batch waits for."""
        match self._awaited:
            case None:
                return ""
            case (slot, task):
                row = self._current_rows[slot]
                return f"{task.paths[row]} (image {task.indices[row]})"

    def close(self) -> None:
        """End the threads; each finishes the image that it is reading."""
        self._is_closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)
