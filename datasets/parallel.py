"""Many small jobs on all processors, in order, with a progress bar: for the programs that prepare data."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from common.errors import DataError
from common.processes import exit_with_parent, signals_blocked

Job = TypeVar("Job")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, num_workers: int, title: str
) -> Iterator[Result]:
    """`function(job)` of every job, in order; the bar goes to stderr, and only to a terminal.

    Raises what `function` raises, and DataError if a worker process dies.
    """
    from rich.console import Console
    from rich.progress import track

    results = map(function, jobs) if num_workers <= 1 or len(jobs) <= 1 else _spread(function, jobs, num_workers)
    console = Console(stderr=True)
    yield from track(results, title, len(jobs), console=console, disable=not console.is_terminal)


def _spread(function: Callable[[Job], Result], jobs: Sequence[Job], num_workers: int) -> Iterator[Result]:
    others = multiprocessing.active_children()
    spawn = multiprocessing.get_context("spawn")  # the same on every platform
    pool = ProcessPoolExecutor(min(num_workers, len(jobs)), mp_context=spawn, initializer=exit_with_parent)

    def submit(job: Job) -> Future:
        with signals_blocked([signal.SIGINT]):  # here processes are started
            return pool.submit(function, job)

    try:
        rest = iter(jobs)
        waiting = [submit(job) for job in islice(rest, 4 * num_workers)]  # not a million at once
        while waiting:
            yield waiting.pop(0).result()
            waiting += [submit(job) for job in islice(rest, 1)]
    except BrokenProcessPool:
        raise DataError("a worker process died, often for lack of memory; lower --num_workers") from None
    except (KeyboardInterrupt, GeneratorExit):
        for process in set(multiprocessing.active_children()) - set(others):  # a job may take minutes
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
