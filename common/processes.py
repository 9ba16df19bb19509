"""Processes: how children are found, told to stop and kept from outliving their parent; signals; memory."""

import contextlib
import ctypes
import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h

# Ctrl-C and batch systems signal every process of a job, but only the main process decides when to stop.
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class Process(NamedTuple):
    """One line of /proc/*/stat, in which the kernel cuts the name of a program after 15 bytes, also inside a letter."""

    pid: int
    parent: int
    is_alive: bool
    exit_status: int  # as waitpid returns it; 0 while the process is alive

    @property
    def ending(self) -> str:
        """How the process ended, in words."""
        if number := self.exit_status & 0x7F:
            return f"died of {signal.Signals(number).name}"
        return f"ended with {self.exit_status >> 8}"


def children(pid: int) -> list[Process]:
    """Children of process `pid`, dead ones that were not waited for included."""
    return [process for process in _processes() if process.parent == pid]


def descendants(pid: int) -> list[Process]:
    """All living processes below process `pid`."""
    processes = list(_processes())
    living, newest = [], {pid}
    while newest:
        below = [process for process in processes if process.parent in newest]
        living += [process for process in below if process.is_alive]
        newest = {process.pid for process in below}
    return living


def _processes() -> Iterator[Process]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process ended meanwhile
            yield _parse_stat(int(stat.parent.name), stat.read_text(errors="replace"))


def _parse_stat(pid: int, text: str) -> Process:
    fields = text.rpartition(")")[2].split()
    return Process(pid, int(fields[1]), fields[0] not in "ZX", int(fields[49]))


def is_alive(pid: int) -> bool:
    """Whether process `pid` runs on this machine; a zombie does not. True where the system has no /proc."""
    try:
        return _parse_stat(pid, Path(f"/proc/{pid}/stat").read_text(errors="replace")).is_alive
    except (FileNotFoundError, ProcessLookupError):
        return not os.path.isdir("/proc/self")


def environment_of(pid: int) -> dict[str, str]:
    """The environment variables that a living process was started with; empty if they cannot be read."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        return dict(line.split("=", 1) for line in lines if "=" in line)
    return {}


def send_signal(pid: int, number: int) -> None:
    """Send a signal to process `pid`; nothing happens if the process is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent dies, so that `children` finds them (Linux)."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def reap_orphans(child: int) -> None:
    """Wait for adopted processes that have ended; the exit status of `child` is left to its Popen object."""
    for process in children(os.getpid()):
        if not process.is_alive and process.pid != child:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)


def request_stop_with_parent() -> None:
    """Ask the kernel for a SIGTERM to this process when its parent dies (Linux); to be called in the child.

    For a process that has work to save: the handler of SIGTERM decides. See `exit_with_parent` for one that has not.
    The kernel sends the signal when the *thread* that started the child ends, so the parent starts it from a thread
    that lives as long as the parent.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def exit_with_parent() -> None:
    """End this process as soon as its multiprocessing parent dies; to be called in the child, which saves nothing.

    A thread waits for the parent: a child that hangs in a read, or holds both ends of its pipe, does not see the pipe
    close. `request_stop_with_parent` would not do: workers ignore SIGTERM, and any thread may have started them.
    """
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    import multiprocessing  # 10 ms of every start

    multiprocessing.parent_process().join()
    os._exit(1)


@contextlib.contextmanager
def signals_blocked(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Block `signals` in this thread; child processes started inside inherit the mask.

    So no child dies of a signal that arrives before its own handlers are installed.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class _Stack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Give this thread its alternate signal stack back at the end of the context.

    OpenVINO sets one when it loads its plugin for a CPU with AMX, and puts back the one before when the plugin ends.
    Where two plugins live at once, that may be the stack of the other, whose memory is gone: the next signal, as Ctrl-C
    or SIGTERM, then ends the process or damages its memory. A plugin that finds another stack than its own leaves it.
    Python's handlers do not need the larger stack: faulthandler sizes its own by what the processor needs.
    """
    if sys.platform != "linux":
        yield
        return
    sigaltstack, before = ctypes.CDLL(None).sigaltstack, _Stack()
    sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        sigaltstack(ctypes.byref(before), None)


def peak_memory_mb() -> float:
    """The largest memory in MB of 2**20 bytes that this process has had.

    Of the memory that `getrusage` tells, Linux counts that of the process which has started this one, too.
    """
    import resource  # not on Windows

    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text(errors="replace"))):
        return int(found[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2 ** (20 if sys.platform == "darwin" else 10)
