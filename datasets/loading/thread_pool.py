"""Threads that make batches side by side, where processes cannot be had."""

from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import numpy as np

from .sample import Failure, SampleMaker, Task, fill_batch
from .slots import SLOTS_PER_WORKER, in_turns


class ThreadPool:
    """`num_workers` threads that do what `Workers` do, to the same batches.

    Pillow, OpenCV and simplejpeg let go of Python's lock while they work; draws, and whatever else of this process is
    Python, take turns with them. A thread cannot be stopped: one that hangs in a read outlives `close`.
    """

    def __init__(self, samples: SampleMaker, batch_size: int, num_workers: int):
        num_slots = num_workers * SLOTS_PER_WORKER
        self._samples = samples
        self._slots = [np.empty((batch_size, samples.side, samples.side, 3), np.uint8) for _ in range(num_slots)]
        self._rows_begun = [0] * num_slots
        self._futures: dict[int, Future] = {}  # by slot
        self._awaited: tuple[int, Task] | None = None  # (slot, task)
        self._is_closed = False
        self._pool = ThreadPoolExecutor(num_workers, thread_name_prefix="images")

    def fill(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, np.ndarray, list[Failure]]]:
        """As `in_turns`."""
        return in_turns(tasks, self._slots, self._send, self._receive)

    def awaited_image(self) -> str:
        """The image that the awaited thread is at, for a message; may be asked from another thread."""
        match self._awaited:
            case None:
                return ""
            case (slot, task):
                row = self._rows_begun[slot]
                return f"{task.paths[row]} (image {task.indices[row]})"

    def close(self) -> None:
        """The threads end with the image that they are at."""
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _send(self, slot: int, task: Task) -> None:
        self._rows_begun[slot] = 0
        self._futures[slot] = self._pool.submit(self._fill, slot, task)

    def _fill(self, slot: int, task: Task) -> list[Failure]:
        def begin(row: int) -> None:
            if self._is_closed:
                raise CancelledError
            self._rows_begun[slot] = row

        return fill_batch(self._slots[slot], self._samples, task, begin)

    def _receive(self, slot: int, task: Task) -> list[Failure]:
        self._awaited = slot, task
        try:
            return self._futures.pop(slot).result()
        finally:
            self._awaited = None
