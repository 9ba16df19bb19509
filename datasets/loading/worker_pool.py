"""Worker pools: processes or threads that fill batches of pixels ahead of their use, and return them in order."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import cache
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from typing import NamedTuple, Protocol

import numpy as np

from common.errors import LostWorker, MissingDependencyError
from common.printable import print_safely
from common.processes import STOP_SIGNALS, exit_with_parent, signals_blocked

from .sample import Failure, SampleMaker, Task, fill_batch

SLOTS_PER_WORKER = 2  # one slot is being filled or waits while the batch of the other is used
SHARED_MEMORY = "/dev/shm"  # where multiprocessing allocates it on Linux


class FilledBatch(NamedTuple):
    """The pixels of one task. The memory of `rows` is filled again after the next batch is taken: copy it before."""

    task: Task
    rows: np.ndarray  # [B, S, S, 3] uint8
    failures: list[Failure]  # rows that could not be filled


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


def open_pool(samples: SampleMaker, batch_size: int, num_workers: int, worker_type: str) -> WorkerPool:
    """Start the workers of a loader.

    Args:
        samples: makes one row of pixels from one image file.
        batch_size: rows of the largest batch.
        num_workers: number of processes or threads; 0 fills batches in the calling thread.
        worker_type: "process", "thread", or "auto", which starts processes, and where that is impossible prints the
            reason and starts threads.

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
            return ProcessPool(samples, batch_size, num_workers)
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


def _batches_in_order(
    tasks: Iterable[Task],
    slots: Sequence[np.ndarray],
    start: Callable[[int, Task], None],
    wait: Callable[[int, Task], list[Failure]],
) -> Iterator[FilledBatch]:
    """Keep all slots busy and yield the filled batches in the order of `tasks`.

    Args:
        tasks: one task per batch.
        slots: memory of one batch each, [batch_size, S, S, 3] uint8.
        start: starts filling slot number i for a task, and returns at once.
        wait: waits until slot number i is filled, and returns the failures.
    """
    tasks = iter(tasks)
    started = deque()
    for slot, task in enumerate(islice(tasks, len(slots))):
        start(slot, task)
        started.append((slot, task))
    while started:
        slot, task = started.popleft()
        failures = wait(slot, task)
        yield FilledBatch(task, slots[slot][: len(task.indices)], failures)
        for task in islice(tasks, 1):
            start(slot, task)
            started.append((slot, task))


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


# ---------------------------------------------------------------------------------------------------------- processes


class ProcessPool:
    """`num_workers` processes, each with a pipe for tasks and `SLOTS_PER_WORKER` batches of shared memory.

    The processes are spawned and never import Paddle. A forked worker, as of paddle.io.DataLoader, inherits Paddle's
    locks in the state in which another thread holds them, and sometimes waits for ever (Paddle 3.3.1: in
    memory::Stat::Update). When this process ends, in whatever way, the pipes close and the workers end too.

    Raises:
        OSError: a process cannot be started, or ends before its first task: for example where the program has no file
            that a spawned process could import, or no `if __name__ == "__main__"`.
    """

    def __init__(self, samples: SampleMaker, batch_size: int, num_workers: int):
        context = multiprocessing.get_context("spawn")
        num_bytes = 3 * batch_size * samples.side**2
        self._pipes: list[Connection] = []
        self._processes = []
        # exitpriority: this finalizer runs before multiprocessing waits for its child processes.
        self.close = Finalize(self, _kill_workers, args=(self._pipes, self._processes), exitpriority=1)
        self._current_rows = context.RawArray("i", num_workers)  # by worker: the row of its task that it is filling
        self._awaited: tuple[int, Task] | None = None  # (worker, task)
        blocks = [context.RawArray("B", num_bytes) for _ in range(num_workers * SLOTS_PER_WORKER)]
        for worker in range(num_workers):
            parent_end, child_end = context.Pipe()
            arguments = (child_end, samples, blocks[worker::num_workers], self._current_rows, worker)
            process = context.Process(target=_run_worker, args=arguments, daemon=True)
            with signals_blocked(STOP_SIGNALS):
                process.start()
            child_end.close()  # the worker has the only open copy, so that its death closes the pipe
            self._pipes.append(parent_end)
            self._processes.append(process)
        self._slots = [_as_rows(block, samples.side) for block in blocks]  # slot i is of worker i % num_workers
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            try:
                pipe.recv()
            except (EOFError, ConnectionError):
                process.join(timeout=5)
                self.close()
                raise ChildProcessError(f"a worker process ended at its start, exit code {process.exitcode}") from None

    def batches(self, tasks: Iterable[Task]) -> Iterator[FilledBatch]:
        """Fill one batch per task; the order is that of `tasks`.

        Raises:
            LostWorker: a worker process died; the message names the image that it was reading.
        """
        return _batches_in_order(tasks, self._slots, self._send, self._receive)

    def _send(self, slot: int, task: Task) -> None:
        number, worker = divmod(slot, len(self._pipes))
        with contextlib.suppress(BrokenPipeError):  # `_receive` reports a dead worker
            self._pipes[worker].send((number, task))

    def _receive(self, slot: int, task: Task) -> list[Failure]:
        worker = slot % len(self._pipes)
        self._awaited = worker, task
        try:
            return self._pipes[worker].recv()
        except (EOFError, ConnectionError):
            self._processes[worker].join(timeout=5)
            raise LostWorker(
                f"a worker process died (exit code {self._processes[worker].exitcode}; -9 is often lack of memory) at "
                f"{self.current_image()}; fewer --num_workers need less memory"
            ) from None
        finally:
            self._awaited = None

    def current_image(self) -> str:
        """Path and index of the image that the next batch waits for, and the process that reads the image."""
        match self._awaited:
            case None:
                return ""
            case (worker, task):
                row = min(self._current_rows[worker], len(task.paths) - 1)
                return f"{task.paths[row]} (image {task.indices[row]}, process {self._processes[worker].pid})"


def _run_worker(pipe: Connection, samples: SampleMaker, blocks: list, current_rows, worker: int) -> None:
    """Main function of a worker process: fill one batch per message (slot number, task)."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    exit_with_parent()

    def begin(row: int) -> None:
        current_rows[worker] = row

    slots = [_as_rows(block, samples.side) for block in blocks]
    with contextlib.suppress(EOFError, ConnectionError):
        pipe.send("ready")
        while True:
            number, task = pipe.recv()
            pipe.send(fill_batch(slots[number], samples, task, begin))
            begin(0)


def _as_rows(block, side: int) -> np.ndarray:
    return np.frombuffer(block, np.uint8).reshape(-1, side, side, 3)


def _kill_workers(pipes: list[Connection], processes: list) -> None:
    for pipe in pipes:
        pipe.close()
    for process in processes:  # a worker that hangs in a read does not see the closed pipe; it has nothing to save
        process.kill()


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
        return _batches_in_order(tasks, self._slots, self._submit, self._result)

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
