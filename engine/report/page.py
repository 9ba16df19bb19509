"""report.html: one page with all numbers, pictures and explanations, which needs no other file and no network."""

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from common.errors import MissingDependencyError
from common.printable import printable

from .calibration import MIN_PICTURES, Calibration
from .figures import DPI, MAX_MATRIX
from .intervals import Estimate
from .measures import ClassMeasures, Confusion, Measures
from .results import UNREADABLE_LABEL, Results
from .suspects import Suspects

TEMPLATE = Path(__file__).with_name("page.html")
SIDE = 144  # pixels of the longer side of a small picture
SMALL_SIDE = 96  # where there are many of them
MAX_SAMPLES = 360  # small pictures of all classes together; a class has at least one, up to MAX_SAMPLED_CLASSES
MAX_SAMPLED_CLASSES = 1000
MAX_OF_A_CLASS = 6
MAX_MISTAKES = 24
MAX_SUSPECTS = 24
MAX_PAIRS = 15
FEW_PICTURES = 10  # of one class: its share of recognised pictures says little


class Pictures(Protocol):
    """The pictures of a data set, to be shown."""

    def path(self, index: int) -> str:
        """Path of picture `index`."""

    def thumbnail(self, index: int, side: int) -> Image.Image | None:
        """Picture `index` with at most `side` pixels a side; None if it cannot be read."""


class Content(NamedTuple):
    """What the page shows.

    Attributes:
        title: heading.
        subtitle: one line below the heading.
        results: of the pictures.
        measures: of the results.
        pictures: the pictures of the results.
        figures: PNG files by name: "confusions", "reliability".
        calibration: None without --temperature fit.
        suspects: None if the training pictures were not compared.
        train_pictures: the training pictures; None likewise.
        notes: sentences that a reader must know.
        no_suspects: why the training pictures were not compared.
        files: meaning of each file of the folder by its name.
        settings: tables by heading, each of (name, value).
    """

    title: str
    subtitle: str
    results: Results
    measures: Measures
    pictures: Pictures
    figures: dict[str, bytes]
    calibration: Calibration | None
    suspects: Suspects | None
    train_pictures: Pictures | None
    notes: Sequence[str]
    no_suspects: str
    files: dict[str, str]
    settings: dict[str, list[tuple[str, str]]]


class Tile(NamedTuple):
    """A small picture with its words."""

    source: str  # data URI; "" if the picture cannot be read
    is_small: bool
    path: str
    name: str = ""
    predicted: str = ""
    percent: str = ""


def render(content: Content) -> str:
    """Render the page. Everything that comes from files is escaped by Jinja2.

    Raises:
        MissingDependencyError: Jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependencyError(
            "a report needs Jinja2: python -m pip install -r requirements-report.txt"
        ) from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "interval": interval, "shown": printable, "thousands": "{:,}".format}
    measures = content.measures
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        content=content,
        measures=measures,
        figures={name: _figure(png) for name, png in content.figures.items()},
        worst=measures.worst_class,
        classes=measures.classes_with_images,
        pairs=[_named(pair, measures) for pair in _pairs(measures.confusions)[:MAX_PAIRS]],
        num_pairs=len(_pairs(measures.confusions)),
        mistakes=_mistake_tiles(content),
        suspects=_suspect_tiles(content),
        samples=list(_samples(content)),
        min_pictures=MIN_PICTURES,
        is_matrix=sum(bool(one.num_images or one.num_predicted) for one in measures.classes) <= MAX_MATRIX,
        few_pictures=FEW_PICTURES,
        num_few=sum(one.num_images < FEW_PICTURES for one in measures.classes_with_images),
    )


def percent(share: float, digits: int = 1) -> str:
    """`93.1 %`; a share that is not exactly 1 is never shown as 100 %."""
    text = f"{100 * share:.{digits}f}"
    if share < 1 and float(text) == 100:
        text = f"{100 - 10.0**-digits:.{digits}f}"
    return f"{text} %"


def interval(estimate: Estimate, is_share: bool = True) -> str:
    """The ends of an interval, `91.0 to 95.2 %`; "" where there is none."""
    if estimate.low is None:
        return ""
    if is_share:
        return f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f} %"
    return f"{estimate.low:.3f} to {estimate.high:.3f}"


def _pairs(confusions: Iterable[Confusion]) -> list[Confusion]:
    return [pair for pair in confusions if pair.predicted != UNREADABLE_LABEL]


def _named(pair: Confusion, measures: Measures) -> tuple[str, str, Confusion]:
    return measures.classes[pair.label].name, measures.classes[pair.predicted].name, pair


def _mistake_tiles(content: Content) -> list[Tile]:
    results = content.results
    return [
        _tile(
            content.pictures,
            index,
            SIDE,
            name=results.names[results.labels[index]],
            predicted=results.names[results.scores.predicted[index]],
            percent=percent(results.scores.confidences[index], 0),
        )
        for index in results.most_confident_mistakes(MAX_MISTAKES).tolist()
    ]


def _suspect_tiles(content: Content) -> list[Tile]:
    if content.suspects is None:
        return []
    names = content.suspects.names
    return [
        _tile(
            content.train_pictures,
            one.index,
            SIDE,
            name=names[one.label],
            predicted=names[one.predicted],
            percent=percent(one.confidence, 0),
        )
        for one in content.suspects.pictures[:MAX_SUSPECTS]
    ]


def _samples(content: Content) -> Iterable[tuple[ClassMeasures, list[Tile]]]:
    """Each class in the order of the labels with pictures evenly spread over those that it has."""
    results = content.results
    classes = sorted(content.measures.classes_with_images[:MAX_SAMPLED_CLASSES], key=lambda one: one.label)
    per_class = int(np.clip(MAX_SAMPLES // max(1, len(classes)), 1, MAX_OF_A_CLASS))
    side = SIDE if len(classes) * per_class <= MAX_SAMPLES else SMALL_SIDE
    order = np.argsort(results.labels, kind="stable")
    for one in classes:
        first = np.searchsorted(results.labels[order], one.label)
        mine = order[first : first + one.num_images]
        chosen = mine[np.linspace(0, len(mine) - 1, min(per_class, len(mine))).round().astype(int)]
        tiles = []
        for index in chosen.tolist():
            predicted = int(results.scores.predicted[index])
            is_wrong = not results.is_correct[index]
            wrong_name = "unreadable" if predicted == UNREADABLE_LABEL else results.names[predicted]
            tiles.append(_tile(content.pictures, index, side, predicted=wrong_name if is_wrong else ""))
        yield one, tiles


def _tile(pictures: Pictures, index: int, side: int, *, name: str = "", predicted: str = "", percent: str = "") -> Tile:
    picture, path = pictures.thumbnail(index, side), pictures.path(index)
    if picture is None:
        return Tile("", False, path, name, predicted, percent)
    is_small = max(picture.size) < 64
    file = io.BytesIO()
    if is_small:
        picture.save(file, "PNG", optimize=True)
    else:
        picture.save(file, "JPEG", quality=80)
    return Tile(_data_uri(file.getvalue(), "png" if is_small else "jpeg"), is_small, path, name, predicted, percent)


def _figure(png: bytes) -> tuple[str, int]:
    """Data URI of a figure, and the width in CSS pixels at which its text has the size of the page's."""
    with Image.open(io.BytesIO(png)) as image:
        return _data_uri(png, "png"), round(image.width * 96 / DPI)


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
