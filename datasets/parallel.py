"""Parallel map over processes, in order and with a progress bar: for the programs that prepare data."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from common.errors import LostWorker
from common.processes import exit_with_parent, signals_blocked

Job = TypeVar("Job")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, num_workers: int, title: str
) -> Iterator[Result]:
    """Yield `function(job)` for every job, in order; a progress bar is drawn on stderr if that is a terminal.

    Args:
        function: a function at module level, which a spawned process can import.
        jobs: its arguments.
        num_workers: number of processes; 0 and 1 call the function in this process.
        title: text before the progress bar.

    Raises:
        LostWorker: a process died. Errors of `function` are passed on.
    """
    from rich.console import Console
    from rich.progress import track

    in_this_process = num_workers <= 1 or len(jobs) <= 1
    results = map(function, jobs) if in_this_process else _map_in_processes(function, jobs, num_workers)
    console = Console(stderr=True)
    yield from track(results, title, len(jobs), console=console, disable=not console.is_terminal)


def _map_in_processes(function: Callable[[Job], Result], jobs: Sequence[Job], num_workers: int) -> Iterator[Result]:
    other_processes = multiprocessing.active_children()
    spawn = multiprocessing.get_context("spawn")  # the only method that every platform has
    pool = ProcessPoolExecutor(min(num_workers, len(jobs)), mp_context=spawn, initializer=exit_with_parent)

    def submit(job: Job) -> Future:
        with signals_blocked([signal.SIGINT]):  # `submit` starts processes
            return pool.submit(function, job)

    try:
        remaining = iter(jobs)
        submitted = [submit(job) for job in islice(remaining, 4 * num_workers)]  # few at a time: jobs can be a million
        while submitted:
            yield submitted.pop(0).result()
            submitted += [submit(job) for job in islice(remaining, 1)]
    except BrokenProcessPool:
        raise LostWorker("a worker process died, often for lack of memory; lower --num_workers") from None
    except (KeyboardInterrupt, GeneratorExit):
        for process in set(multiprocessing.active_children()) - set(other_processes):  # a job may take minutes
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
