"""Threads of Paddle's CPU kernels: their number is read when Paddle is imported, and never again."""

import os
import sys
from contextlib import contextmanager

from common.cli import without_paddle_warnings
from common.cpus import cpus_of_this_rank, ranks_on_this_machine, usable_cpus

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # of the OpenMP loops, of MKL's matrix products
LARGE_SIDE = 160  # pixels of images whose steps take so long that the readers of images rarely disturb them


def import_paddle(asked: int | None = None, *, reader_side: int | None = None) -> int:
    """Import Paddle with `asked` threads for its CPU kernels; None takes `default_cpu_threads`.

    Where Paddle is already imported, as in a notebook, the number stays as it is.

    Returns:
        The number of threads, as `cpu_threads`.
    """
    if "paddle" not in sys.modules:
        os.environ.update(dict.fromkeys(VARIABLES, str(asked or default_cpu_threads(reader_side))))
        os.environ.setdefault("GLOG_minloglevel", "1")  # warnings and errors of Paddle's C++ code, no notes
        with _without_advice(), without_paddle_warnings():
            import paddle  # noqa: F401
    return cpu_threads()


def default_cpu_threads(reader_side: int | None = None) -> int:
    """OMP_NUM_THREADS of the environment, else an equal share of the processors for each rank of this machine.

    One processor of the share is left to processes that read images meanwhile, unless the images are large: the threads
    of a kernel wait for the last of them, so that a reader on one of their processors holds up all. On two processors a
    step of PeleeNet at 96 pixels took twice as long with two threads as with one, and at 224 pixels two thirds.

    Paddle's launcher sets OMP_NUM_THREADS=1 for its ranks where the user has not set the variable, so a 1 does not
    count there.

    Args:
        reader_side: side in pixels of the images that other processes read meanwhile; None: there are none.
    """
    given = os.environ.get(VARIABLES[0], "")
    is_launched = "PADDLE_LOCAL_SIZE" in os.environ
    if given.isascii() and given.isdecimal() and int(given) > int(is_launched):
        return int(given)
    return max(1, cpus_of_this_rank() - (reader_side is not None and reader_side < LARGE_SIDE))


def cpu_threads() -> int:
    """Number of threads of Paddle's CPU kernels in this process, which has imported Paddle."""
    return int(os.environ.get(VARIABLES[0], 1))  # Paddle 3.3.1 sets the variable to 1 where it has no valid value


def describe_cpu_threads() -> str:
    """One line for the log: the threads of this process, and what their number follows from."""
    ranks, cpus = ranks_on_this_machine(), usable_cpus()
    shared = f", shared by {ranks} processes" if ranks > 1 else ""
    return f"CPU threads: {cpu_threads()} (usable processors: {cpus}{shared}; --cpu_threads sets another number)"


@contextmanager
def _without_advice():
    """Leave out what Paddle 3.3.1 prints on stderr at its import with more than one thread: it is for OpenBLAS."""
    before = sys.stderr
    sys.stderr = _Filter(before)
    try:
        yield
    finally:
        sys.stderr = before


class _Filter:
    """A stream that leaves out texts about OMP_NUM_THREADS, with the line end that `print` writes after each.

    Log handlers that Paddle opens at its import keep this stream, so it passes on everything else for ever.
    """

    def __init__(self, stream):
        self._stream = stream
        self._is_line_end_left_out = False

    def write(self, text: str) -> int:
        if "OMP_NUM_THREADS" in text:
            self._is_line_end_left_out = not text.endswith("\n")
            return len(text)
        is_left_out, self._is_line_end_left_out = self._is_line_end_left_out and text == "\n", False
        return len(text) if is_left_out else self._stream.write(text)

    def __getattr__(self, name: str):
        return getattr(self._stream, name)
