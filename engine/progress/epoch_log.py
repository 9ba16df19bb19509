"""log.txt: one JSON object per epoch."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from common.files import disk_errors

from .json_lines import append_lines, keep_lines, read_json_lines

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
                self._append()
            except OSError as error:
                logger.warning(f"cannot write {self._file}: {error.strerror}; the next epoch tries again")
        for send in self._senders:
            send(numbers)

    def finish(self) -> None:
        """Write what a full disk did not take before.

        Raises:
            DiskError: it still does not take it.
        """
        if self._unwritten:
            with disk_errors(self._file):
                self._append()

    def _append(self) -> None:
        append_lines(self._file, self._unwritten)
        self._unwritten = ""

    def forget_from(self, epoch: int) -> None:
        """Remove the lines of `epoch` and of later epochs, which a resumed run writes again; set a damaged file aside.

        Raises:
            DiskError: the file cannot be written; it is untouched.
        """
        if self._file:
            with disk_errors(self._file):
                keep_lines(self._file, lambda record: record["epoch"] < epoch)


def best_epoch(folder: Path) -> str:
    """` in epoch N` of the highest accuracy in log.txt, for a message; "" if log.txt does not tell."""
    try:
        records = [one for one in read_records(folder / FILE) if is_number(one.get("test_acc1"))]
    except OSError:
        records = []
    return f" in epoch {max(records, key=rank_of_epoch)['epoch']}" if records else ""


def rank_of_epoch(record: dict) -> tuple[float, float]:
    """What the best epoch has the largest of: the accuracy, and of equal ones the smallest loss."""
    loss = record.get("test_loss")
    return record["test_acc1"], -loss if is_number(loss) else float("-inf")


def is_number(value: object) -> bool:
    """Whether a value of a line is one, which somebody may have edited."""
    return isinstance(value, int | float)


def read_records(path: str | Path) -> list[dict]:
    """Read the epochs of a log.txt; lines that are damaged, or cut short because the run was killed, are ignored."""
    return [record for _, record in read_json_lines(path)[0]]
