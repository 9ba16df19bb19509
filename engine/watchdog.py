"""Ends a process that waits for ever or whose launcher is gone, and says what it was waiting for."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from .preemption import Preemption
from .run_state import RunRecord

GRACE_SECONDS = 8.0  # to save and leave by itself when the parent is gone
STALLED = 1


class Watchdog:
    """A thread that looks every second.

    If no batch was begun or finished for `stall_seconds` (0: for ever), the process ends with exit code 1. If a
    launcher or supervisor that started it dies, the run is asked to stop, and ended 8 s later if it has not.
    """

    def __init__(self, stall_seconds: float, *, preemption: Preemption, record: RunRecord):
        self._stall_seconds, self._preemption, self._record = stall_seconds, preemption, record
        self._doing: Callable[[], str] = lambda: "starting"
        self._since = time.monotonic()
        self._parent = os.getppid() if is_kept() else None
        self._is_over = threading.Event()

    def start(self) -> "Watchdog":
        threading.Thread(target=self._guard, name="watchdog", daemon=True).start()
        return self

    def stop(self) -> None:
        self._is_over.set()

    def watch(self, batches: Iterable, what: str, waiting_for: Callable[[], str] = str) -> Iterator:
        """The same batches; `waiting_for` says more when one of them does not come."""
        iterator = iter(batches)
        while True:
            self._now(lambda: f"waiting for {what} {waiting_for()}".strip())
            try:
                batch = next(iterator)
            except StopIteration:
                self._now(lambda: f"at work after {what}")
                return
            self._now(lambda: f"at work on {what}")
            yield batch

    def _now(self, doing: Callable[[], str]) -> None:
        self._doing, self._since = doing, time.monotonic()

    def _guard(self) -> None:
        orphaned_at = None
        while not self._is_over.wait(1.0):
            if self._stall_seconds:
                # Something that never lets go of Python's lock stops this thread too; this one is in C.
                faulthandler.dump_traceback_later(self._stall_seconds + 30, exit=True)
            idle = time.monotonic() - self._since
            if self._stall_seconds and idle > self._stall_seconds:
                self._end(f"nothing moved for {idle:.0f} s: {self._doing()}")
            if self._parent is not None and os.getppid() != self._parent:
                self._preemption.requested = True
                orphaned_at = orphaned_at or time.monotonic()
                if time.monotonic() - orphaned_at > GRACE_SECONDS:
                    self._end(f"the launcher (process {self._parent}) is gone, and the run did not stop by itself")
        faulthandler.cancel_dump_traceback_later()

    def _end(self, message: str) -> None:
        self._record.failed(STALLED, message)
        print(f"error: {message}; where each thread is:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(all_threads=True)
        os._exit(STALLED)


def is_kept() -> bool:
    """Whether a launcher or supervisor started this process and shall not be outlived; a shell may be."""
    return "PADDLE_NNODES" in os.environ or os.environ.get("SUPERVISOR_PROCESS") == str(os.getppid())
