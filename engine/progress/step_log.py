"""metrics.jsonl: one JSON object per log line of the training and per epoch."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from .json_lines import append_lines, keep_lines
from .trackers import Tracker

logger = logging.getLogger(__name__)

FILE = "metrics.jsonl"


class StepLog:
    """Appends to metrics.jsonl, and sends the same numbers to the trackers of --log_to; only rank 0 does.

    A line that cannot be written is lost with one warning: log.txt and the checkpoints hold what the training needs.

    Args:
        folder: where metrics.jsonl is; None writes none.
        rank: number of this process.
        trackers: services and programs that show curves.
    """

    def __init__(self, folder: Path | None = None, rank: int = 0, trackers: Sequence[Tracker] = ()):
        self._file = folder / FILE if folder and rank == 0 else None
        self._trackers = trackers if rank == 0 else ()
        self._is_warned = False

    def record_step(self, epoch: int, step: int, num_steps: int, numbers: dict[str, float]) -> None:
        """Record loss, learning rate and speed of a step.

        Args:
            epoch: number of the epoch.
            step: number of the step in the epoch.
            num_steps: steps per epoch.
            numbers: values by name.
        """
        self._append({"epoch": epoch, "step": step, **numbers})
        for tracker in self._trackers:
            tracker.step(numbers, epoch * num_steps + step)

    def record_epoch(self, epoch: int, numbers: dict[str, float]) -> None:
        """Record the numbers of an epoch, those of log.txt."""
        self._append({"epoch": epoch, **numbers})
        for tracker in self._trackers:
            tracker.epoch({"epoch": epoch, **numbers}, epoch)

    def forget_from(self, epoch: int, step: int) -> None:
        """Remove the lines of `step` in `epoch` and of all that follow, which a resumed run writes again.

        A damaged file is set aside.
        """
        if not self._file:
            return
        try:
            keep_lines(self._file, lambda record: _is_before(record, epoch, step))
        except OSError as error:
            self._warn(error)

    def _append(self, numbers: dict) -> None:
        if not self._file:
            return
        try:
            append_lines(self._file, json.dumps(numbers) + "\n")
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self._is_warned:
            logger.warning(f"cannot write {self._file}: {error.strerror}; the training continues without these lines")
        self._is_warned = True


def _is_before(record: dict, epoch: int, step: int) -> bool:
    """Whether a line is of an earlier place; the line of an epoch stands after those of its steps."""
    at = record.get("step", float("inf"))
    return isinstance(at, int | float) and (record["epoch"], at) < (epoch, step)
