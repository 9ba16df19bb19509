"""The files of a report for programs: every picture and class is there, and no cell is a formula."""

import csv
import json

import pytest

from engine.report import intervals
from engine.report.calibration import calibrate
from engine.report.measures import measure
from engine.report.suspects import MAX_SUSPECTS, find_suspects
from engine.report.tables import (
    class_rows,
    confusion_rows,
    metrics_dict,
    picture_rows,
    suspect_rows,
    write_csv,
    write_json,
)
from tests.engine.report.samples import from_predictions, make_results

NAMES = ("=1+1", 'a,"b"\nc', "猫\udcff")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(intervals, "NUM_RESAMPLES", 2)


def read(path):
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.reader(file))


def test_no_cell_is_a_formula_and_names_keep_their_bytes(tmp_path):
    results = from_predictions([0, 1, 2, 0], [1, 1, 0, -1], 3, NAMES)
    measures = measure(results)
    write_csv(tmp_path / "a.csv", confusion_rows(results))
    write_csv(tmp_path / "b.csv", class_rows(measures))
    write_csv(tmp_path / "c.csv", picture_rows(results, ["@x.png", "b.png", "c\udcff.png", "-d.png"]))
    matrix, classes, pictures = (read(tmp_path / name) for name in ("a.csv", "b.csv", "c.csv"))
    assert matrix == [
        ["right class / predicted", "'=1+1", NAMES[1], NAMES[2], "(unreadable)"],
        ["'=1+1", "0", "1", "0", "1"], [NAMES[1], "0", "1", "0", "0"], [NAMES[2], "1", "0", "0", "0"],
    ]  # fmt: skip
    assert [row[1] for row in classes[1:]] == ["'=1+1", NAMES[1], NAMES[2]]
    assert [row[0] for row in pictures[1:]] == ["'@x.png", "b.png", "c\udcff.png", "'-d.png"]
    assert (tmp_path / "c.csv").read_bytes().count(b"c\xff.png") == 1
    assert not any(cell[:1] in "=+-@" for row in (*matrix, *classes, *pictures) for cell in row if cell)


def test_one_row_for_each_picture(tmp_path):
    results = make_results(20, 3, unreadable=[4])
    head, *rows = picture_rows(results, [f"{i}.png" for i in range(20)])
    assert len(rows) == 20 and all(len(row) == len(head) for row in rows)
    for i, row in enumerate(rows):
        fields = dict(zip(head, row, strict=True))
        assert fields["picture"] == f"{i}.png" and fields["label"] == results.labels[i]
        if i == 4:
            assert (fields["predicted_label"], fields["is_correct"], fields["is_readable"]) == ("", 0, 0)
            continue
        assert fields["predicted_class"] == f"class {results.logits[i].argmax()}"
        assert fields["is_correct"] == int(results.logits[i].argmax() == results.labels[i])
        assert fields["confidence"] == pytest.approx(results.scores.confidences[i], rel=1e-5)
        assert fields["probability_of_class"] <= fields["confidence"] * (1 + 1e-5)


def test_the_confusion_matrix_has_no_column_for_pictures_that_could_all_be_read():
    rows = list(confusion_rows(from_predictions([0, 1], [1, 1], 2)))
    assert rows == [["right class / predicted", "class 0", "class 1"], ["class 0", 0, 1], ["class 1", 0, 1]]


def test_the_numbers_of_each_class():
    head, *rows = class_rows(measure(from_predictions([0, 0, 0, 2], [0, 1, 1, 2], 3)))
    first, second, third = (dict(zip(head, row, strict=True)) for row in rows)
    assert (first["num_images"], first["num_correct"], first["recall"]) == (3, 1, 0.333333)
    assert (first["most_confused_with"], first["num_confused"], first["precision"]) == ("class 1", 2, 1)
    assert (second["recall"], second["num_images"], second["num_predicted"]) == ("", 0, 2)
    assert (third["recall"], third["recall_high"], third["most_confused_with"]) == (1, 1, "")


def test_metrics_json(tmp_path):
    results = make_results(60, 3, names=("a", "猫\udcff", "c"))
    measures, calibration = measure(results), calibrate(results)
    write_json(tmp_path / "metrics.json", metrics_dict(measures, calibration))
    fields = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert fields["top1"] == {
        "value": measures.top1.value, "low": measures.top1.low, "high": measures.top1.high, "interval": "wilson",
    }  # fmt: skip
    assert fields["balanced_accuracy"]["interval"] == "bootstrap"
    assert fields["topk"]["k"] == 2 and fields["num_images"] == 60
    assert fields["temperature"] == calibration.temperature
    assert fields["calibration"]["expected_calibration_error_held_out"] == calibration.error_held_out
    assert fields["worst_class"]["name"] in ("a", "猫\\udcff", "c")
    assert "temperature" not in metrics_dict(measures, None)


def test_the_suspects_are_the_pictures_with_the_highest_loss_that_the_model_calls_otherwise():
    results = make_results(200, 3, unreadable=[7])
    suspects = find_suspects(results, [f"{i}.png" for i in range(200)])
    wrong = [i for i in range(200) if results.logits[i].argmax() != results.labels[i] and i != 7]
    assert sorted(one.index for one in suspects.pictures) == wrong
    losses = [one.loss for one in suspects.pictures]
    assert losses == sorted(losses, reverse=True)
    assert (suspects.num_images, suspects.num_disagreeing, suspects.num_unreadable) == (200, len(wrong), 1)
    head, first, *_ = suspect_rows(suspects)
    assert len(head) == len(first) and first[0] == f"{suspects.pictures[0].index}.png"


def test_the_suspects_of_many_are_the_first():
    results = from_predictions([0] * 700, [1] * 700, 2)
    suspects = find_suspects(results, [""] * 700)
    assert len(suspects.pictures) == MAX_SUSPECTS and suspects.num_disagreeing == 700
