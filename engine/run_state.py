"""run_state.json: how far a run has come and how it ended, since Paddle's launcher does not hand on exit codes."""

import json
import logging
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from common.errors import Preempted
from common.files import set_aside, write_atomically
from common.regular_files import read_regular

logger = logging.getLogger(__name__)

FILE = "run_state.json"
MAX_BYTES = 2**20
TYPES = {
    "status": str,
    "exit_code": int | None,
    "message": str,
    "next_epoch": int,
    "next_step": int,
    "time": int | float,
}


class RunRecord:
    """Writes run_state.json; as a context it records how the run ends, with its exit code.

    The file has status (running, finished, preempted or failed), exit_code, message, next_epoch and next_step of the
    last checkpoint, rank, host, process and time. Rank 0 records the progress. Of several ranks that fail, the first
    one is recorded: the others fail because the first one is gone. A file that a full disk does not take is left out;
    the exit code of the process is then all there is.

    Args:
        folder: where the file is written; None writes nothing.
        rank: number of this process.
    """

    def __init__(self, folder: str | Path | None = None, rank: int = 0):
        self._path = Path(folder) / FILE if folder else None
        self._rank = rank
        self._facts = {"status": "running", "exit_code": None, "message": "", "next_epoch": 0, "next_step": 0}

    def __enter__(self) -> "RunRecord":
        if self._path and self._rank == 0:
            with suppress(OSError):  # the checkpoints need the same folder: their writer reports what is wrong with it
                self._path.parent.mkdir(parents=True, exist_ok=True)
            before = read_run_state(self._path.parent)
            if not before and os.path.lexists(self._path):
                _set_aside(self._path)
            self._facts |= {name: before.get(name, 0) for name in ("next_epoch", "next_step")}
            self._write()
        return self

    def saved(self, next_epoch: int, next_step: int) -> None:
        """Record that a checkpoint is on the disk, and the place in training from which it continues."""
        self._facts |= {"next_epoch": next_epoch, "next_step": next_step}
        self._write()

    def failed(self, exit_code: int, message: str) -> None:
        """Record that the run ends here, unless another rank has recorded an end before."""
        recorded = read_run_state(self._path.parent) if self._path else {}
        if recorded.get("status") == "running" and recorded.get("exit_code") is None:
            names = ("next_epoch", "next_step")
            status = "preempted" if exit_code == Preempted.exit_code else "failed"
            self._facts |= {name: recorded[name] for name in names if name in recorded}
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
        with suppress(OSError):
            write_atomically(self._path, json.dumps(facts) + "\n")


def read_run_state(folder: str | Path) -> dict:
    """Read the facts of the last run in `folder`; empty if the file is missing or damaged."""
    try:
        facts = json.loads(read_regular(Path(folder) / FILE, MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    is_sound = isinstance(facts, dict) and all(isinstance(facts.get(name), kind) for name, kind in TYPES.items())
    return facts if is_sound else {}


def _set_aside(path: Path) -> None:
    """Give a damaged file another name, so that the run goes on; without a name for it, it is replaced."""
    with suppress(OSError):
        aside = set_aside(path)
        logger.warning(f"{path} is damaged: it is now {aside}, and this run writes a new {path}")
