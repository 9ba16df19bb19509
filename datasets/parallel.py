"""Parallel map over processes, in order and with a progress bar: for the programs that prepare data."""

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from common.errors import LostWorker
from common.printable import print_safely
from common.processes import exit_with_parent, signals_blocked

JOB_SECONDS = 600.0  # of a map that goes on without a job that does not end

Job = TypeVar("Job")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    num_workers: int,
    title: str,
    without: Callable[[Job], Result] | None = None,
) -> Iterator[Result]:
    """Yield `function(job)` for every job, in order; a progress bar is drawn on stderr if that is a terminal.

    Args:
        function: a function at module level, which a spawned process can import.
        jobs: its arguments.
        num_workers: number of processes; 0 and 1 call the function in this process.
        title: text before the progress bar; without it there is none.
        without: gives the result of a job whose process dies, or is ended after JOB_SECONDS, also when the job is the
            only one of its process. With it only `num_workers` 0 calls the function in this process.

    Raises:
        LostWorker: a process died, and there is no `without`. Errors of `function` are passed on.
    """
    from rich.console import Console
    from rich.progress import track

    in_this_process = num_workers == 0 or (without is None and (num_workers == 1 or len(jobs) <= 1))
    results = map(function, jobs) if in_this_process else _map_in_processes(function, jobs, num_workers, without)
    console = Console(stderr=True)
    yield from track(results, title, len(jobs), console=console, disable=not (title and console.is_terminal))


def _map_in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], num_workers: int, without: Callable[[Job], Result] | None
) -> Iterator[Result]:
    remaining, timeout = iter(jobs), JOB_SECONDS if without else None
    unfinished: deque[Job] = deque()
    while True:
        try:
            yield from _until_a_process_dies(function, remaining, unfinished, num_workers, timeout)
            return
        except BrokenProcessPool:
            if without is None:
                raise LostWorker("a worker process died, often for lack of memory; lower --num_workers") from None
            if not _can_start_processes():
                print_safely("warning: no worker process can be started; continuing without one", sys.stderr)
                yield from map(function, [*unfinished, *remaining])
                return
        for job in list(unfinished):  # one of them killed its process: each has a process of its own
            try:
                yield from _until_a_process_dies(function, iter(()), deque([job]), 1, JOB_SECONDS)
            except BrokenProcessPool:
                yield without(job)
            unfinished.popleft()


def _can_start_processes() -> bool:
    """Whether a process can be spawned: it imports the file of the program, which a program in a pipe does not have."""
    try:
        return list(_until_a_process_dies(abs, iter(()), deque([-1]), 1, JOB_SECONDS)) == [1]
    except BrokenProcessPool:
        return False


def _until_a_process_dies(
    function: Callable[[Job], Result],
    remaining: Iterator[Job],
    unfinished: deque[Job],
    num_workers: int,
    timeout: float | None,
) -> Iterator[Result]:
    """Yield the results of the unfinished jobs and of those that remain, in order.

    Args:
        function: is called with each job.
        remaining: jobs that were not begun.
        unfinished: jobs without a result; in the end also those that were taken from `remaining` since.
        num_workers: number of processes.
        timeout: seconds that a job may take when all jobs before it are finished.

    Raises:
        BrokenProcessPool: a process died, or a job took longer than the timeout.
    """
    other_processes = multiprocessing.active_children()
    spawn = multiprocessing.get_context("spawn")  # the only method that every platform has
    unfinished.extend(islice(remaining, 4 * num_workers - len(unfinished)))  # few at a time: jobs can be a million
    pool = ProcessPoolExecutor(min(num_workers, len(unfinished) or 1), mp_context=spawn, initializer=exit_with_parent)

    def submit(job: Job) -> Future:
        with signals_blocked([signal.SIGINT]):  # `submit` starts processes
            return pool.submit(function, job)

    try:
        submitted = deque(map(submit, unfinished))
        while submitted:
            result = submitted.popleft().result(timeout)
            unfinished.popleft()
            yield result
            for job in islice(remaining, 1):
                unfinished.append(job)
                submitted.append(submit(job))
    except (KeyboardInterrupt, GeneratorExit, FutureTimeoutError) as error:
        for process in set(multiprocessing.active_children()) - set(other_processes):  # a job may take minutes
            process.kill()
        if isinstance(error, FutureTimeoutError):
            raise BrokenProcessPool from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)
