"""The reference as seen from the port: a process with PyTorch that answers questions, or its recorded answers."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import MissingDependencyError, OutOfMemoryError, ReferenceFailedError
from common.files import sha256_of_file, write_atomically

from .exchange import read_arrays, write_arrays
from .memory import NEXT_STEP, gigabytes, is_refused
from .user_code import imported_files

RUN = Path(__file__).parent / "torch_side" / "run.py"
INSTALL = "pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu (or `make align`)"

# {optional package of a reference: what installs it}; each without another build of torch.
PACKAGES = {
    "torchvision": "pip install --no-deps torchvision==0.28.0",
    "timm": "pip install timm==1.0.31",
    "transformers": "pip install transformers==5.24.0",
}


# {operation of torch_side/pipeline.py: the function of the user that it runs}, for messages.
PARTS = {
    "user_images": "preprocess of the ",
    "user_items": "dataset of the ",
    "user_batches": "loader of the ",
    "user_loss": "loss of the ",
    "user_metric": "metric of the ",
    "user_rates": "schedule of the ",
}


class File(NamedTuple):
    """A file that a question names; recordings identify it by its content, not by its path."""

    path: Path
    digest: str

    @classmethod
    def at(cls, path: str | Path) -> "File":
        """The file at `path`; OSError if it cannot be read."""
        return cls(Path(path).resolve(), sha256_of_file(path))


class Reference:
    """A context manager that starts the other process at the first question.

    Args:
        python: an interpreter with torch and numpy.
        recordings: folder that keeps every answer. A question that has an answer there is answered from it, without
            torch; so a comparison can be repeated on another machine.
    """

    def __init__(self, python: str = sys.executable, recordings: Path | None = None):
        self._python, self._recordings = python, recordings
        self._process = None
        self._folder = tempfile.TemporaryDirectory(prefix="alignment-")
        self._num_files = self._num_asked = self._num_answered = 0
        self._stderr = None
        if recordings:
            recordings.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Reference":
        return self

    def __exit__(self, *_) -> None:
        if self._process:
            self._process.kill()  # it may still compute an answer that is not needed any more
            self._process.wait()
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.stdout.close()
            self._stderr.close()
        self._folder.cleanup()

    def put(self, arrays: Mapping[str, np.ndarray]) -> File:
        """Write arrays to a file that a later question can name."""
        path = self._new_path()
        write_arrays(path, arrays)
        if not self._recordings:
            return File(path, path.name)  # no recording is named by the content
        digest = hashlib.sha256()
        for name, array in arrays.items():
            digest.update(f"{name} {array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return File(path, digest.hexdigest())

    def forget(self, file: File) -> None:
        """Delete a file of `put` that no later question names; in a folder in memory it would take as much of it."""
        file.path.unlink(missing_ok=True)

    def ask(self, operation: str, **arguments: object) -> dict:
        """Ask for an operation of torch_side/operations.py whose answer has no arrays; returns the answer.

        Raises:
            ReferenceFailedError: the operation raised an exception, or the process died.
            OutOfMemoryError: the memory was not enough for it.
            MissingDependencyError: the interpreter, or torch or an optional package of the reference, is missing.
        """
        return self._begin(operation, arguments, None)()

    def do(self, operation: str, **arguments: object) -> dict:
        """Ask as `ask` does, for an operation that has an effect: its answer is never taken from a recording."""
        return self._begin(operation, arguments, None, is_recorded=False)()

    def ask_arrays(self, operation: str, **arguments: object) -> tuple[dict, dict[str, np.ndarray]]:
        """Ask as `ask` does, for an operation that writes arrays; returns the answer and the arrays."""
        return self.begin(operation, **arguments)()

    def begin(self, operation: str, **arguments: object) -> Callable[[], tuple[dict, dict[str, np.ndarray]]]:
        """Ask as `ask_arrays` does without waiting; the returned function waits, and returns answer and arrays.

        The port can compute in the meantime.
        """
        output = self._new_path()
        finish = self._begin(operation, arguments, output)

        def wait() -> tuple[dict, dict[str, np.ndarray]]:
            answer = finish()
            arrays = read_arrays(Path(answer["arrays"]))
            if not self._recordings:
                output.unlink()
            return answer, arrays

        return wait

    def _begin(
        self, operation: str, arguments: dict, output: Path | None, *, is_recorded: bool = True
    ) -> Callable[[], dict]:
        record = None
        if self._recordings and is_recorded:
            question = json.dumps([operation, _map_leaves(_identity, arguments), _own_identity()], sort_keys=True)
            key = hashlib.sha256(question.encode()).hexdigest()[:20]
            record = self._recordings / f"{operation}-{key}.json"
        if record and record.is_file():
            recorded = json.loads(record.read_text()) | {"arrays": str(record.with_suffix(".npz"))}
            return lambda: recorded
        plain = _map_leaves(_path, arguments)
        if output:
            output = record.with_suffix(".npz") if record else output
            plain["output"] = str(output)
        number = self._send({"operation": operation, "arguments": plain})

        def finish() -> dict:
            answer = self._receive(operation, number)
            if record:
                write_atomically(record, json.dumps(answer))
            return answer | {"arrays": str(output)}

        return finish

    def _send(self, request: dict) -> int:
        """Send a question and return its number; answers come in the order of the questions."""
        process = self._process or self._start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise self._error_of_end() from None
        self._num_asked += 1
        return self._num_asked

    def _receive(self, operation: str, number: int) -> dict:
        line = ""
        while self._num_answered < number:  # earlier answers were not awaited, because the port failed
            line = self._process.stdout.readline()
            if not line:
                raise self._error_of_end()
            self._num_answered += 1
        answer = json.loads(line)
        if "error" in answer:
            text = f"the {PARTS.get(operation, '')}reference failed: {answer['error']}"
            if answer["kind"] == "ModuleNotFoundError" and (command := _install_command(answer["error"])):
                raise MissingDependencyError(f"{text}; {command}, for {self._python}")
            if is_refused(answer["error"]):
                raise OutOfMemoryError(f"{text}; {NEXT_STEP}")
            raise ReferenceFailedError(text)
        return answer["answer"]

    def _start(self) -> subprocess.Popen:
        self._stderr = open(Path(self._folder.name) / "stderr.txt", "w+", encoding="utf-8")  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [self._python, str(RUN)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True
            )
        except OSError as error:
            self._stderr.close()
            raise MissingDependencyError(f"cannot start the reference with {self._python}: {error.strerror}") from None
        return self._process

    def _error_of_end(self) -> Exception:
        """The exception for a process that ended by itself."""
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGKILL:  # by the kernel, which ends the reference first: torch_side/run.py says so
            own = resource.getrusage(resource.RUSAGE_SELF)
            return OutOfMemoryError(
                f"the process of the reference was killed, so the memory was probably not enough: it held "
                f"{gigabytes(usage)}, and the process of the port {gigabytes(own)}; {NEXT_STEP}"
            )
        self._stderr.seek(0)
        lines = self._stderr.read().strip().splitlines()
        if lines and lines[-1].startswith("ModuleNotFoundError: No module named 'torch'"):
            text = f"PyTorch is missing in {self._python}: {INSTALL}, or give another interpreter with --python"
            return MissingDependencyError(text)
        return ReferenceFailedError(f"the process of the reference ended with code {code}:\n" + "\n".join(lines[-5:]))

    def _new_path(self) -> Path:
        self._num_files += 1
        return Path(self._folder.name) / f"{self._num_files}.npz"


def _install_command(message: str) -> str:
    """What installs the package that an import missed; an empty text for a module that is of no known package."""
    name = message.rpartition("No module named ")[2].strip("'\"").partition(".")[0]
    return PACKAGES.get(name, "")


def _identity(value: object) -> object:
    """What identifies a value of a question in a recording: of a file, and of a model's source, the content.

    The source is the file that is named and the files beside it that it imports. Other files in its folder do not
    count: the port may be one of them, and a change of the port must not ask the reference again.
    """
    if isinstance(value, File):
        return value.digest
    if isinstance(value, str) and ".py:" in value and Path(value.rpartition(":")[0]).is_file():
        path, _, name = value.rpartition(":")
        return f"{_digest(imported_files(Path(path)))}:{name}"
    return value


@cache
def _own_identity() -> str:
    """What identifies the code that answers: another version of the tool may give another answer."""
    return _digest(imported_files(RUN, RUN.parents[2]))


def _digest(paths: list[Path]) -> str:
    return hashlib.sha256("".join(map(sha256_of_file, paths)).encode()).hexdigest()


def _path(value: object) -> object:
    return str(value.path) if isinstance(value, File) else value


def _map_leaves(change: Callable[[object], object], value: object) -> object:
    """`value` with `change` applied to everything in its tables and lists."""
    if isinstance(value, dict):
        return {key: _map_leaves(change, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_leaves(change, item) for item in value]
    return change(value)
