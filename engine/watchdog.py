"""Ends a process in which nothing moves, or whose launcher is gone, and reports what the process was waiting for."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from common.printable import print_safely

from .preemption import Preemption
from .run_state import RunRecord

GRACE_SECONDS = 8.0  # for a run whose launcher is gone to save its state and end
STALLED = 1  # exit code


class Watchdog:
    """A thread that checks once per second whether the run moves and whether its launcher lives.

    If no batch was started or finished for `stall_seconds`, the process ends with exit code 1. If the launcher or
    supervisor that started the process dies, the run is asked to stop, and is ended 8 s later if it has not stopped.

    Args:
        stall_seconds: longest time without a batch; 0 waits without end.
        preemption: asked to stop the run when the launcher is gone.
        record: gets the reason when the watchdog ends the process.
    """

    def __init__(self, stall_seconds: float, *, preemption: Preemption, record: RunRecord):
        self._stall_seconds, self._preemption, self._record = stall_seconds, preemption, record
        self._activity: Callable[[], str] = lambda: "starting"
        self._since = time.monotonic()
        self._parent = os.getppid() if has_launcher() else None
        self._is_stopped = threading.Event()

    def start(self) -> "Watchdog":
        """Start the thread."""
        threading.Thread(target=self._check_every_second, name="watchdog", daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop the thread."""
        self._is_stopped.set()

    def watch(self, batches: Iterable, what: str, waiting_for: Callable[[], str] = str) -> Iterator:
        """Yield the same batches, and note when each one arrives.

        Args:
            batches: any iterable.
            what: the batches in words, for the message.
            waiting_for: names the file or worker for which the next batch waits.
        """
        iterator = iter(batches)
        while True:
            self._note(lambda: f"waiting for {what} {waiting_for()}".strip())
            try:
                batch = next(iterator)
            except StopIteration:
                self._note(lambda: f"at work after {what}")
                return
            self._note(lambda: f"at work on {what}")
            yield batch

    def _note(self, activity: Callable[[], str]) -> None:
        self._activity, self._since = activity, time.monotonic()

    def _check_every_second(self) -> None:
        orphaned_at = None
        while not self._is_stopped.wait(1.0):
            if self._stall_seconds:
                # A C function that keeps Python's lock stops this thread, too, but not the timer of faulthandler.
                faulthandler.dump_traceback_later(self._stall_seconds + 30, exit=True)
            idle = time.monotonic() - self._since
            if self._stall_seconds and idle > self._stall_seconds:
                self._end(f"nothing moved for {idle:.0f} s: {self._activity()}")
            if self._parent is not None and os.getppid() != self._parent:
                self._preemption.requested = True
                orphaned_at = orphaned_at or time.monotonic()
                if time.monotonic() - orphaned_at > GRACE_SECONDS:
                    self._end(f"the launcher (process {self._parent}) is gone, and the run did not stop by itself")
        faulthandler.cancel_dump_traceback_later()

    def _end(self, message: str) -> None:
        self._record.failed(STALLED, message)
        print_safely(f"error: {message}; the stack of each thread:", sys.stderr)
        faulthandler.dump_traceback(all_threads=True)
        os._exit(STALLED)


def has_launcher() -> bool:
    """Whether Paddle's launcher or the supervisor started this process, which ends with it. A shell does not count."""
    return "PADDLE_NNODES" in os.environ or os.environ.get("SUPERVISOR_PROCESS") == str(os.getppid())
