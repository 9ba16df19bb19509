"""The figures of a report as PNG files: confusion matrix, most confident mistakes, reliability diagram."""

import io
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.figure_fonts import FigureFonts, find_figure_fonts, import_pyplot
from common.printable import printable

from .calibration import NUM_BINS, Bins
from .measures import Measures
from .results import UNREADABLE_LABEL

DPI = 140
MAX_MATRIX = 40  # classes of a matrix whose names can be read; with more the most frequent confusions are drawn
MAX_PAIRS = 30
NAME_WIDTH = 26  # columns of a name in a figure; a Chinese character has two
BLUE, GREY, RED, GREEN, LIGHT = "#2f6f9f", "#5f6c7b", "#b3403a", "#2e7d4f", "#f5f7f9"


class Mistake(NamedTuple):
    """A picture with a wrong prediction, as it is shown."""

    picture: Image.Image
    name: str
    predicted: str
    confidence: float


def draw_confusions(measures: Measures) -> bytes:
    """Draw the confusion matrix, or of more than MAX_MATRIX classes the classes that are confused most often."""
    shown = [one for one in measures.classes if one.num_images or one.num_predicted]
    names = [one.name for one in shown]
    with _figure_style(names) as (pyplot, fonts):
        labels = _short_names(names, [one.label for one in shown], fonts)
        if len(shown) <= MAX_MATRIX:
            return _draw_matrix(pyplot, measures, [one.label for one in shown], labels)
        return _draw_pairs(pyplot, measures, fonts)


def _draw_matrix(pyplot, measures: Measures, labels: list[int], names: list[str]) -> bytes:
    place = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), int)
    for label in labels:
        counts[place[label], place[label]] = measures.classes[label].num_correct
    for pair in measures.confusions:
        if pair.predicted != UNREADABLE_LABEL:
            counts[place[pair.label], place[pair.predicted]] = pair.num
    totals = np.maximum(1, [measures.classes[label].num_images for label in labels])
    shares = counts / totals[:, None]
    cell = float(np.interp(len(labels), [2, 10, MAX_MATRIX], [0.9, 0.55, 0.3]))  # inches
    longest = max(map(_width, names)) * 0.075
    side = cell * len(labels)
    figure, axes = pyplot.subplots(figsize=(max(4.2, side + longest + 0.9), side + longest + 0.9), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 10 if len(labels) <= 12 else 8
    ticks = range(len(labels))
    is_long = longest > cell
    turn = {"rotation": 90, "ha": "center"} if is_long else {}
    axes.set_xticks(ticks, names, fontsize=size, parse_math=False, **turn)
    axes.set_yticks(ticks, names, fontsize=size, parse_math=False)
    axes.tick_params(length=0, colors="#1f2933")
    axes.set_xlabel("predicted class", color=GREY)
    axes.set_ylabel("right class", color=GREY)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(labels) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(labels) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)
    digits = len(str(counts.max()))
    number_size = min(11 if len(labels) <= 12 else 7, cell * 72 / max(2, digits) * 1.2)
    for row, column in np.argwhere(counts > 0):
        colour = "white" if shares[row, column] > 0.5 else "#1f2933"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=number_size)
    return _png(pyplot, figure)


def _draw_pairs(pyplot, measures: Measures, fonts: FigureFonts) -> bytes:
    pairs = [pair for pair in measures.confusions if pair.predicted != UNREADABLE_LABEL][:MAX_PAIRS]
    if not pairs:
        return _sentence(pyplot, "No class was taken for another one.")
    labels = []
    for pair in pairs:
        ends = [measures.classes[label] for label in (pair.label, pair.predicted)]
        labels.append(" → ".join(_short_names([one.name for one in ends], [one.label for one in ends], fonts)))
    figure, axes = pyplot.subplots(figsize=(8.5, 0.8 + 0.27 * len(pairs)), layout="constrained")
    places = range(len(pairs))
    bars = axes.barh(places, [pair.num for pair in pairs], color=BLUE, height=0.7)
    axes.bar_label(bars, [f"{pair.num} of {pair.num_of_label}" for pair in pairs], padding=4, fontsize=8, color=GREY)
    axes.set_yticks(places, labels, fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.14, y=0.01)
    axes.set_xlabel("pictures (right class → predicted class)", color=GREY, fontsize=9)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, colors="#1f2933", labelsize=8)
    return _png(pyplot, figure)


