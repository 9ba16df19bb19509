"""Checkpoints written beside training, which waits for the copy of the arrays and for at most one write."""

import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from common.errors import DiskError

from .checkpoint import write_checkpoint
from .distributed import wait_for_first_rank
from .log import Logger
from .state import Snapshot, TrainState

LATEST, PREVIOUS = "checkpoint-latest.pd", "checkpoint-previous.pd"
BEST, BEST_EMA = "checkpoint-best.pd", "checkpoint-best-ema.pd"


class Saver:
    """Rank 0 writes for all; every rank calls each method, and all take the same decisions.

    At most one write is under way. If one fails, training goes on, and what is missing is written with the next;
    after `attempts` failures in a row a DiskError ends the run. Of the files `checkpoint-<epoch>.pd` the last `keep`
    are kept (None: all), and older ones deleted only when the new file is in its place. What was `checkpoint-latest.pd`
    becomes `checkpoint-previous.pd`, so that a damaged file costs one interval.
    """

    def __init__(
        self,
        state: TrainState,
        folder: Path,
        *,
        rank: int,
        logger: Logger,
        keep: int | None = None,
        attempts: int = 3,
        on_saved: Callable[[int, int], None] = lambda epoch, step: None,
    ):
        self._state, self._folder, self._is_writer, self._logger = state, folder, rank == 0, logger
        self._keep, self._attempts, self._on_saved = keep, attempts, on_saved
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._under_way: Future | None = None
        self._has_begun = False  # the same on all ranks, of which one writes
        self._waiting: dict[str, Snapshot] = {}  # file names in the order of writing
        self._num_failures = 0

    def save(self, *names: str) -> None:
        """Begin to write the state as it is now under each of the names; DiskError if writing failed too often."""
        self._settle()
        self._begin(names)

    def finish(self) -> None:
        """Wait until all is on the disk; what could not be written is tried once more, and then is a DiskError."""
        self._settle()
        if self._num_failures:
            self._begin(())
            if error := self._outcome():
                raise error
            self._num_failures = 0

    def _begin(self, names: tuple[str, ...]) -> None:
        self._has_begun = True
        if not self._is_writer:
            return
        snapshot = self._state.snapshot() if names else None
        for name in names:
            self._waiting.pop(name, None)
            self._waiting[name] = snapshot
        self._under_way = self._thread.submit(self._write)

    def _outcome(self) -> DiskError | None:
        under_way, self._under_way, self._has_begun = self._under_way, None, False
        return wait_for_first_rank(under_way)

    def _settle(self) -> None:
        """Learn how the last write went."""
        if not self._has_begun:
            return
        error = self._outcome()
        self._num_failures = self._num_failures + 1 if error else 0
        if error and self._num_failures >= self._attempts:
            raise error
        if error:
            count = f"failure {self._num_failures} of {self._attempts}"
            self._logger.line(f"{error}; {count}: training goes on, and the next save tries again")

    def _write(self) -> None:
        """In the thread."""
        for name, snapshot in list(self._waiting.items()):
            previous = self._folder / PREVIOUS if name == LATEST else None
            write_checkpoint(self._folder / name, *snapshot, keep_old_as=previous)
            del self._waiting[name]
            if name == LATEST:
                self._on_saved(snapshot.meta["next_epoch"], snapshot.meta["next_step"])
        if self._keep:
            # An earlier run in this folder may have left later epochs: to count them would be to delete ours.
            ours = numbered(self._folder, before=snapshot.meta["next_epoch"])
            for path in ours[: -self._keep]:
                with suppress(OSError):  # it is tried again after the next write
                    path.unlink()


def numbered(folder: Path, *, before: int) -> list[Path]:
    """The files `checkpoint-<epoch>.pd` of epochs before `before`, by epoch."""
    matches = [re.fullmatch(r"checkpoint-(\d+)\.pd", path.name) for path in folder.iterdir()]
    epochs = sorted(int(match[1]) for match in matches if match)
    return [folder / f"checkpoint-{epoch}.pd" for epoch in epochs if epoch < before]
