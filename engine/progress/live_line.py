"""The one line at the bottom of a terminal that shows how a training goes and how long it will still take."""

import os
import sys
import time
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Protocol

REDRAW_SECONDS = 0.2
TEST = "Test:"  # header of a pass of evaluation


class Pace(Protocol):
    """What a pass over batches knows of its speed; engine.progress.meters.ProgressLog."""

    images_per_second: float
    waiting_share: float
    seconds_per_step: float


class LiveLine(AbstractContextManager):
    """Draws the line inside its context; log lines appear above it.

    There is no drawing thread: the line is drawn when a step ends, at most five times per second, so nothing is drawn
    while worker processes are started.

    Args:
        is_shown: False draws nothing, as where the output is no terminal.
        epochs: number of epochs of the whole training, for the time that is left.
    """

    def __init__(self, is_shown: bool, epochs: int = 0):
        self.is_shown, self._epochs = is_shown, epochs
        self._epoch = 0
        self._evaluation_seconds = 0.0  # of the last evaluation
        self._live = None
        self._drawn = 0.0

    def __enter__(self) -> "LiveLine":
        if self.is_shown:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=sys.stdout), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_) -> None:
        if self._live:
            self._live.stop()  # removes the line and shows the cursor again
            self._live = None

    @property
    def is_drawn(self) -> bool:
        """Whether the line stands on the terminal now: inside the context, and where it is shown."""
        return self._live is not None

    def begin_epoch(self, epoch: int) -> None:
        """Count the epochs that are left from `epoch` on."""
        self._epoch = epoch

    def show(self, header: str, place: tuple[int, int], numbers: str, pace: Pace) -> None:
        """Draw the line anew, unless it was drawn a moment ago.

        Args:
            header: "Test:" in an evaluation; any other header is an epoch of training.
            place: step that is done, and number of steps.
            numbers: loss and the like.
            pace: speed of this pass.
        """
        now = time.monotonic()
        if not self._live or now - self._drawn < REDRAW_SECONDS:
            return
        from rich.text import Text

        self._drawn = now
        text = line_text(header, (self._epoch, self._epochs), place, numbers, pace, self._evaluation_seconds)
        self._live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)

    def pass_done(self, header: str, seconds: float) -> None:
        """Keep the time that an evaluation took, which every epoch that is left will take again."""
        if header == TEST:
            self._evaluation_seconds = seconds


NOT_SHOWN = LiveLine(False)


def line_text(
    header: str, epoch: tuple[int, int], place: tuple[int, int], numbers: str, pace: Pace, evaluation_seconds: float
) -> str:
    """The text of the line: place, time left of the whole training, images per second, share of waiting, numbers.

    Args:
        header: see `LiveLine.show`.
        epoch: number of the epoch that runs, from 0, and number of epochs.
        place: step that is done, from 0, and number of steps.
        numbers: loss and the like.
        pace: speed of this pass.
        evaluation_seconds: time of one evaluation; 0 before the first.
    """
    step, num_steps = place
    where = f"epoch {epoch[0]}/{epoch[1] - 1}"  # from 0 to the last one, as in log.txt and in every message
    if header == TEST:
        return f"{where}  evaluating {step + 1}/{num_steps}  {numbers}"
    epochs_after = epoch[1] - epoch[0] - 1
    steps_left = num_steps - step - 1 + epochs_after * num_steps
    left = timedelta(seconds=round(steps_left * pace.seconds_per_step + (epochs_after + 1) * evaluation_seconds))
    rate = f"{pace.images_per_second:.0f} images/s  " if pace.images_per_second else ""
    loss_first = "  ".join(reversed(numbers.split("  ")))  # a narrow terminal shows the start of the line
    return f"{where} step {step + 1}/{num_steps}  left {left}  {rate}data {pace.waiting_share:.0%}  {loss_first}"


def is_terminal() -> bool:
    """Whether stdout is a terminal that can move its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
