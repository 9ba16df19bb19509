"""Plots of a run: curves of log.txt, and a grid of images with the predictions of the model."""

import logging
import textwrap
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import TYPE_CHECKING

from common.errors import MissingDependencyError, ProjectError
from common.figure_fonts import find_figure_fonts, import_pyplot
from common.files import atomic_write

from .epoch_log import FILE, is_number, rank_of_epoch, read_records

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

# key in log.txt -> (panel, name in the legend)
CURVES = {
    "train_loss": ("loss", "training"),
    "test_loss": ("loss", "validation"),
    "test_loss_ema": ("loss", "validation, averaged weights"),
    "test_acc1": ("accuracy (%)", "top 1"),
    "test_acc5": ("accuracy (%)", "top 5"),
    "test_acc1_ema": ("accuracy (%)", "top 1, averaged weights"),
}
NOTE = (
    "The training loss can lie above the validation loss: it is measured on augmented, mixed and smoothed images, with "
    "dropout, and as a mean over the epoch, while the weights still improve."
)


class CurvesPlot:
    """Draws curves.png from log.txt after an epoch; at most a fiftieth of the time goes into drawing.

    Args:
        folder: where log.txt is and curves.png is written.
        epochs: number of epochs of the whole training, whose last is always drawn.
    """

    def __init__(self, folder: Path, epochs: int):
        self._folder, self._epochs = folder, epochs
        self._is_possible = True
        self._seconds, self._drawn = 0.0, float("-inf")  # of the last drawing: how long it took, and when it ended

    def __call__(self, numbers: dict) -> None:
        """Draw the epochs so far; `numbers` are those of the last. A file that cannot be drawn does not end the run."""
        start = perf_counter()
        is_last = numbers["epoch"] + 1 >= self._epochs
        if not self._is_possible or (start - self._drawn < 50 * self._seconds and not is_last):
            return
        try:
            plot_curves(self._folder / FILE, self._folder / "curves.png")
        except (ProjectError, OSError, ValueError, RuntimeError) as error:
            self._is_possible = not isinstance(error, MissingDependencyError)
            logger.warning(f"curves.png is not drawn: {error}")
        self._drawn = perf_counter()
        self._seconds = self._drawn - start


def plot_curves(log_file: str | Path, plot_file: str | Path) -> Path:
    """Plot loss and accuracy by epoch of a log.txt into the file `plot_file` (PNG, or the format of its extension).

    Raises:
        ProjectError: log.txt has no epoch yet.
        MissingDependencyError: matplotlib is not installed.
    """
    pyplot = _pyplot()
    records = [record for record in read_records(log_file) if is_number(record.get("epoch"))]
    if not records:
        raise ProjectError(f"{log_file} holds no epoch to plot; a line is written at the end of each epoch")
    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    for axes, (title, panel) in zip(panels, {"Loss": "loss", "Accuracy": "accuracy (%)"}.items(), strict=True):
        for key, (key_panel, name) in CURVES.items():
            points = [(record["epoch"], record[key]) for record in records if is_number(record.get(key))]
            is_certain = key == "test_acc5" and all(value == 100 for _, value in points)  # with up to five classes
            if key_panel == panel and points and not is_certain:
                marker = "o" if len(points) < 30 else None
                axes.plot(*zip(*points, strict=True), marker=marker, markersize=3, label=name)
        low, high = axes.get_ylim()
        if panel == "loss" and high > 10 * low > 0:
            axes.set_yscale("log")  # the loss of the first epoch is often a hundred times that of the last
        axes.set(title=title, xlabel="epoch", ylabel=panel)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    measured = [record for record in records if is_number(record.get("test_acc1"))]
    if best := max(measured, key=rank_of_epoch, default=None):
        for axes in panels:
            axes.axvline(best["epoch"], color="grey", linestyle=":", label=f"best epoch: {best['epoch']}")
        panels[1].set_title(f"Accuracy: at best {best['test_acc1']:.1f} % in epoch {best['epoch']}")
    for axes in panels:
        axes.legend(fontsize=8)
    figure.supxlabel(textwrap.fill(NOTE, 130), fontsize=8, color="dimgrey")
    return _save(figure, plot_file)


def plot_predictions(
    images: Sequence["Image.Image"],
    captions: Sequence[str],
    plot_file: str | Path,
    *,
    is_correct: Sequence[bool] | None = None,
    columns: int = 6,
) -> Path:
    """Plot a grid of images, each under its caption, into the file `plot_file`.

    Args:
        images: all of any size.
        captions: one text for each image.
        plot_file: its extension gives the format.
        is_correct: whether each prediction is correct: the caption is green or red; None makes all captions black.
        columns: images per row.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    pyplot = _pyplot()
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure, panels = pyplot.subplots(
        rows, columns, figsize=(2 * columns, 2.4 * rows), squeeze=False, layout="constrained"
    )
    for axes in panels.flat:
        axes.axis("off")
    fonts = find_figure_fonts(captions)
    colours = ["black"] * len(images) if is_correct is None else ["tab:green" if c else "tab:red" for c in is_correct]
    for axes, image, caption, colour in zip(panels.flat, images, captions, colours, strict=False):
        axes.imshow(image, cmap="gray", interpolation="nearest" if max(image.size) < 64 else "antialiased")
        lines = [textwrap.shorten(fonts.drawable(line), 28, placeholder="...") for line in caption.splitlines()]
        axes.set_title("\n".join(lines), fontsize=8, color=colour, family=list(fonts.families), parse_math=False)
    return _save(figure, plot_file)


def _pyplot() -> ModuleType:
    return import_pyplot("plots need matplotlib")


def _save(figure, plot_file: str | Path) -> Path:
    try:
        with atomic_write(plot_file) as file:
            figure.savefig(file, dpi=120, format=Path(plot_file).suffix[1:] or "png")
    finally:
        _pyplot().close(figure)
    return Path(plot_file)
