"""Processes that make batches side by side and hand them over, in order, through shared memory."""

import contextlib
import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize

import numpy as np

from common.errors import LostWorker
from common.processes import STOP_SIGNALS, exit_with_parent, signals_blocked

from .sample import Failure, SampleMaker, Task, fill_batch
from .slots import SLOTS_PER_WORKER, in_turns


class ProcessPool:
    """`num_workers` processes, each with a pipe for tasks and `SLOTS_PER_WORKER` batches of shared memory.

    They are spawned and know nothing of Paddle. A forked worker, as of paddle.io.DataLoader, inherits Paddle's locks in
    the state that some other thread left them in, and now and then waits for ever (3.3.1: in memory::Stat::Update).
    When this process ends, in whatever way, their pipes close and they end too.

    Raises:
        OSError: a process cannot be started, or ends before its first task, as where a program has no file that the
            process could import, or no `if __name__ == "__main__"`.
    """

    def __init__(self, samples: SampleMaker, batch_size: int, num_workers: int):
        context = multiprocessing.get_context("spawn")
        size = 3 * batch_size * samples.side**2
        self._pipes: list[Connection] = []
        self._processes = []
        # With a priority, so that it runs before multiprocessing waits for its children.
        self.close = Finalize(self, _close, args=(self._pipes, self._processes), exitpriority=1)
        self._rows_begun = context.RawArray("i", num_workers)  # by each worker, of its task: where it hangs or dies
        self._awaited: tuple[int, Task] | None = None  # (worker, task)
        memory = [context.RawArray("B", size) for _ in range(num_workers * SLOTS_PER_WORKER)]
        for i in range(num_workers):
            here, there = context.Pipe()
            arguments = (there, samples, memory[i::num_workers], self._rows_begun, i)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            with signals_blocked(STOP_SIGNALS):
                process.start()
            there.close()  # now held by the worker alone, so that its death ends the pipe
            self._pipes.append(here)
            self._processes.append(process)
        self._rows = [_as_rows(block, samples.side) for block in memory]  # row s belongs to worker s % num_workers
        self._greet()

    def _greet(self) -> None:
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            try:
                pipe.recv()
            except (EOFError, ConnectionError):
                process.join(timeout=5)
                self.close()
                raise ChildProcessError(f"a worker process ended at its start, exit code {process.exitcode}") from None

    def fill(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, np.ndarray, list[Failure]]]:
        """As `in_turns`."""
        return in_turns(tasks, self._rows, self._send, self._receive)

    def _send(self, slot: int, task: Task) -> None:
        number, worker = divmod(slot, len(self._pipes))
        with contextlib.suppress(BrokenPipeError):  # a dead worker is reported where its answer is missed
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
                f"{self.awaited_image()}; fewer --num_workers need less memory"
            ) from None
        finally:
            self._awaited = None

    def awaited_image(self) -> str:
        """The image that the awaited worker is at, for a message; may be asked from another thread."""
        match self._awaited:
            case None:
                return ""
            case (worker, task):
                row = min(self._rows_begun[worker], len(task.paths) - 1)
                return f"{task.paths[row]} (image {task.indices[row]}, process {self._processes[worker].pid})"


def _serve(pipe: Connection, samples: SampleMaker, memory: list, rows_begun, worker: int) -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    exit_with_parent()

    def begin(row: int) -> None:
        rows_begun[worker] = row

    slots = [_as_rows(block, samples.side) for block in memory]
    with contextlib.suppress(EOFError, ConnectionError):
        pipe.send("ready")
        while True:
            number, task = pipe.recv()
            pipe.send(fill_batch(slots[number], samples, task, begin))
            begin(0)


def _as_rows(block, side: int) -> np.ndarray:
    return np.frombuffer(block, np.uint8).reshape(-1, side, side, 3)


def _close(pipes: list[Connection], processes: list) -> None:
    for pipe in pipes:
        pipe.close()
    for process in processes:  # one may hang, and has nothing to lose
        process.kill()
