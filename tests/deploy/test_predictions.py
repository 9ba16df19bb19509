"""Files of predictions are written batch by batch, read back equal, and readable after a kill."""

import csv
import errno
import json
import os

import pytest

from common.errors import DiskError, PredictionsFileError
from deploy.predictions import PredictionWriter, failed_prediction, read_predictions

PREDICTIONS = [
    {"class_ids": [2, 0], "scores": [0.75, 0.1], "file_name": "a b.jpg", "label_names": ['x, "y"', "三"]},
    failed_prediction("broken.jpg", "damaged: cut short"),
    {"class_ids": [], "scores": [], "file_name": "below threshold.jpg", "label_names": []},
]
ODD_NAMES = [
    {"class_ids": [0], "scores": [1.0], "file_name": name, "label_names": ["x"]}
    for name in ("new\nline.jpg", "re\rturn.jpg", "both\r\n.jpg", os.fsdecode(b"not utf-8 \xe9.jpg"), "back\\slash.jpg")
]
SUFFIXES = [".json", ".jsonl", ".csv"]


@pytest.mark.parametrize("csv_classes", [None, 2, 9])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("predictions", [PREDICTIONS, ODD_NAMES, []], ids=["some", "odd names", "none"])
def test_round_trip(tmp_path, suffix, predictions, csv_classes):
    path = tmp_path / "new folder" / f"out{suffix}"
    with PredictionWriter(path, csv_classes=csv_classes) as writer:
        for prediction in predictions:
            writer.write([prediction])
    assert list(read_predictions(path)) == predictions
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_json_is_one_array_and_csv_may_have_one_row_per_class(tmp_path):
    for suffix in (".json", ".csv"):
        with PredictionWriter(tmp_path / f"out{suffix}") as writer:
            writer.write(PREDICTIONS)
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == PREDICTIONS
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file_name"], row["rank"], row["class_id"], row["label_name"]) for row in rows[:2]] == [
        ("a b.jpg", "1", "2", 'x, "y"'),
        ("a b.jpg", "2", "0", "三"),
    ]
    assert rows[2]["error"] == "damaged: cut short"


def test_csv_has_one_row_per_image(tmp_path):
    with PredictionWriter(tmp_path / "out.csv", csv_classes=2) as writer:
        writer.write(PREDICTIONS)
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines() == [
        "file_name,label_name,score,class_id,error,label_name_2,score_2,class_id_2",
        'a b.jpg,"x, ""y""",0.75,2,,三,0.1,0',
        "broken.jpg,,,,damaged: cut short,,,",
        "below threshold.jpg,,,,,,,",
    ]


def test_more_classes_than_a_row_has_room_for_are_refused(tmp_path):
    with pytest.raises(PredictionsFileError, match=r"a b.jpg has 2 classes, a row has room for 1; take --topk 2 again"):
        PredictionWriter(tmp_path / "out.csv", PREDICTIONS[:1], csv_classes=1)
    assert not list(tmp_path.iterdir())


def test_either_form_of_a_csv_is_continued_in_the_other(tmp_path):
    for classes, others in ((None, 2), (2, None)):
        with PredictionWriter(tmp_path / "a.csv", csv_classes=classes) as writer:
            writer.write(PREDICTIONS)
        with PredictionWriter(tmp_path / "b.csv", read_predictions(tmp_path / "a.csv"), csv_classes=others):
            pass
        assert list(read_predictions(tmp_path / "b.csv")) == PREDICTIONS


FORMULAS = [
    {"class_ids": [0], "scores": [1.0], "file_name": "-1+1.jpg", "label_names": ["=HYPERLINK(1)"]},
    {"class_ids": [0], "scores": [0.5], "file_name": "'=x.jpg", "label_names": ["'plain"]},
    failed_prediction("@eaDir.jpg", "+damaged"),
]


