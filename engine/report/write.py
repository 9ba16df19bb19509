"""Writes the folder of a report: numbers, tables, pictures and the page."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from common.errors import MissingDependencyError
from common.files import disk_errors, write_atomically
from common.printable import printable

from .calibration import Calibration
from .figures import Mistake, draw_confusions, draw_mistakes, draw_reliability
from .measures import Measures, measure
from .page import Content, Pictures, percent, render
from .results import Results
from .suspects import Suspects
from .tables import class_rows, confusion_rows, metrics_dict, picture_rows, suspect_rows, write_csv, write_json

PACKAGES = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "jinja2": "Jinja2"}
FILES = {
    "report.html": "this page; it needs no other file",
    "metrics.json": "the numbers of the evaluation, with their intervals",
    "per_class.csv": "the numbers of each class",
    "confusion_matrix.csv": "pictures by right class (row) and predicted class (column)",
    "confusion_matrix.png": "the figure of the confusions",
    "predictions.csv": "the prediction for each picture",
    "mistakes.png": "the most confident mistakes as one picture",
    "reliability.png": "the figure of the calibration",
    "suspects.csv": "training pictures whose label may be wrong",
}
DRAWN_MISTAKES = 24
DRAWN_SIDE = 256


@dataclass(frozen=True)
class Report:
    """What the files of a report say, beside the measures.

    Attributes:
        title: heading of the page.
        subtitle: one line below it.
        results: of the pictures.
        pictures: the pictures of the results.
        calibration: None without --temperature fit.
        suspects: None if the training pictures were not compared; `no_suspects` says why.
        train_pictures: the training pictures; None likewise.
        notes: sentences that a reader must know.
        settings: tables by heading, each of (name, value).
    """

    title: str
    subtitle: str
    results: Results
    pictures: Pictures
    calibration: Calibration | None = None
    suspects: Suspects | None = None
    no_suspects: str = ""
    train_pictures: Pictures | None = None
    notes: tuple[str, ...] = ()
    settings: dict[str, list[tuple[str, str]]] | None = None


def check_packages() -> None:
    """Check that the packages of a report are installed, before the evaluation takes its time.

    Raises:
        MissingDependencyError: names those that are missing.
    """
    missing = [name for module, name in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingDependencyError(
            f"--output_dir writes a report, which needs {', '.join(missing)}: "
            "python -m pip install -r requirements-report.txt; without --output_dir the scores are only printed"
        )


def create_folder(folder: Path) -> None:
    """Create the folder of a report.

    Raises:
        DiskError: it cannot be created.
    """
    with disk_errors(f"into --output_dir {folder}"):
        folder.mkdir(parents=True, exist_ok=True)


def write_report(folder: Path, report: Report) -> Measures:
    """Write all files of a report; each is whole or not there.

    Raises:
        DiskError: a file cannot be written.
    """
    results, measures = report.results, measure(report.results)
    figures = {"confusions": draw_confusions(measures), "reliability": draw_reliability(measures.bins)}
    content = Content(
        title=report.title,
        subtitle=report.subtitle,
        results=results,
        measures=measures,
        pictures=report.pictures,
        figures=figures,
        calibration=report.calibration,
        suspects=report.suspects,
        train_pictures=report.train_pictures,
        notes=report.notes,
        no_suspects=report.no_suspects,
        files={name: FILES[name] for name in FILES if name != "suspects.csv" or report.suspects is not None},
        settings=report.settings or {},
    )
    page = render(content)
    paths = (report.pictures.path(index) for index in range(len(results.labels)))
    with disk_errors(f"into --output_dir {folder}"):
        write_csv(folder / "per_class.csv", class_rows(measures))
        write_csv(folder / "confusion_matrix.csv", confusion_rows(results))
        write_csv(folder / "predictions.csv", picture_rows(results, paths))
        if report.suspects is None:
            (folder / "suspects.csv").unlink(missing_ok=True)  # of an earlier report
        else:
            write_csv(folder / "suspects.csv", suspect_rows(report.suspects))
        write_atomically(folder / "confusion_matrix.png", figures["confusions"])
        write_atomically(folder / "reliability.png", figures["reliability"])
        write_atomically(folder / "mistakes.png", draw_mistakes(_mistakes(report), measures.num_images))
        write_atomically(folder / "report.html", page.encode("utf-8", "backslashreplace"))
        write_json(folder / "metrics.json", metrics_dict(measures, report.calibration))  # last: the report is whole
    return measures


def _mistakes(report: Report) -> list[Mistake]:
    results, mistakes = report.results, []
    for index in results.most_confident_mistakes(DRAWN_MISTAKES).tolist():
        picture = report.pictures.thumbnail(index, DRAWN_SIDE)
        if picture is not None:
            name, predicted = results.names[results.labels[index]], results.names[results.scores.predicted[index]]
            mistakes.append(Mistake(picture, name, predicted, float(results.scores.confidences[index])))
    return mistakes


def worst_class_line(measures: Measures) -> str:
    """The last line of an evaluation: the worst class and what it is confused with."""
    worst = measures.worst_class
    if worst is None:
        return f"No worst class: all {measures.num_images} pictures are right"
    line = (
        f"Worst class: {printable(worst.name)}, {percent(worst.recall.value)} recognised "
        f"({worst.num_correct} of {worst.num_images})"
    )
    if worst.confused_with is None:
        return f"{line}; the others could not be read"
    other = printable(measures.classes[worst.confused_with.predicted].name)
    return f"{line}; most often taken for {other} ({worst.confused_with.num})"
