"""log.txt: one JSON object per epoch, and the same numbers for Weights & Biases."""

import errno
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from common.errors import MissingDependencyError
from common.files import disk_errors, write_atomically
from configs.schema import OutputConfig

logger = logging.getLogger(__name__)

FILE = "log.txt"


class EpochLog:
    """Appends the numbers of each epoch to log.txt; only rank 0 writes.

    Args:
        folder: where log.txt is; None writes none.
        rank: number of this process.
        senders: functions that get the numbers of each epoch, too.
    """

    def __init__(self, folder: Path | None = None, rank: int = 0, senders: Sequence[Callable[[dict], None]] = ()):
        self._file = folder / FILE if folder and rank == 0 else None
        self._senders = senders if rank == 0 else ()
        self._unwritten = ""

    def record(self, numbers: dict) -> None:
        """Append one line, and call the senders. What a full disk does not take is written after the next epoch."""
        if self._file:
            self._unwritten += json.dumps(numbers) + "\n"
            try:
                self._append(self._unwritten.encode())
                self._unwritten = ""
            except OSError as error:
                logger.warning(
                    f"cannot write {self._file}: {error.strerror}; the next attempt follows after the next epoch"
                )
        for send in self._senders:
            send(numbers)

    def _append(self, data: bytes) -> None:
        with open(self._file, "ab", buffering=0) as file:
            size = file.tell()
            if file.write(data) < len(data):
                file.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def forget_from(self, epoch: int) -> None:
        """Remove the lines of `epoch` and of later epochs, which a resumed run writes again.

        Raises:
            DiskError: the file cannot be written; it is untouched.
        """
        if self._file and self._file.exists():
            kept = [line for line in read_records(self._file) if line["epoch"] < epoch]
            with disk_errors(self._file):
                write_atomically(self._file, "".join(json.dumps(line) + "\n" for line in kept))


def read_records(path: str | Path) -> list[dict]:
    """Read the epochs of a log.txt; a line that is cut short because the run was killed is ignored."""
    records = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def wandb_sender(config: OutputConfig, settings: dict) -> Callable[[dict], None]:
    """Start a run at Weights & Biases, and create a function that sends the numbers of one epoch to that run.

    Raises:
        MissingDependencyError: wandb is not installed.
    """
    try:
        import wandb
    except ImportError:
        raise MissingDependencyError("--log_wandb needs the package wandb: python -m pip install wandb") from None
    run = wandb.init(entity=config.wandb_entity, project=config.wandb_project, config=settings)
    return lambda numbers: run.log(numbers, step=numbers["epoch"])