@pytest.mark.parametrize("csv_classes", [None, 1])
@pytest.mark.parametrize("csv_formulas", [False, True])
def test_a_spreadsheet_gets_texts_and_numbers_and_no_formulas(tmp_path, csv_formulas, csv_classes):
    path = tmp_path / "out.csv"
    with PredictionWriter(path, csv_formulas=csv_formulas, csv_classes=csv_classes) as writer:
        writer.write(FORMULAS)
    with path.open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert any(cell[:1] in tuple("=+-@") and cell for cell in cells) == csv_formulas
    assert "1.0" in cells and "0.5" in cells and "'plain" in cells
    assert list(read_predictions(path)) == FORMULAS


@pytest.mark.parametrize(("suffix", "csv_classes"), [(".jsonl", None), (".csv", None), (".csv", 2)])
def test_lines_can_be_read_during_a_run_and_after_it_was_killed(tmp_path, suffix, csv_classes):
    path = tmp_path / f"out{suffix}"
    with PredictionWriter(path, csv_classes=csv_classes) as writer:
        writer.write(PREDICTIONS[:2])
        assert list(read_predictions(path)) == PREDICTIONS[:2]
    with path.open("a") as file:
        file.write('{"class_ids": [1, ' if suffix == ".jsonl" else "half a row,1,")
    assert list(read_predictions(path)) == PREDICTIONS[:2]


def test_an_image_with_missing_rows_is_left_out(tmp_path):
    path = tmp_path / "out.csv"
    with PredictionWriter(path) as writer:
        writer.write([PREDICTIONS[0], PREDICTIONS[0] | {"file_name": "b.jpg"}])
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    assert list(read_predictions(path)) == PREDICTIONS[:1]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_an_error_and_the_older_file_stays(tmp_path, monkeypatch, suffix):
    def full(*paths):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / f"out{suffix}"
    path.write_text("before")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DiskError, match=r"cannot write .*: No space left"), PredictionWriter(path) as writer:
        writer.write(PREDICTIONS)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["before"]
    with pytest.raises(DiskError, match="cannot write"):
        PredictionWriter(path / f"below a file{suffix}")


def test_json_appears_only_when_it_is_complete(tmp_path):
    with pytest.raises(KeyboardInterrupt), PredictionWriter(tmp_path / "out.json") as writer:
        writer.write(PREDICTIONS)
        assert not (tmp_path / "out.json").exists()
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_predictions_of_an_earlier_run_are_kept_even_in_the_same_file(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    with PredictionWriter(path) as writer:
        writer.write(PREDICTIONS[:1])
    with PredictionWriter(path, read_predictions(path)) as writer:
        writer.write(PREDICTIONS[1:])
    assert list(read_predictions(path)) == PREDICTIONS


NOT_PREDICTIONS = [
    ("a.txt", ""),
    ("a.jsonl", "{\n"),
    ("a.json", "["),
    ("a.csv", "x\n1\n"),
    ("a.csv", "x" * 140_000 + "\n"),
    ("a.json", "[" * 100_000),
    ("a.json", "[1]"),
    ("a.json", '{"a": 1}'),
    ("a.jsonl", '{"file_name": "a"}\n'),
    ("a.csv", "file_name,label_name,score,class_id,error\na.jpg,x,0.5,-1,\n"),
    *(
        ("a.jsonl", json.dumps(PREDICTIONS[0] | change) + "\n")
        for change in (
            {"class_ids": None},
            {"class_ids": [2]},
            {"class_ids": ["2", "0"]},
            {"class_ids": [-1, 0]},
            {"scores": ["high", "low"]},
            {"label_names": [1, 2]},
            {"file_name": 3},
            {"error": 3},
        )
    ),
]


@pytest.mark.parametrize(("name", "text"), NOT_PREDICTIONS, ids=range(len(NOT_PREDICTIONS)))
def test_a_file_without_predictions_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(PredictionsFileError, match=rf"{name}: "):
        list(read_predictions(tmp_path / name))
    with pytest.raises(PredictionsFileError, match="missing"):
        list(read_predictions(tmp_path / "missing.jsonl"))


def test_an_unknown_extension_is_refused(tmp_path):
    with pytest.raises(
        PredictionsFileError, match=r"out.xml: predictions are written to .json, .jsonl, .csv files, not '.xml'"
    ):
        PredictionWriter(tmp_path / "out.xml")
