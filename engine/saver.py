"""Saver: writes checkpoints in a thread; the training waits for the copy of the arrays and for at most one write."""

import logging
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

from common.errors import DiskError
from configs.schema import OutputConfig

from .checkpoint import LATEST, PREVIOUS, Mark, last_mark, write_checkpoint
from .distributed import wait_for_first_rank
from .state import Snapshot, TrainState, weights_are_finite

logger = logging.getLogger(__name__)

BEST, BEST_EMA = "checkpoint-best.pd", "checkpoint-best-ema.pd"


class Saver:
    """Writes the checkpoints of a run on rank 0; every rank calls each method, and all ranks take the same decisions.

    At most one write runs at a time. If a write fails, the training continues, and the missing files are written with
    the next ones; after `save_attempts` failures in a row a DiskError ends the run. Of the files
    `checkpoint-<epoch>.pd` the last `keep_last` are kept (None: all); an older one is deleted only when the new file is
    in its place. The older `checkpoint-latest.pd` becomes `checkpoint-previous.pd`, so that a damaged file costs the
    training of one interval at most.

    Args:
        state: the state that is saved.
        config: the branch of the config with output_dir, save_freq, save_steps, keep_last and save_attempts.
        rank: number of this process.
        on_saved: called in the writing thread with (next_epoch, next_step) after `checkpoint-latest.pd` is on the disk.
    """

    def __init__(
        self,
        state: TrainState,
        config: OutputConfig,
        *,
        rank: int = 0,
        on_saved: Callable[[int, int], None] = lambda epoch, step: None,
    ):
        self._state, self._config, self._is_writer, self._on_saved = state, config, rank == 0, on_saved
        self._folder = Path(config.output_dir)
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._write_future: Future | None = None  # on rank 0
        self._is_write_pending = False  # equal on all ranks
        self._unwritten: dict[str, tuple[Snapshot, Mark]] = {}  # by file name, in the order of writing
        self._mark = last_mark(self._folder) if self._is_writer else Mark()
        self._num_failures = 0
        self.last_saved: tuple[int, int] | None = None  # (next_epoch, next_step) of checkpoint-latest.pd

    @property
    def save_steps(self) -> int | None:
        """Steps between two saves inside an epoch."""
        return self._config.save_steps

    def numbered_names(self, epoch: int, num_epochs: int) -> list[str]:
        """The name `checkpoint-<epoch>.pd` after every `save_freq` epochs and after the last epoch, else no name."""
        is_due = (epoch + 1) % self._config.save_freq == 0 or epoch + 1 == num_epochs
        return [f"checkpoint-{epoch}.pd"] if is_due else []

    def save(self, *names: str) -> None:
        """Start writing the state as it is now under each of the names, in this order.

        Raises:
            DiskError: writing failed `save_attempts` times in a row.
        """
        self._await_write()
        self._start_write(names)
        if LATEST in names:
            self.last_saved = self._state.place

    def save_after_error(self, name: str) -> Path | None:
        """Write the state after the last whole step, when an error ends this process; the other ranks are not asked.

        Returns:
            The file that was written; None on ranks other than 0, and where a weight is not finite.

        Raises:
            DiskError: the file cannot be written.
        """
        if not self._is_writer or not weights_are_finite(self._state.model):
            return None
        if self._write_future:
            wait([self._write_future])
        path = self._folder / name
        snapshot = self._state.snapshot()
        previous = self._folder / PREVIOUS if name == LATEST else None
        write_checkpoint(path, *snapshot, keep_old_as=previous, mark=self._next_mark())
        self._on_saved(snapshot.meta["next_epoch"], snapshot.meta["next_step"])
        return path

    def finish(self) -> None:
        """Wait until all files are on the disk; a failed write is tried once more.

        Raises:
            DiskError: the second attempt failed, too.
        """
        self._await_write()
        if self._num_failures:
            self._start_write(())
            if error := self._wait_for_outcome():
                raise error
            self._num_failures = 0

    def _start_write(self, names: tuple[str, ...]) -> None:
        self._is_write_pending = True
        if not self._is_writer:
            return
        marked = (self._state.snapshot(), self._next_mark()) if names else None
        for name in names:
            self._unwritten.pop(name, None)
            self._unwritten[name] = marked
        self._write_future = self._thread.submit(self._write)

    def _next_mark(self) -> Mark:
        self._mark = self._mark._replace(count=self._mark.count + 1)
        return self._mark

    def _wait_for_outcome(self) -> DiskError | None:
        future, self._write_future, self._is_write_pending = self._write_future, None, False
        return wait_for_first_rank(future)

    def _await_write(self) -> None:
        """Wait for the pending write and count its failure."""
        if not self._is_write_pending:
            return
        error = self._wait_for_outcome()
        self._num_failures = self._num_failures + 1 if error else 0
        if error and self._num_failures >= self._config.save_attempts:
            raise error
        if error:
            count = f"failure {self._num_failures} of {self._config.save_attempts}"
            logger.warning(f"{error}; {count}: the training continues, and the next save tries again")

    def _write(self) -> None:
        """Write all unwritten files; runs in the thread."""
        for name, (snapshot, mark) in list(self._unwritten.items()):
            previous = self._folder / PREVIOUS if name == LATEST else None
            write_checkpoint(self._folder / name, *snapshot, keep_old_as=previous, mark=mark)
            del self._unwritten[name]
            if name == LATEST:
                self._on_saved(snapshot.meta["next_epoch"], snapshot.meta["next_step"])
        if keep := self._config.keep_last:
            # An earlier run may have left later epochs in this folder: counting them would delete files of this run.
            own = numbered(self._folder, before=snapshot.meta["next_epoch"])
            for path in own[:-keep]:
                with suppress(OSError):  # tried again after the next write
                    path.unlink()


def numbered(folder: Path, *, before: int) -> list[Path]:
    """List the files `checkpoint-<epoch>.pd` of the epochs before `before`, by epoch."""
    matches = [re.fullmatch(r"checkpoint-(\d+)\.pd", path.name) for path in folder.iterdir()]
    epochs = sorted(int(match[1]) for match in matches if match)
    return [folder / f"checkpoint-{epoch}.pd" for epoch in epochs if epoch < before]
