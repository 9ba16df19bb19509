"""What Linux tells in /proc about the processes below this one."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


class Process(NamedTuple):
    """A line of /proc/*/stat."""

    pid: int
    parent: int
    is_alive: bool
    exit_status: int  # as waitpid gives it, of one that has ended and whose parent has not asked yet

    @property
    def ending(self) -> str:
        """In words."""
        if number := self.exit_status & 0x7F:
            return f"died of {signal.Signals(number).name}"
        return f"ended with {self.exit_status >> 8}"


def children(pid: int) -> list[Process]:
    return [process for process in _every() if process.parent == pid]


def descendants(pid: int) -> list[Process]:
    """All living processes below `pid`."""
    every = list(_every())
    found, newest = [], {pid}
    while newest:
        below = [process for process in every if process.parent in newest]
        found += [process for process in below if process.is_alive]
        newest = {process.pid for process in below}
    return found


def _every() -> Iterator[Process]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            yield Process(int(stat.parent.name), int(fields[1]), fields[0] not in "ZX", int(fields[49]))


def environment_of(pid: int) -> dict[str, str]:
    """The variables that a living process was started with."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        return dict(line.split("=", 1) for line in lines if "=" in line)
    return {}


def send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def adopt_orphans() -> None:
    """From now on a process whose parent dies becomes a child of this one, and can be found."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def bury_orphans(child: int) -> None:
    """Let adopted processes that have ended be gone; the exit status of `child` is its Popen's to take."""
    for process in children(os.getpid()):
        if not process.is_alive and process.pid != child:
            with suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)


def end_with_parent() -> None:
    """Called in a new process: when its parent is killed it gets a SIGTERM."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
