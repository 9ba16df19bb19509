"""Draw the curves of both sides over each other: loss by step, accuracy by epoch, one line for each seed."""

import io
from collections.abc import Sequence
from pathlib import Path

from common.figure_fonts import import_pyplot
from common.files import disk_errors, write_atomically
from engine.progress.meters import Meter

from .paddle_run import Trained

NEED = "the curves need matplotlib"
COLOURS = {"Paddle": "tab:blue", "PyTorch": "tab:orange"}
STYLES = ("-", "--", ":", "-.")


def draw_both_sides(port: Sequence[Trained], reference: Sequence[Trained], path: Path, title: str) -> None:
    """Write the figure as PNG.

    Args:
        port: trainings of the port.
        reference: trainings of the reference, with the same seeds.
        path: file to write.
        title: of the figure.

    Raises:
        DiskError: the file cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    pyplot = import_pyplot(NEED)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    shown = {step for step, _ in port[0].losses}  # the log of the port has every n-th step alone
    for name, runs in (("Paddle", port), ("PyTorch", reference)):
        for number, run in enumerate(runs):
            style = {"color": COLOURS[name], "linestyle": STYLES[number % len(STYLES)], "linewidth": 1}
            points = [(step, loss) for step, loss in run.losses if step in shown]
            left.plot(*zip(*points, strict=True), label=f"{name}, seed {run.seed}", **style)
            right.plot(range(1, len(run.top1_percent) + 1), run.top1_percent, marker="o", markersize=3, **style)
    left.set(xlabel="step", ylabel=f"training loss (mean of {Meter.WINDOW} steps)")
    right.set(xlabel="epoch", ylabel="top-1 on the validation images (%)")
    right.xaxis.get_major_locator().set_params(integer=True)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend(fontsize=8)
    figure.suptitle(title)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=120, format="png")
    pyplot.close(figure)
    with disk_errors(path):
        write_atomically(path, stream.getvalue())
