"""Contenders that are measured in rotation: each in a process of its own, which is stopped except in its turn."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple, TypeVar

from common.errors import ProjectError

T = TypeVar("T")


class ContenderProcess(NamedTuple):
    """A process with a contender, stopped between its rounds: threads that wait actively would slow the others."""

    process: multiprocessing.Process
    pipe: Connection

    def measure_round(self, request):
        """Continue the process, send it `request`, receive what it measured, and stop the process.

        Raises:
            ProjectError: the process ended.
        """
        os.kill(self.process.pid, signal.SIGCONT)
        try:
            self.pipe.send(request)
            measured = self.pipe.recv()
        except (EOFError, OSError):
            raise ProjectError(f"the process of {self.process.name} ended; its message is above") from None
        os.kill(self.process.pid, signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)  # until it is stopped
        return measured


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
    process = context.Process(target=run, args=(other_end, *arguments), name=name, daemon=True)
    process.start()
    other_end.close()
    contender = ContenderProcess(process, own_end)
    try:
        try:
            own_end.recv()
        except EOFError:
            raise ProjectError(f"the process of {name} ended; its message is above") from None
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        yield contender
    finally:
        process.kill()
        process.join()


def rotated(contenders: list[T], number: int) -> list[T]:
    """The order of the contenders in round `number`, so that a busy machine slows all alike."""
    first = number % len(contenders)
    return contenders[first:] + contenders[:first]
