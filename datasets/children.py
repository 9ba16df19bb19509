"""What the processes that this room starts have in common: they leave signals to the main one, and end with it."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator

# Ctrl-C and batch systems signal every process of a job, but only the main one decides when to stop.
FOR_THE_MAIN_PROCESS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


@contextlib.contextmanager
def signals_blocked(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """In this thread, and for ever in the processes that it starts meanwhile, which would die of one at their birth."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Called in a child. One that hangs in a read, or holds both ends of its pipe, does not see the pipe close."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
