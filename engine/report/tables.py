"""The files of a report for programs: metrics.json and the CSV tables."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from common.files import atomic_write, write_atomically
from common.printable import spreadsheet_text

from .calibration import NUM_BINS, Calibration
from .intervals import Estimate
from .measures import Measures
from .results import UNREADABLE_LABEL, Results
from .suspects import Suspects

UNREADABLE_NAME = "(unreadable)"


def metrics_dict(measures: Measures, calibration: Calibration | None) -> dict:
    """The numbers of a report as plain values; shares are 0 to 1."""
    worst = measures.worst_class
    fields = {
        "num_images": measures.num_images,
        "num_correct": measures.num_correct,
        "num_unreadable": measures.num_unreadable,
        "num_classes": len(measures.classes),
        "num_classes_with_images": len(measures.classes_with_images),
        "top1": _estimate(measures.top1),
        "topk": {"k": measures.k, **_estimate(measures.topk)},
        "balanced_accuracy": _estimate(measures.balanced_accuracy),
        "macro_f1": _estimate(measures.macro_f1),
        "log_loss": _estimate(measures.log_loss),
        "brier": _estimate(measures.brier),
        "expected_calibration_error": {"bins": NUM_BINS, **_estimate(measures.calibration_error)},
        "worst_class": None if worst is None else {"label": worst.label, "name": worst.name, **_estimate(worst.recall)},
    }
    if calibration is not None:
        fields["temperature"] = calibration.temperature
        fields["calibration"] = {
            "fitted_temperature": calibration.fitted,
            "temperatures_of_halves": list(calibration.of_halves),
            "num_images": calibration.num_pictures,
            "log_loss_before": calibration.log_loss_before,
            "log_loss_held_out": calibration.log_loss_held_out,
            "expected_calibration_error_before": calibration.error_before,
            "expected_calibration_error_held_out": calibration.error_held_out,
        }
    return fields


def _estimate(estimate: Estimate) -> dict:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "interval": estimate.method or None}


def write_json(path: Path, fields: dict) -> None:
    """Write a JSON file. Class names that are not UTF-8 are escaped.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, text.encode("utf-8", "backslashreplace") + b"\n")


def write_csv(path: Path, rows: Iterable[Iterable]) -> None:
    """Write a table whose texts no spreadsheet runs as formulas; names that are not UTF-8 are kept byte for byte.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_write(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([spreadsheet_text(cell) for cell in row] for row in rows)


def class_rows(measures: Measures) -> Iterator[list]:
    """The rows of per_class.csv with their head."""
    yield [
        *("label", "class", "num_images", "num_correct", "recall", "recall_low", "recall_high", "num_predicted"),
        *("precision", "f1", "most_confused_with", "num_confused"),
    ]
    for one in measures.classes:
        confused = one.confused_with
        recall = [_number(value) for value in one.recall[:3]] if one.num_images else ["", "", ""]
        yield [
            *(one.label, one.name, one.num_images, one.num_correct, *recall, one.num_predicted),
            *(_number(one.precision), _number(one.f1)),
            *((measures.classes[confused.predicted].name, confused.num) if confused else ("", 0)),
        ]


def confusion_rows(results: Results) -> Iterator[list]:
    """The rows of confusion_matrix.csv with their head: right classes downwards, predicted ones to the right."""
    size = results.num_classes + 1  # the last column: pictures that could not be read
    predicted = np.where(results.is_readable, results.scores.predicted, results.num_classes)
    order = np.argsort(results.labels, kind="stable")
    ends = np.searchsorted(results.labels[order], np.arange(size))
    width = size if (predicted == results.num_classes).any() else size - 1
    yield ["right class / predicted", *[*results.names, UNREADABLE_NAME][:width]]
    for label, name in enumerate(results.names):
        mine = predicted[order[ends[label] : ends[label + 1]]]
        yield [name, *np.bincount(mine, minlength=size)[:width].tolist()]


def picture_rows(results: Results, paths: Iterable[str]) -> Iterator[list]:
    """The rows of predictions.csv with their head: one for each picture, in the order of the list."""
    yield [
        *("picture", "label", "class", "predicted_label", "predicted_class", "is_correct", "confidence"),
        *("probability_of_class", "loss", "is_readable"),
    ]
    names, scores, is_correct = results.names, results.scores, results.is_correct
    for i, (path, label) in enumerate(zip(paths, results.labels.tolist(), strict=True)):
        predicted = int(scores.predicted[i])
        if predicted == UNREADABLE_LABEL:
            yield [path, label, names[label], "", "", 0, "", "", "", 0]
            continue
        loss = float(scores.losses[i])
        numbers = (_number(scores.confidences[i]), _number(np.exp(-loss)), _number(loss))
        yield [path, label, names[label], predicted, names[predicted], int(is_correct[i]), *numbers, 1]


def suspect_rows(suspects: Suspects) -> Iterator[list]:
    """The rows of suspects.csv with their head, the most suspicious picture first."""
    yield ["picture", "label", "class", "predicted_label", "predicted_class", "confidence", "loss"]
    for one in suspects.pictures:
        names = (one.label, suspects.names[one.label], one.predicted, suspects.names[one.predicted])
        yield [one.path, *names, _number(one.confidence), _number(one.loss)]


def _number(value: float) -> str | float:
    return float(f"{value:.6g}")
