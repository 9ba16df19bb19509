"""How a program runs and ends: errors become one message and an exit code, Ctrl-C leaves no traceback."""

import argparse
import difflib
import importlib.util
import itertools
import math
import os
import select
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .own_packages import check_own_packages
from .printable import print_safely

# What Paddle 3.3.1 says at import, where it needs no compiler, and at every training forward of a batch norm.
PADDLE_WARNINGS = ("No ccache found", "When training, we now always track global mean and variance")

_is_program = False  # whether `run` was called, after whose main function the process ends
MAX_NAMES = 10_000  # of a folder, that are compared with a name that is not in it
# What requirements.txt installs, by the name of the import.
REQUIRED_PACKAGES = {
    "numpy": "numpy",
    "paddle": "paddlepaddle",
    "PIL": "Pillow",
    "rich": "rich",
    "safetensors": "safetensors",
    "yaml": "PyYAML",
}


def run(main: Callable[[list[str]], int | None]) -> None:
    """Call `main(sys.argv[1:])` and exit with the code that it returns (None: 0).

    Before it, packages of other projects with the names of this project's are found (`check_own_packages`).

    An exception with an `exit_code` is printed as one message `error: ...` and becomes that exit code. An OSError that
    names a file is exit code 74, and a package of requirements.txt that is not installed is 7. Any other exception is
    a fault of the project and keeps its traceback.
    """
    global _is_program
    _is_program = True
    _ignore_paddle_warnings()
    if hasattr(sys.stdout, "reconfigure"):  # a file name that the terminal cannot show must not end a training
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        check_own_packages()
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        _run_finalizers()
        die_of_signal(signal.SIGINT)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_stdout_closed():
            die_of_signal(signal.SIGPIPE)
        exit_code, message = getattr(error, "exit_code", None), str(error)
        if exit_code is None and isinstance(error, OSError) and error.filename is not None:
            exit_code, message = 74, f"{error.filename}: {error.strerror}"
        if exit_code is None and isinstance(error, ModuleNotFoundError):
            exit_code, message = 7, _name_missing_package(error)
        if exit_code is None or message is None:
            raise
        print_safely(f"error: {message}", sys.stderr)
        sys.exit(exit_code)


def is_program() -> bool:
    """Whether this process ends with a main function of this project, so that its signals need not be given back."""
    return _is_program


@contextmanager
def without_paddle_warnings() -> Iterator[None]:
    """Leave out what Paddle says at its import, in a program of others that imports this project."""
    with warnings.catch_warnings():
        _ignore_paddle_warnings()
        yield


def _ignore_paddle_warnings() -> None:
    for message in PADDLE_WARNINGS:
        warnings.filterwarnings("ignore", message=message)


def require_packages(*modules: str) -> None:
    """End a program with exit code 7 and one message if one of `modules`, of REQUIRED_PACKAGES, is not installed.

    For programs that import them before `run` is called, which then names what is missing.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            print_safely(f"error: {_missing(module)}", sys.stderr)
            sys.exit(7)


def _name_missing_package(error: ModuleNotFoundError) -> str | None:
    """What to install, or None: any other module that is missing is a fault of the project."""
    module = (error.name or "").partition(".")[0]
    return _missing(module) if module in REQUIRED_PACKAGES else None


def _missing(module: str) -> str:
    advice = "python -m pip install -r requirements.txt (for GPUs: requirements-gpu.txt)"
    return f"{REQUIRED_PACKAGES[module]} is not installed: {advice}"


def _run_finalizers() -> None:
    """Let multiprocessing give back its semaphores, of which its tracker would print a warning."""
    if util := sys.modules.get("multiprocessing.util"):
        util._run_finalizers()


def die_of_signal(number: signal.Signals) -> None:
    """End this process by the default action of the signal: no traceback, and the caller sees which signal it was."""
    with suppress(OSError):  # the reader of stdout may be gone
        sys.stdout.flush()  # a file keeps what was printed
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _is_stdout_closed() -> bool:
    """Whether the reader of stdout is gone, as with `| head`; the pipe to a worker process may break, too."""
    if not hasattr(select, "poll"):  # Windows
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean X?` with the known word nearest to `word`, or an empty text if none has the ratio `cutoff`."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]}?" if close else ""


def did_you_mean_path(path: str | os.PathLike) -> str:
    """`; did you mean X?` with the file or folder whose name is nearest to that of a path that does not exist."""
    folder, name = os.path.split(os.path.normpath(os.fspath(path)))
    try:
        with os.scandir(folder or ".") as entries:
            names = {entry.name.casefold(): entry.name for entry in itertools.islice(entries, MAX_NAMES)}
    except OSError:
        return ""
    if names.get(name.casefold()) == name:  # it is there, and of another kind than what is asked for
        del names[name.casefold()]
    close = difflib.get_close_matches(name.casefold(), names, n=1, cutoff=0.75)
    return f"; did you mean {os.path.join(folder, names[close[0]])}?" if close else ""


def positive_int(text: str) -> int:
    """Parse the value of an argparse flag: a whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: any other text.
    """
    return _whole_number(text, 1)


def non_negative_int(text: str) -> int:
    """Parse the value of an argparse flag: a whole number of at least 0.

    Raises:
        argparse.ArgumentTypeError: any other text.
    """
    return _whole_number(text, 0)


def _whole_number(text: str, minimum: int) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 18 or int(text) < minimum:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {minimum}, got {text!r}")
    return int(text)


def home_path(text: str) -> Path:
    """Parse the value of an argparse flag: a path, in which `~` is the home folder (a shell expands it in words alone).

    `--output_dir=~/shards` reaches a program as it is written.
    """
    return Path(os.path.expanduser(text))


def non_negative_float(text: str) -> float:
    """Parse the value of an argparse flag: a finite number of at least 0.

    Raises:
        argparse.ArgumentTypeError: any other text.
    """
    with suppress(ValueError):
        if math.isfinite(number := float(text)) and number >= 0:
            return number
    raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
