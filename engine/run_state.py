"""run_state.json: how far a run has come and how it ended, which Paddle's launcher does not tell."""

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

FILE = "run_state.json"


class RunRecord:
    """A context: enter it at the start; an exception that leaves it is written down with its exit code.

    status is running, finished, preempted (75) or failed. The first rank that fails writes: those who fail because it
    is gone come later. Without a folder it does nothing. A disk that is full cannot take the file; then the exit code
    of the process is all there is.
    """

    def __init__(self, folder: str | Path | None = None, rank: int = 0):
        self._path = Path(folder) / FILE if folder else None
        self._rank = rank
        self._facts = {"status": "running", "exit_code": None, "message": "", "next_epoch": 0, "next_step": 0}

    def __enter__(self) -> "RunRecord":
        if self._path and self._rank == 0:
            with suppress(OSError):  # who needs the folder says what is wrong with it
                self._path.parent.mkdir(parents=True, exist_ok=True)
            before = read_run_state(self._path.parent)
            self._facts |= {name: before.get(name, 0) for name in ("next_epoch", "next_step")}
            self._write()
        return self

    def saved(self, next_epoch: int, next_step: int) -> None:
        """A checkpoint is on the disk."""
        self._facts |= {"next_epoch": next_epoch, "next_step": next_step}
        self._write()

    def failed(self, exit_code: int, message: str) -> None:
        """The run ends here, unless another rank has said so before."""
        found = read_run_state(self._path.parent) if self._path else {}
        if found.get("status") == "running" and found.get("exit_code") is None:
            names = ("next_epoch", "next_step")
            status = "preempted" if exit_code == 75 else "failed"
            self._facts |= {name: found[name] for name in names if name in found}
            self._facts |= {"status": status, "exit_code": exit_code, "message": message}
            self._write()

    def __exit__(self, kind, error, _):
        if error is None and self._rank == 0:
            self._facts |= {"status": "finished", "exit_code": 0}
            self._write()
        elif error is not None:
            message = str(error).strip() or "no message"
            code = getattr(error, "exit_code", None)
            self.failed(code or 1, message if code else f"{kind.__name__}: {message}"[:2000])

    def _write(self) -> None:
        if not self._path:
            return
        facts = {**self._facts, "rank": self._rank, "host": socket.gethostname(), "process": os.getpid()}
        facts["time"] = round(time.time(), 3)
        temporary = self._path.with_name(f".{FILE}.{self._rank}")
        with suppress(OSError):
            temporary.write_text(json.dumps(facts) + "\n", encoding="utf-8")
            os.replace(temporary, self._path)


def read_run_state(folder: str | Path) -> dict:
    """The facts of the last run in `folder`; empty if there is none."""
    try:
        facts = json.loads((Path(folder) / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
