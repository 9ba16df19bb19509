"""Runs `python ...` in a fork of a process that has imported Paddle: the import takes longer than most programs.

In place of `subprocess.run([sys.executable, ...])` with captured text. The program has a process of its own, with its
arguments, folder, environment and streams, and imports every module of the project anew. What it cannot show is what
happens before and at the import of Paddle: the number of threads, the warnings.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

LIBRARIES = ("paddle", "numpy", "PIL.Image", "yaml", "rich.progress", "safetensors", "matplotlib.pyplot")


class Server:
    """A process that forks one process for each request; it ends with the process that has started it."""

    def __init__(self):
        self._channel, theirs = socket.socketpair()
        self._lock = threading.Lock()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOG_minloglevel": "1"}
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            self._process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()])
        atexit.register(self.close)

    def send(self, request: dict, descriptors: list[int]) -> None:
        data = json.dumps(request).encode()
        with self._lock:
            socket.send_fds(self._channel, [len(data).to_bytes(8, "big")], descriptors)
            self._channel.sendall(data)

    def close(self) -> None:
        self._channel.close()
        self._process.wait()


_servers: list[Server] = []
_lock = threading.Lock()


def server() -> Server:
    """The server of this process, which starts with the first request."""
    with _lock:
        if not _servers:
            _servers.append(Server())
    return _servers[0]


class Python:
    """A program that was started: a script, `-m module` or `-c code` with its arguments.

    Args:
        words: the command line after `python`.
        cwd: current folder of the program.
        env: environment of the program; None: that of this process.
        stdin: text that it reads.
    """

    def __init__(
        self,
        words: Sequence[object],
        *,
        cwd: str | os.PathLike,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
    ):
        self.words = [str(word) for word in words]
        request = {"words": self.words, "cwd": str(cwd), "env": dict(os.environ if env is None else env)}
        self._streams = [tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(3)]  # noqa: SIM115
        self._streams[0].write(stdin)
        self._streams[0].seek(0)
        self._answers, theirs = socket.socketpair()
        with theirs:
            server().send(request, [theirs.fileno(), *(stream.fileno() for stream in self._streams)])
        self._lines = self._answers.makefile("r")
        first = self._lines.readline()
        assert first, "the process that forks has ended; see its stderr"
        self.pid = int(first)

    def wait(self, timeout: float = 120) -> subprocess.CompletedProcess:
        """Wait for its end; call this once.

        Returns:
            The words, the exit code (negative: the signal that ended it), and the texts of stdout and stderr.

        Raises:
            subprocess.TimeoutExpired: it has not ended in time, and was killed.
        """
        self._answers.settimeout(timeout)
        with contextlib.ExitStack() as stack:
            for thing in (self._answers, self._lines, *self._streams):
                stack.callback(thing.close)
            try:
                code = int(self._lines.readline())
            except TimeoutError:
                os.kill(self.pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(self.words, timeout) from None
            for stream in self._streams[1:]:
                stream.seek(0)
            return subprocess.CompletedProcess(self.words, code, *(stream.read() for stream in self._streams[1:]))


def run_python(words: Sequence[object], *, timeout: float = 120, **how) -> subprocess.CompletedProcess:
    """Start a program as `Python` does, and wait for its end."""
    return Python(words, **how).wait(timeout)


def start_ranks(words: Sequence[object], num_ranks: int, *, env: Mapping[str, str], **how) -> list[Python]:
    """Start the ranks of one training with the environment that Paddle's launcher would give them."""
    sockets = [socket.socket() for _ in range(num_ranks)]
    for listener in sockets:
        listener.bind(("127.0.0.1", 0))
    endpoints = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in sockets]
    for listener in sockets:
        listener.close()
    shared = {
        "PADDLE_MASTER": endpoints[0],
        "PADDLE_TRAINERS_NUM": str(num_ranks),
        "PADDLE_LOCAL_SIZE": str(num_ranks),
        "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints),
    }
    return [
        Python(words, env={**env, **shared, "PADDLE_TRAINER_ID": str(rank), "PADDLE_CURRENT_ENDPOINT": endpoint}, **how)
        for rank, endpoint in enumerate(endpoints)
    ]


# --- The process that forks: started as a script, so that nothing of the project is imported in it -------------------


def serve(channel: socket.socket) -> None:
    """Fork for each request, until the other side closes; returns in a process that shall become a program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in LIBRARIES:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    gc.freeze()  # what is imported stays shared with the forks
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system collects the processes that waited for the programs
    while True:
        data, descriptors, _, _ = socket.recv_fds(channel, 8, 4)
        if not data:
            sys.exit()
        length, parts = int.from_bytes(data, "big"), []
        while length:
            parts.append(channel.recv(length))
            length -= len(parts[-1])
        if os.fork() == 0:
            channel.close()
            become_program(json.loads(b"".join(parts)), *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def become_program(request: dict, answers: int, *streams: int) -> None:
    """Return in a new process, which is set up as a program of the request; this one waits for it and tells its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid:
        os.write(answers, b"%d\n" % pid)
        status = os.waitpid(pid, 0)[1]
        with contextlib.suppress(OSError):  # nobody waits any more
            os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.close(answers)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    is_unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stdout.reconfigure(write_through=is_unbuffered)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    sys.argv = ["", *request["words"]]


def run_words() -> None:
    """Run what stands on the command line of this process, as Python itself does."""
    kind, *words = sys.argv[1:]
    if kind == "-m":
        sys.path[0], sys.argv = os.getcwd(), words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        return
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    if kind == "-c":
        code = compile(words[0], "<string>", "exec")
        sys.path[0], sys.argv = "", ["-c", *words[1:]]
    else:
        code = compile(Path(kind).read_bytes(), kind, "exec")
        sys.path[0], sys.argv = str(Path(kind).resolve().parent), [kind, *words]
        module.__file__ = kind  # processes that the program spawns import it
    exec(code, vars(module))


def end_with(function: Callable[[], None]) -> NoReturn:
    """Call a function and end this process as Python does, but for taking Paddle down, which takes 0.5 s."""
    code = 0
    try:
        function()
    except SystemExit as end:
        code = end.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
    end_with(run_words)
