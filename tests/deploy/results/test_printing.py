"""Predictions on stdout: the predecessor's records in a pipe, a table on a terminal, JSON lines; and the summary."""

import json
import sys

import pytest

from common.errors import MissingDependencyError
from deploy.predictions import failed_prediction
from deploy.results import printing

PREDICTIONS = [
    {"class_ids": [2, 0], "scores": [0.93124, 0.06], "file_name": "/p/a.jpg", "label_names": ["三只猫", "dog"]},
    failed_prediction("/p/bad\x1b[31m.jpg", "damaged"),
    {"class_ids": [0, 2], "scores": [0.7, 0.3], "file_name": "/p/in/b.jpg", "label_names": ["dog", "三只猫"]},
]


@pytest.mark.parametrize(
    ("asked", "is_terminal", "is_saved", "form"),
    [
        ("auto", False, False, "records"),
        ("auto", False, True, "records"),
        ("auto", True, False, "table"),
        ("auto", True, True, "none"),
        ("records", True, True, "records"),
        ("jsonl", True, False, "jsonl"),
        ("table", False, True, "table"),
        ("none", False, False, "none"),
    ],
)
def test_the_form_depends_on_the_terminal(monkeypatch, asked, is_terminal, is_saved, form):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal, raising=False)
    assert printing.choose_form(asked, is_saved=is_saved) == form


def test_without_rich_a_terminal_gets_records_and_a_word(monkeypatch, capsys):
    monkeypatch.setattr(printing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="--print table needs rich"):
        printing.choose_form("table", is_saved=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert printing.choose_form("auto", is_saved=False) == "records"
    assert "pip install rich" in capsys.readouterr().err


def test_records_are_those_of_the_predecessor(capsys):
    printing.Records().write(PREDICTIONS)
    printing.Records().write(PREDICTIONS[1:2])
    assert capsys.readouterr().out == f"{[PREDICTIONS[0], PREDICTIONS[2]]}\n"


def test_json_lines_hold_every_image(capsys):
    printing.JsonLines().write(PREDICTIONS)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == PREDICTIONS


def table(monkeypatch, capsys, predictions, width=60):
    monkeypatch.setenv("COLUMNS", str(width))
    printer = printing.Table(
        [prediction["file_name"] for prediction in predictions], ["dog", "a very long name", "三只猫"]
    )
    for prediction in predictions:  # batch by batch
        printer.write([prediction])
    return capsys.readouterr().out.splitlines()


def test_a_table_has_a_line_per_image(monkeypatch, capsys):
    assert table(monkeypatch, capsys, PREDICTIONS) == [
        "images in /p:",
        "image            class                score  next",
        "a.jpg            三只猫              93.1 %  dog 6.0 %",
        "in/b.jpg         dog                 70.0 %  三只猫 30.0 %",
    ]


def test_a_table_of_one_image_has_a_line_per_class(monkeypatch, capsys):
    assert table(monkeypatch, capsys, PREDICTIONS[:1])[1:] == [
        "image  class                score",
        "a.jpg  三只猫              93.1 %",
        "       dog                  6.0 %",
    ]


@pytest.mark.parametrize("width", [40, 60, 200])
def test_no_line_of_a_table_is_wider_than_the_terminal(monkeypatch, capsys, width):
    from rich.cells import cell_len

    classes = {"class_ids": [2] * 9, "scores": [0.1] * 9, "label_names": ["三只猫" * 9] * 9}
    lines = table(monkeypatch, capsys, [classes | {"file_name": f"/p/{'very long ' * 9}{n}.jpg"} for n in "12"], width)
    assert len(lines) == 4 and all(cell_len(line) <= width for line in lines)
    assert all(f"{n}.jpg" in line for n, line in zip("12", lines[2:], strict=True)), (
        "the end of a name tells them apart"
    )


def test_names_cannot_write_to_the_terminal(monkeypatch, capsys):
    odd = {"class_ids": [0], "scores": [1.0], "label_names": ["[red]\x1b[31m"], "file_name": "/p/\x1b[2J\udcff.jpg"}
    text = "\n".join(table(monkeypatch, capsys, [odd, odd], width=120))
    assert "\x1b" not in text and r"\x1b[2J\udcff.jpg" in text and r"[red]\x1b[31m" in text
    printing.print_failures(PREDICTIONS)
    assert "\x1b" not in capsys.readouterr().err


def test_the_summary_counts_classes_and_failures(capsys):
    summary = printing.Summary()
    summary.write([*PREDICTIONS, PREDICTIONS[0], {"class_ids": [], "scores": [], "file_name": "c", "label_names": []}])
    summary.print()
    assert capsys.readouterr().err.splitlines() == [
        "5 images predicted, of which 1 could not be read:",
        "  2  三只猫",
        "  1  dog",
        "  1  no class reaches the threshold",
    ]


def test_the_summary_of_many_classes_is_short(capsys):
    summary = printing.Summary()
    for n in range(50):
        summary.write([{"class_ids": [n], "scores": [1], "file_name": "c", "label_names": [f"class {n}\n"]}] * (n + 1))
    summary.print()
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == r"  50  class 49\n" and len(lines) == 22 and lines[-1] == "  465  in 30 more classes"
