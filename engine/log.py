"""The lines of a run in the predecessor's format, and log.txt with one JSON object an epoch; rank 0 alone writes."""

import errno
import json
import os
import statistics
import time
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from common.errors import DiskError


class Meter:
    """The last 20 values of a number, and the sum of all of them."""

    WINDOW = 20

    def __init__(self):
        self.recent: deque[float] = deque(maxlen=self.WINDOW)
        self.total = 0.0
        self.count = 0

    def add(self, value: float) -> None:
        self.recent.append(value)
        self.total += value
        self.count += 1

    @property
    def mean(self) -> float:
        """Of all values."""
        return self.total / self.count if self.count else 0.0

    @property
    def recent_mean(self) -> float:
        return statistics.fmean(self.recent) if self.recent else 0.0

    @property
    def median(self) -> float:
        """Of the last values."""
        return statistics.median(self.recent) if self.recent else 0.0

    def to_dict(self) -> dict:
        return {"recent": list(self.recent), "total": self.total, "count": self.count}

    @classmethod
    def from_dict(cls, values: dict) -> "Meter":
        meter = cls()
        meter.recent.extend(values["recent"])
        meter.total, meter.count = values["total"], values["count"]
        return meter

    def __str__(self) -> str:
        return f"{self.median:.4f} ({self.mean:.4f})"


class Logger:
    """Prints lines with the time before them and, given an output folder, keeps log.txt."""

    def __init__(self, output_dir: str | Path | None = None, rank: int = 0):
        self._is_writer = rank == 0
        self._file = Path(output_dir) / "log.txt" if output_dir else None
        self._unwritten = ""

    def line(self, text: str) -> None:
        if self._is_writer:
            print(f"[{datetime.now():%H:%M:%S.%f}] {text}", flush=True)

    def record(self, numbers: dict) -> None:
        """Append the numbers of an epoch to log.txt; what a full disk does not take waits for the next epoch."""
        if not (self._is_writer and self._file):
            return
        self._unwritten += json.dumps(numbers) + "\n"
        try:
            with open(self._file, "ab", buffering=0) as file:
                before, data = file.tell(), self._unwritten.encode()
                if file.write(data) < len(data):
                    file.truncate(before)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._unwritten = ""
        except OSError as error:
            self.line(f"cannot write {self._file}: {error.strerror}; tried again after the next epoch")

    def forget_from(self, epoch: int) -> None:
        """Drop the lines of `epoch` and later: a resumed run writes them again."""
        if self._is_writer and self._file and self._file.exists():
            kept = [line for line in read_records(self._file) if line["epoch"] < epoch]
            temporary = self._file.with_name(".log.txt")
            try:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
                os.replace(temporary, self._file)
            except OSError as error:
                raise DiskError(f"cannot write {self._file}: {error.strerror}; it is as it was") from error


def read_records(path: str | Path) -> list[dict]:
    """The epochs of a log.txt; a last line that a kill cut short is left out."""
    records = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


class ProgressLog:
    """How fast a pass over `num_steps` batches goes, and the lines that say so.

    `header` is "Epoch: [3]" or "Test:". On a GPU single times mean little between two lines, their mean is right.
    """

    def __init__(self, logger: Logger, header: str, num_steps: int, *, log_every: int, first_step: int = 0):
        self._logger, self._header, self._num_steps, self._log_every = logger, header, num_steps, log_every
        self._step, self._first_step = first_step, first_step
        self._seconds, self._waiting = Meter(), Meter()
        self._started = self._last = time.perf_counter()

    def timed(self, batches: Iterable) -> Iterator:
        """The same batches; the time spent waiting for each is the `data:` of the lines."""
        iterator = iter(batches)
        while True:
            start = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._waiting.add(time.perf_counter() - start)
            yield batch

    @property
    def is_due(self) -> bool:
        """Whether the running step ends with a line: every so many, and the last."""
        return self._step % self._log_every == 0 or self._step == self._num_steps - 1

    def step_done(self, numbers: str) -> None:
        """Count a step, and print a line if one is due."""
        now = time.perf_counter()
        self._seconds.add(now - self._last)
        self._last = now
        if self.is_due:
            eta = timedelta(seconds=int(self._seconds.mean * (self._num_steps - self._step)))
            place = f"[{self._step:{len(str(self._num_steps))}}/{self._num_steps}]"
            times = f"time: {self._seconds.recent_mean:.4f}  data: {self._waiting.recent_mean:.4f}"
            self._logger.line(f"{self._header}  {place}  eta: {eta}  {numbers}  {times}")
        self._step += 1

    def finish(self) -> None:
        seconds = time.perf_counter() - self._started
        each = seconds / max(1, self._step - self._first_step)
        self._logger.line(f"{self._header} Total time: {timedelta(seconds=int(seconds))} ({each:.4f} s / it)")
