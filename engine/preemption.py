"""Signals that ask a run to stop: they set a flag, and the training loop saves and leaves after the running step."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator

from common.errors import Preempted

SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")  # not every system has all of them


class Preemption:
    """`requested` becomes True when a signal arrives; a launcher sends several, a second Ctrl-C interrupts at once."""

    def __init__(self):
        self.requested = False
        self._process = None

    def install(self) -> "Preemption":
        """Listen, in the main thread. Importing Paddle removes handlers, so it is imported before."""
        import paddle  # noqa: F401

        self._process = os.getpid()
        for name in SIGNALS:
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._request)
        return self

    def interrupting(
        self, batches: Iterable, num_common: int, any_rank: Callable[[bool], bool], *, every: int = 1
    ) -> Iterator:
        """The same batches, until a rank is asked to stop: then Preempted, on all ranks before the same batch.

        `num_common` is the number of batches that every rank has at least. The ranks ask each other `every` so many
        batches; on a GPU asking means waiting for it.
        """
        for number, batch in enumerate(batches):
            if number < num_common and number % every == 0 and any_rank(self.requested):
                raise Preempted("stopped by a signal during evaluation; it is done again with --resume auto")
            yield batch

    def _request(self, number: int, _: object) -> None:
        if os.getpid() != self._process:  # a forked reader of images: it ends when its parent says so, by SIGTERM
            if number == signal.SIGTERM:
                os._exit(0)
            return
        self.requested = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
