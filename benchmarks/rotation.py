"""Contenders that are measured in rotation: each in a process of its own, which is stopped except in its turn."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple, TypeVar

from common.errors import ProjectError
from common.processes import descendants, send_signal

T = TypeVar("T")


class ContenderProcess(NamedTuple):
    """A process with a contender and its workers, stopped between its rounds: what waits actively would slow others."""

    process: multiprocessing.Process
    pipe: Connection

    def measure_round(self, request):
        """Continue the process, send it `request`, receive what it measured, and stop the process.

        Raises:
            ProjectError: the process ended.
        """
        self._signal_all(signal.SIGCONT)
        try:
            self.pipe.send(request)
            measured = self.pipe.recv()
        except (EOFError, OSError):
            raise ProjectError(f"the process of {self.process.name} ended; its message is above") from None
        self.stop()
        return measured

    def stop(self) -> None:
        """Stop the process and its workers until the next round."""
        self._signal_all(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def _signal_all(self, number: int) -> None:
        for pid in (self.process.pid, *(child.pid for child in descendants(self.process.pid))):
            send_signal(pid, number)

    def kill(self) -> None:
        """End the process and its workers."""
        self._signal_all(signal.SIGKILL)
        self.process.join()


@contextlib.contextmanager
def start_contender(name: str, run: Callable[..., None], *arguments) -> Iterator[ContenderProcess]:
    """Start the process of a contender, and wait until it is ready; it ends with the context.

    Args:
        name: of the contender, for messages.
        run: main function of the process, of (pipe, *arguments): sends one object when it is ready, then answers each
            request with what it measured.
        arguments: of `run`, after the pipe.

    Raises:
        ProjectError: the process ended before it was ready.
    """
    context = multiprocessing.get_context("spawn")
    own_end, other_end = context.Pipe()
    # No daemon: such a process may not start workers that read images.
    process = context.Process(target=run, args=(other_end, *arguments), name=name)
    process.start()
    other_end.close()
    contender = ContenderProcess(process, own_end)
    try:
        try:
            own_end.recv()
        except EOFError:
            raise ProjectError(f"the process of {name} ended; its message is above") from None
        contender.stop()
        yield contender
    finally:
        contender.kill()


def rotated(contenders: list[T], number: int) -> list[T]:
    """The order of the contenders in round `number`, so that a busy machine slows all alike."""
    first = number % len(contenders)
    return contenders[first:] + contenders[:first]
