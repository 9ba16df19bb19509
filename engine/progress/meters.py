"""Running means of numbers, and the log lines that say how fast a pass over batches goes."""

import logging
import statistics
import time
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import timedelta

from .live_line import NOT_SHOWN, LiveLine

logger = logging.getLogger(__name__)


class Meter:
    """Keeps the last 20 values of a number, and the sum and count of all values."""

    WINDOW = 20

    def __init__(self):
        self.recent: deque[float] = deque(maxlen=self.WINDOW)
        self.total = 0.0
        self.count = 0

    def add(self, value: float) -> None:
        """Add one value."""
        self.recent.append(value)
        self.total += value
        self.count += 1

    @property
    def mean(self) -> float:
        """Mean of all values."""
        return self.total / self.count if self.count else 0.0

    @property
    def recent_mean(self) -> float:
        """Mean of the last values."""
        return statistics.fmean(self.recent) if self.recent else 0.0

    @property
    def median(self) -> float:
        """Median of the last values."""
        return statistics.median(self.recent) if self.recent else 0.0

    def to_dict(self) -> dict:
        """Convert to plain JSON values; `from_dict` restores the same numbers bit for bit."""
        return {"recent": list(self.recent), "total": self.total, "count": self.count}

    @classmethod
    def from_dict(cls, values: dict) -> "Meter":
        """Create a meter from the values of `to_dict`.

        Raises:
            KeyError: a value is missing.
        """
        meter = cls()
        meter.recent.extend(values["recent"])
        meter.total, meter.count = values["total"], values["count"]
        return meter

    def __str__(self) -> str:
        return f"{self.median:.4f} ({self.mean:.4f})"


class ProgressLog:
    """Measures a pass over batches and logs one line every `log_every` steps; on a terminal the live line shows them.

    On a GPU the host does not wait for the device between two lines: the time of a single step says little there, the
    mean over many steps is right.

    Args:
        header: start of each line, "Epoch: [3]" or "Test:".
        num_steps: number of steps of the whole pass.
        log_every: steps between two lines.
        first_step: number of the step with which a resumed pass begins.
        live: the line of a terminal; one that is not shown changes nothing.
    """

    def __init__(
        self,
        header: str,
        num_steps: int,
        *,
        log_every: int,
        first_step: int = 0,
        live: LiveLine = NOT_SHOWN,
    ):
        self._header, self._num_steps, self._log_every = header, num_steps, log_every
        self._step, self._first_step = first_step, first_step
        self._live = live
        self._seconds, self._waiting, self._images = Meter(), Meter(), Meter()
        self._started = self._last = time.perf_counter()

    def timed(self, batches: Iterable) -> Iterator:
        """Yield the same batches; the log lines give the time spent waiting for a batch as `data:`."""
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
        """Whether the current step ends with a line: every `log_every` steps, and the last step."""
        return self._step % self._log_every == 0 or self._step == self._num_steps - 1

    @property
    def images_per_second(self) -> float:
        """Images of all ranks per second over the last steps; 0 where the images are not counted."""
        return self._images.recent_mean / self._seconds.recent_mean if self._seconds.recent_mean else 0.0

    @property
    def waiting_share(self) -> float:
        """Share of the time of the last steps in which this process waited for a batch, 0 to 1."""
        return min(1.0, self._waiting.recent_mean / self._seconds.recent_mean) if self._seconds.recent_mean else 0.0

    def step_done(self, numbers: str, num_images: int = 0) -> None:
        """Count one step of `num_images` on all ranks, and log a line with `numbers` if one is due."""
        now = time.perf_counter()
        self._seconds.add(now - self._last)
        self._last = now
        self._images.add(num_images)
        if self._live.is_drawn:
            self._live.show(self._header, (self._step, self._num_steps), numbers, self)
        elif self.is_due:
            eta = timedelta(seconds=int(self._seconds.mean * (self._num_steps - self._step)))
            place = f"[{self._step:{len(str(self._num_steps))}}/{self._num_steps}]"
            times = f"time: {self._seconds.recent_mean:.4f}  data: {self._waiting.recent_mean:.4f}"
            rate = f"  images/s: {self.images_per_second:.1f}" if num_images else ""
            logger.info(f"{self._header}  {place}  eta: {eta}  {numbers}  {times}{rate}")
        self._step += 1

    @property
    def seconds_per_step(self) -> float:
        """Mean over the steps of this pass."""
        return self._seconds.mean

    def finish(self) -> None:
        """Log the total time."""
        seconds = time.perf_counter() - self._started
        each = seconds / max(1, self._step - self._first_step)
        self._live.pass_done(self._header, seconds)
        if not self._live.is_drawn:
            logger.info(f"{self._header} Total time: {timedelta(seconds=int(seconds))} ({each:.4f} s / it)")
