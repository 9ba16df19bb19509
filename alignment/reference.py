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

from .errors import MissingReferenceError, ReferenceFailedError
from .exchange import read_arrays, write_arrays

RUN = Path(__file__).parent / "torch_side" / "run.py"
INSTALL = "pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu (or `make align`)"


class ArrayFile(NamedTuple):
    """Arrays on disk, and what is in them."""

    path: Path
    digest: str


class Reference:
    """Starts the other process at the first question; use as a context manager.

    `python` is any interpreter with torch and numpy. With `recordings`, a folder, every answer is kept there, and a
    question that was answered before is answered from there: without torch, on another machine, years later.
    """

    def __init__(self, python: str = sys.executable, recordings: Path | None = None):
        self._python, self._recordings = python, recordings
        self._process = None
        self._folder = tempfile.TemporaryDirectory(prefix="alignment-")
        self._count = 0
        self._stderr = None
        if recordings:
            recordings.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Reference":
        return self

    def __exit__(self, *_) -> None:
        if self._process:
            with suppress(BrokenPipeError):  # it may be dead already
                self._process.stdin.close()
            self._process.wait(timeout=30)
            self._process.stdout.close()
            self._stderr.close()
        self._folder.cleanup()

    def put(self, arrays: Mapping[str, np.ndarray]) -> ArrayFile:
        """Arrays for a later question."""
        path = self._new_path()
        write_arrays(path, arrays)
        digest = hashlib.sha256()
        for name, array in arrays.items():
            digest.update(f"{name} {array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return ArrayFile(path, digest.hexdigest())

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
        identity = {key: value.digest if isinstance(value, ArrayFile) else value for key, value in arguments.items()}
        key = hashlib.sha256(json.dumps([operation, identity], sort_keys=True).encode()).hexdigest()[:20]
        record = self._recordings / f"{operation}-{key}.json" if self._recordings and is_recorded else None
        if record and record.is_file():
            recorded = json.loads(record.read_text()) | {"arrays": str(record.with_suffix(".npz"))}
            return lambda: recorded
        plain = {key: str(value.path) if isinstance(value, ArrayFile) else value for key, value in arguments.items()}
        if output:
            output = record.with_suffix(".npz") if record else output
            plain["output"] = str(output)
        self._send({"operation": operation, "arguments": plain})

        def finish() -> dict:
            answer = self._receive(operation)
            if record:
                record.write_text(json.dumps(answer))
            return answer | {"arrays": str(output)}

        return finish

    def _send(self, request: dict) -> None:
        process = self._process or self._start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise self._why_it_died(process.wait()) from None

    def _receive(self, operation: str) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise self._why_it_died(self._process.wait())
        answer = json.loads(line)
        if "error" in answer:
            missing = answer["kind"] == "ModuleNotFoundError"
            kind = MissingReferenceError if missing and "torchvision" in answer["error"] else ReferenceFailedError
            hint = "; pip install --no-deps torchvision==0.28.0" if kind is MissingReferenceError else ""
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
            raise MissingReferenceError(f"cannot start the reference with {self._python}: {error.strerror}") from None
        return self._process

    def _why_it_died(self, code: int) -> Exception:
        self._stderr.seek(0)
        lines = self._stderr.read().strip().splitlines()
        if lines and lines[-1].startswith("ModuleNotFoundError: No module named 'torch'"):
            return MissingReferenceError(f"PyTorch is missing in {self._python}: {INSTALL}, or name one with --python")
        return ReferenceFailedError(f"the reference's process ended with code {code}:\n" + "\n".join(lines[-5:]))

    def _new_path(self) -> Path:
        self._count += 1
        return Path(self._folder.name) / f"{self._count}.npz"
