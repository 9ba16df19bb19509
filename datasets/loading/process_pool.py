"""Worker processes that fill batches in shared memory, and what happens when one of them dies or hangs at an image."""

import contextlib
import multiprocessing
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize

import numpy as np

from common.errors import LostWorker
from common.printable import print_safely, printable
from common.processes import STOP_SIGNALS, exit_with_parent, signals_blocked

from .sample import SLOTS_PER_WORKER, Failure, FilledBatch, SampleMaker, Task, batches_in_order, fill_batch

# Of a pool that replaces its workers.
IMAGE_SECONDS = 200.0  # longest time at one image; twice that is less than the 900 s of --stall_seconds
ATTEMPTS = 2  # at an image: a worker may also be killed for lack of memory, and storage may not answer for minutes
MAX_LOST_WORKERS = 200  # of all images: two for each of the 100 that --max_bad_images allows


class ProcessPool:
    """`num_workers` processes, each with a pipe for tasks and `SLOTS_PER_WORKER` batches of shared memory.

    The processes are spawned and never import Paddle. A forked worker, as of paddle.io.DataLoader, inherits Paddle's
    locks in the state in which another thread holds them, and sometimes waits for ever (Paddle 3.3.1: in
    memory::Stat::Update). When this process ends, in whatever way, the pipes close and the workers end too.

    With `replaces_workers` a worker that dies, or is IMAGE_SECONDS at one image and is therefore killed, is replaced.
    The new one does the tasks of the old one again; an image at which two workers were lost is a bad image.

    Args:
        samples: makes one row of pixels from one image file.
        batch_size: rows of the largest batch.
        num_workers: number of processes.
        replaces_workers: whether lost workers are replaced.

    Raises:
        OSError: a process cannot be started, or ends before its first task: for example where the program has no file
            that a spawned process could import, or no `if __name__ == "__main__"`.
    """

    def __init__(self, samples: SampleMaker, batch_size: int, num_workers: int, *, replaces_workers: bool = False):
        self._context = multiprocessing.get_context("spawn")
        num_bytes = 3 * batch_size * samples.side**2
        self._samples, self._replaces_workers = samples, replaces_workers
        self._pipes: list[Connection] = []
        self._processes = []
        # exitpriority: this finalizer runs before multiprocessing waits for its child processes.
        self.close = Finalize(self, _kill_workers, args=(self._pipes, self._processes), exitpriority=1)
        self._current_rows = self._context.RawArray("i", num_workers)  # by worker: the row that it is filling
        self._sent: list[deque[tuple[int, Task]]] = [deque() for _ in range(num_workers)]  # by worker: unfinished tasks
        self._awaited: tuple[int, Task] | None = None  # (worker, task)
        self._num_lost: Counter[str] = Counter()  # workers, by the path of the image
        self._given_up: dict[str, str] = {}  # by path: the reason
        self._blocks = [self._context.RawArray("B", num_bytes) for _ in range(num_workers * SLOTS_PER_WORKER)]
        self._slots = [_as_rows(block, samples.side) for block in self._blocks]  # slot i: worker i % num_workers
        for worker in range(num_workers):
            pipe, process = self._start(worker)
            self._pipes.append(pipe)
            self._processes.append(process)
        for worker in range(num_workers):
            self._wait_until_ready(worker)

    def _start(self, worker: int) -> tuple[Connection, multiprocessing.Process]:
        parent_end, child_end = self._context.Pipe()
        blocks = self._blocks[worker :: len(self._sent)]
        arguments = (child_end, self._samples, blocks, self._current_rows, worker)
        process = self._context.Process(target=_run_worker, args=arguments, daemon=True)
        with signals_blocked(STOP_SIGNALS):
            process.start()
        child_end.close()  # the worker has the only open copy, so that its death closes the pipe
        return parent_end, process

    def _wait_until_ready(self, worker: int) -> None:
        try:
            self._pipes[worker].recv()
        except (EOFError, ConnectionError):
            process = self._processes[worker]
            process.join(timeout=5)
            self.close()
            raise ChildProcessError(f"a worker process ended at its start, exit code {process.exitcode}") from None

    def batches(self, tasks: Iterable[Task]) -> Iterator[FilledBatch]:
        """Fill one batch per task; the order is that of `tasks`.

        Raises:
            LostWorker: a worker process died and is not replaced; the message names the image that it was reading.
        """
        return batches_in_order(tasks, self._slots, self._send, self._receive)

    def _send(self, slot: int, task: Task) -> None:
        number, worker = divmod(slot, len(self._pipes))
        self._sent[worker].append((number, task))
        self._send_to_worker(worker, number, task)

    def _send_to_worker(self, worker: int, number: int, task: Task) -> None:
        given_up = {}
        if self._given_up:
            rows = enumerate(task.paths)
            given_up = {row: self._given_up[path] for row, path in rows if path in self._given_up}
        with contextlib.suppress(BrokenPipeError):  # `_receive` notices a dead worker
            self._pipes[worker].send((number, task, given_up))

    def _receive(self, slot: int, task: Task) -> list[Failure]:
        worker = slot % len(self._pipes)
        self._awaited = worker, task
        try:
            while True:
                hangs = self._replaces_workers and self._hangs(worker)
                try:
                    failures = self._pipes[worker].recv()
                except (EOFError, ConnectionError):
                    self._replace(worker, task, hangs=hangs)
                else:
                    self._sent[worker].popleft()
                    return failures
        finally:
            self._awaited = None

    def _hangs(self, worker: int) -> bool:
        """Wait for an answer of a worker, or kill the worker; returns whether it was killed."""
        row, since = self._current_rows[worker], time.monotonic()
        while not self._pipes[worker].poll(min(1.0, IMAGE_SECONDS / 4)):
            if self._current_rows[worker] != row:
                row, since = self._current_rows[worker], time.monotonic()
            elif time.monotonic() - since > IMAGE_SECONDS:
                self._processes[worker].kill()
                return True
        return False

    def _replace(self, worker: int, task: Task, *, hangs: bool) -> None:
        """Start another worker in place of a lost one, and send it the unfinished tasks.

        Raises:
            LostWorker: workers are not replaced, too many were lost, or the new one cannot be started.
        """
        image, path = self.current_image(), task.paths[self._current_row(worker, task)]
        self._processes[worker].join(timeout=5)
        code = self._processes[worker].exitcode
        what = f"did not answer for {IMAGE_SECONDS:.0f} s" if hangs else f"died (exit code {code})"
        if not self._replaces_workers or self._num_lost.total() == MAX_LOST_WORKERS:
            many = f", as {MAX_LOST_WORKERS} did before" if self._replaces_workers else ""
            raise LostWorker(
                f"a worker process died (exit code {code}; -9 is often lack of memory) at {image}{many}; "
                "fewer --num_workers need less memory"
            )
        self._num_lost[path] += 1
        again = "the image is tried once more"
        if self._num_lost[path] >= ATTEMPTS:
            self._given_up[path] = f"{ATTEMPTS} worker processes were lost at it, the last one {what}"
            again = "the image is given up"
        print_safely(f"warning: a worker process {what} at {printable(image)}; {again}", sys.stderr)
        self._pipes[worker].close()
        self._current_rows[worker] = 0
        try:
            self._pipes[worker], self._processes[worker] = self._start(worker)
            self._wait_until_ready(worker)
        except OSError as error:
            raise LostWorker(f"a worker process {what} at {image}, and no other one can be started: {error}") from None
        for number, unfinished in self._sent[worker]:
            self._send_to_worker(worker, number, unfinished)

    def current_image(self) -> str:
        """Path and index of the image that the next batch waits for, and the process that reads the image."""
        match self._awaited:
            case None:
                return ""
            case (worker, task):
                row = self._current_row(worker, task)
                return f"{task.paths[row]} (image {task.indices[row]}, process {self._processes[worker].pid})"

    def _current_row(self, worker: int, task: Task) -> int:
        return min(self._current_rows[worker], len(task.paths) - 1)


def _run_worker(pipe: Connection, samples: SampleMaker, blocks: list, current_rows, worker: int) -> None:
    """Main function of a worker process: fill one batch per message (slot number, task, images that were given up)."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    exit_with_parent()

    def begin(row: int) -> None:
        current_rows[worker] = row

    slots = [_as_rows(block, samples.side) for block in blocks]
    with contextlib.suppress(EOFError, ConnectionError):
        pipe.send("ready")
        while True:
            number, task, given_up = pipe.recv()
            pipe.send(fill_batch(slots[number], samples, task, begin, given_up))
            begin(0)


def _as_rows(block, side: int) -> np.ndarray:
    return np.frombuffer(block, np.uint8).reshape(-1, side, side, 3)


def _kill_workers(pipes: list[Connection], processes: list) -> None:
    for pipe in pipes:
        pipe.close()
    for process in processes:  # a worker that hangs in a read does not see the closed pipe; it has nothing to save
        process.kill()
