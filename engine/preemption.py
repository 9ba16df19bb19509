"""Signals that ask a run to stop: they set a flag, and the training loop saves and ends after the current step."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator

from common.errors import Preempted
from common.processes import STOP_SIGNALS


class Preemption:
    """Handles SIGTERM, SIGINT and SIGUSR1: `requested` becomes True.

    A launcher may send several of them. A second SIGINT (Ctrl-C) interrupts the process at once.
    """

    def __init__(self):
        self.requested = False
        self._process = None
        self._former: dict[int, object] = {}  # signal -> its handler before; None for one that Python did not set

    def install(self) -> "Preemption":
        """Install the handlers, in the main thread. Importing Paddle removes handlers, so it is imported before."""
        import paddle  # noqa: F401

        self._process = os.getpid()
        for number in STOP_SIGNALS:
            self._former[number] = signal.signal(number, self._request)
        return self

    def uninstall(self) -> None:
        """Give the signals back to the handlers that were there before."""
        for number, handler in self._former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._former = {}

    def interrupting(
        self, batches: Iterable, num_common: int, any_rank: Callable[[bool], bool], *, every: int = 1
    ) -> Iterator:
        """Yield the same batches until a rank is asked to stop.

        Args:
            batches: the batches of this rank.
            num_common: number of batches that every rank has; the later ones are yielded without an exchange.
            any_rank: whether a flag is set on any rank; every rank calls this function before the same batch.
            every: batches between two calls of `any_rank`. On a GPU a call waits for the device.

        Raises:
            Preempted: on all ranks before the same batch.
        """
        for number, batch in enumerate(batches):
            if number < num_common and number % every == 0 and any_rank(self.requested):
                raise Preempted("stopped by a signal during the evaluation; continue with --resume auto")
            yield batch

    def _request(self, number: int, _: object) -> None:
        if os.getpid() != self._process:  # a forked worker, which its parent ends by SIGTERM
            if number == signal.SIGTERM:
                os._exit(0)
            return
        self.requested = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
