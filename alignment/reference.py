"""The reference as the port's process sees it: a child process with PyTorch that answers requests, or a recording."""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import MissingDependencyError, ReferenceFailedError

from .exchange import read_arrays, write_arrays

RUN = Path(__file__).parent / "torch_side" / "run.py"
INSTALL = "pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu (or `make align`)"


class File(NamedTuple):
    """A file that a question names. Recordings know it by its content, wherever it lies."""

    path: Path
    digest: str

    @classmethod
    def at(cls, path: str | Path) -> "File":
        return cls(Path(path).resolve(), hashlib.sha256(Path(path).read_bytes()).hexdigest())


class Reference:
    """Starts the other process at the first question; use as a context manager.

    `python` is any interpreter with torch and numpy. With `recordings`, a folder, every answer is kept there, and a
    question that was answered before is answered from there: without torch, on another machine, years later.
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
            self._process.kill()  # nobody waits any more for what it may still be doing
            self._process.wait()
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.stdout.close()
            self._stderr.close()
        self._folder.cleanup()

    def put(self, arrays: Mapping[str, np.ndarray]) -> File:
        """Arrays for a later question."""
        path = self._new_path()
        write_arrays(path, arrays)
        digest = hashlib.sha256()
        for name, array in arrays.items():
            digest.update(f"{name} {array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return File(path, digest.hexdigest())

    def ask(self, operation: str, **arguments: object) -> dict:
        """The plain answer to a question that returns no arrays."""
        return self._ask(operation, arguments, None)

    def do(self, operation: str, **arguments: object) -> dict:
        """Something that has an effect beside its answer: never taken from a recording."""
        return self._begin(operation, arguments, None, is_recorded=False)()

    def ask_arrays(self, operation: str, **arguments: object) -> tuple[dict, dict[str, np.ndarray]]:
        """The answer and its arrays."""
        return self.begin(operation, **arguments)()

    def begin(self, operation: str, **arguments: object) -> Callable[[], tuple[dict, dict[str, np.ndarray]]]:
        """Let the reference work while the port does; the call that is returned waits for answer and arrays."""
        output = self._new_path()
        finish = self._begin(operation, arguments, output)

        def wait() -> tuple[dict, dict[str, np.ndarray]]:
            answer = finish()
            arrays = read_arrays(Path(answer["arrays"]))
            if not self._recordings:
                output.unlink()
            return answer, arrays

        return wait

    def _ask(self, operation: str, arguments: dict, output: Path | None) -> dict:
        return self._begin(operation, arguments, output)()

    def _begin(
        self, operation: str, arguments: dict, output: Path | None, *, is_recorded: bool = True
    ) -> Callable[[], dict]:
        question = json.dumps([operation, _each(_identity, arguments)], sort_keys=True)
        key = hashlib.sha256(question.encode()).hexdigest()[:20]
        record = self._recordings / f"{operation}-{key}.json" if self._recordings and is_recorded else None
        if record and record.is_file():
            recorded = json.loads(record.read_text()) | {"arrays": str(record.with_suffix(".npz"))}
            return lambda: recorded
        plain = _each(_path, arguments)
        if output:
            output = record.with_suffix(".npz") if record else output
            plain["output"] = str(output)
        number = self._send({"operation": operation, "arguments": plain})

        def finish() -> dict:
            answer = self._receive(operation, number)
            if record:
                record.write_text(json.dumps(answer))
            return answer | {"arrays": str(output)}

        return finish

    def _send(self, request: dict) -> int:
        """The number of the question: answers come in the order of questions."""
        process = self._process or self._start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise self._why_it_died(process.wait()) from None
        self._num_asked += 1
        return self._num_asked

    def _receive(self, operation: str, number: int) -> dict:
        line = ""
        while self._num_answered < number:  # those before were to questions of a port that stopped with an error
            line = self._process.stdout.readline()
            if not line:
                raise self._why_it_died(self._process.wait())
            self._num_answered += 1
        answer = json.loads(line)
        if "error" in answer:
            missing = answer["kind"] == "ModuleNotFoundError"
            kind = MissingDependencyError if missing and "torchvision" in answer["error"] else ReferenceFailedError
            hint = "; pip install --no-deps torchvision==0.28.0" if kind is MissingDependencyError else ""
            raise kind(f"the reference failed at {operation}: {answer['error']}{hint}")
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

    def _why_it_died(self, code: int) -> Exception:
        self._stderr.seek(0)
        lines = self._stderr.read().strip().splitlines()
        if lines and lines[-1].startswith("ModuleNotFoundError: No module named 'torch'"):
            return MissingDependencyError(f"PyTorch is missing in {self._python}: {INSTALL}, or name one with --python")
        return ReferenceFailedError(f"the reference's process ended with code {code}:\n" + "\n".join(lines[-5:]))

    def _new_path(self) -> Path:
        self._num_files += 1
        return Path(self._folder.name) / f"{self._num_files}.npz"


def _identity(value: object) -> object:
    """What tells a question from another: of a file, and of the source of a model, the content and not the place."""
    if isinstance(value, File):
        return value.digest
    if isinstance(value, str) and ".py:" in value and Path(value.rpartition(":")[0]).is_file():
        path, _, name = value.rpartition(":")
        return f"{File.at(path).digest}:{name}"
    return value


def _path(value: object) -> object:
    return str(value.path) if isinstance(value, File) else value


def _each(change: Callable[[object], object], value: object) -> object:
    """`value` with everything in its tables and lists changed."""
    if isinstance(value, dict):
        return {key: _each(change, one) for key, one in value.items()}
    if isinstance(value, list):
        return [_each(change, one) for one in value]
    return change(value)
