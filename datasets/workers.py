"""Processes that make batches side by side and hand them over, in order, through shared memory."""

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize

import numpy as np

from .errors import DataError
from .samples import Failure, Samples, Task, fill

SLOTS_PER_WORKER = 2  # one batch being made or waiting while another is taken


class Workers:
    """`num_workers` processes, each with a pipe for tasks and `SLOTS_PER_WORKER` batches of shared memory.

    They are spawned and know nothing of Paddle. A forked worker, as of paddle.io.DataLoader, inherits Paddle's locks in
    the state that some other thread left them in, and now and then waits for ever (3.3.1: in memory::Stat::Update).
    When this process ends, in whatever way, their pipes close and they end too.
    """

    def __init__(self, samples: Samples, batch_size: int, num_workers: int):
        context = multiprocessing.get_context("spawn")
        size = batch_size * int(np.prod(samples.shape)) * np.dtype(samples.dtype).itemsize
        self._pipes: list[Connection] = []
        self._processes = []
        memory = [context.RawArray("B", size) for _ in range(num_workers * SLOTS_PER_WORKER)]
        for i in range(num_workers):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, samples, memory[i::num_workers]), daemon=True)
            process.start()
            there.close()  # now held by the worker alone, so that its death ends the pipe
            self._pipes.append(here)
            self._processes.append(process)
        self._rows = [_as_rows(block, samples) for block in memory]  # row s belongs to worker s % num_workers
        Finalize(self, _close, args=(self._pipes,), exitpriority=1)  # before multiprocessing waits for its children

    def fill(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, np.ndarray, Failure | None]]:
        """(task, rows, failure) in the order of `tasks`. The rows are reused: copy them before taking the next."""
        tasks = iter(tasks)
        waiting = deque()
        for slot, task in enumerate(islice(tasks, len(self._rows))):
            self._send(slot, task)
            waiting.append((slot, task))
        while waiting:
            slot, task = waiting.popleft()
            failure = self._receive(slot, task)
            yield task, self._rows[slot][: len(task.indices)], failure
            for task in islice(tasks, 1):
                self._send(slot, task)
                waiting.append((slot, task))

    def _send(self, slot: int, task: Task) -> None:
        number, worker = divmod(slot, len(self._pipes))
        with contextlib.suppress(BrokenPipeError):  # a dead worker is reported where its answer is missed
            self._pipes[worker].send((number, task))

    def _receive(self, slot: int, task: Task) -> Failure | None:
        worker = slot % len(self._pipes)
        try:
            return self._pipes[worker].recv()
        except (EOFError, ConnectionError):
            self._processes[worker].join(timeout=5)
            raise DataError(
                f"a worker process died (exit code {self._processes[worker].exitcode}; -9 is often lack of memory) on "
                f"its way from {task.paths[0]} to {task.paths[-1]}; fewer --num_workers need less memory"
            ) from None


def _serve(pipe: Connection, samples: Samples, memory: list) -> None:
    # Ctrl-C and batch systems signal every process of a job, but only the main one decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    slots = [_as_rows(block, samples) for block in memory]
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            number, task = pipe.recv()
            pipe.send(fill(slots[number], samples, task))


def _as_rows(block, samples: Samples) -> np.ndarray:
    return np.frombuffer(block, dtype=samples.dtype).reshape(-1, *samples.shape)


def _close(pipes: list[Connection]) -> None:
    for pipe in pipes:
        pipe.close()