def draw_reliability(bins: Bins) -> bytes:
    """Draw accuracy over confidence, and below it how many pictures have each confidence."""
    with _figure_style(()) as (pyplot, _):
        figure, (top, below) = pyplot.subplots(
            2, 1, figsize=(5.2, 5.4), layout="constrained", sharex=True, height_ratios=[3, 1]
        )
        used = bins.counts > 0
        centres = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
        width = 0.92 / NUM_BINS
        top.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="perfectly calibrated")
        top.bar(centres[used], bins.accuracies[used], width, color=BLUE, alpha=0.85, label="share of right answers")
        top.scatter(bins.confidences[used], bins.accuracies[used], s=14, color="#1f2933", zorder=3)
        top.set(xlim=(0, 1), ylim=(0, 1.02))
        top.set_ylabel("share of right answers", color=GREY)
        top.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=9)
        below.bar(centres, bins.counts, width, color="#9fb3c8")
        below.set_xlabel("confidence", color=GREY)
        below.set_ylabel("pictures", color=GREY)
        below.yaxis.get_major_locator().set_params(integer=True, nbins=3)
        for axes in (top, below):
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(colors="#1f2933", labelsize=9)
        return _png(pyplot, figure)


def draw_mistakes(mistakes: Sequence[Mistake], num_images: int) -> bytes:
    """Draw wrong pictures, each with its right class, the predicted class and the confidence of the model.

    Args:
        mistakes: in the order in which they are drawn; none makes a picture of one sentence.
        num_images: number of pictures of the evaluation, for this sentence.
    """
    names = [name for one in mistakes for name in (one.name, one.predicted)]
    with _figure_style(names) as (pyplot, fonts):
        if not mistakes:
            return _sentence(pyplot, f"No mistake: all {num_images:,} pictures are right.")
        columns = min(4, len(mistakes))
        rows = -(-len(mistakes) // columns)
        width, height = 2.5 * columns, 3.05 * rows  # inches: a square of 2.3, and three lines below it
        figure = pyplot.figure(figsize=(max(width, 3.2), height))
        for place, one in enumerate(mistakes):
            row, column = divmod(place, columns)
            left, bottom = 2.5 * column + 0.1, height - 3.05 * row - 2.35
            axes = figure.add_axes(
                (left / figure.get_figwidth(), bottom / height, 2.3 / figure.get_figwidth(), 2.3 / height)
            )
            axes.axis("off")
            axes.imshow(_in_square(one.picture), interpolation="antialiased")
            right, wrong = (_short(fonts.drawable(printable(name)), 24) for name in (one.name, one.predicted))
            style = {"ha": "center", "va": "top", "fontsize": 9, "parse_math": False, "transform": axes.transAxes}
            axes.text(0.5, -0.02, f"is {right}", color=GREEN, **style)
            axes.text(0.5, -0.10, f"taken for {wrong}", color=RED, **style)
            axes.text(0.5, -0.18, f"confidence {100 * one.confidence:.0f} %", color=GREY, **style)
        return _png(pyplot, figure, DPI * 5 // 7)


def _in_square(picture: Image.Image, side: int = 320) -> Image.Image:
    """The whole picture in the middle of a light square, so that all captions are at the same height."""
    scale = side / max(picture.size)
    size = [max(1, round(length * scale)) for length in picture.size]
    resized = picture.resize(size, Image.Resampling.NEAREST if max(picture.size) < 64 else Image.Resampling.BICUBIC)
    square = Image.new("RGB", (side, side), LIGHT)
    square.paste(resized, ((side - size[0]) // 2, (side - size[1]) // 2))
    return square


def _sentence(pyplot, text: str) -> bytes:
    figure = pyplot.figure(figsize=(6, 1))
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=12, color=GREEN)
    return _png(pyplot, figure)


@contextmanager
def _figure_style(names: Sequence[str]) -> Iterator[tuple]:
    """Yield pyplot and the fonts for the names; the settings of matplotlib are restored afterwards."""
    pyplot = import_pyplot("a report needs matplotlib", "-r requirements-report.txt")
    fonts = find_figure_fonts(map(printable, names))
    with pyplot.rc_context({"font.family": list(fonts.families), "axes.edgecolor": "#9fb3c8"}):
        yield pyplot, fonts


def _png(pyplot, figure, dpi: int | None = None) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, dpi=dpi or DPI, format="png", facecolor="white", bbox_inches="tight", pad_inches=0.12)
    pyplot.close(figure)
    return file.getvalue()


def _short_names(names: Sequence[str], labels: Sequence[int], fonts: FigureFonts) -> list[str]:
    """Names that fit and that all can be drawn; one that was changed, or is like another one,
    gets the number of its class before it."""
    drawable = [fonts.drawable(printable(name)) for name in names]
    short = [_short(name, NAME_WIDTH) for name in drawable]
    is_unique = {name: short.count(name) == 1 for name in short}
    return [
        short[i] if drawable[i] == name and is_unique[short[i]] else _short(f"{label}: {drawable[i]}", NAME_WIDTH)
        for i, (name, label) in enumerate(zip(names, labels, strict=True))
    ]


def _short(text: str, width: int) -> str:
    """Cut a text to a number of columns; its end is kept, too, because long names often differ there."""
    if _width(text) <= width:
        return text
    end = ""
    while _width(end) < width // 3:
        end = text[-len(end) - 1] + end
    start = ""
    while _width(start) + _width(end) + 1 < width:
        start += text[len(start)]
    return f"{start.rstrip()}…{end.lstrip()}"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
