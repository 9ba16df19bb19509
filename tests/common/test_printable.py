"""What is shown of a name from a file: no control characters, no reversed text, no formulas, and the name is kept."""

import ast
import json
import logging
import re
import unicodedata
from xml.etree import ElementTree

import pytest

from common.cli import run
from common.errors import BadImage, DataError
from common.logs import LineFormatter
from common.printable import (
    original_text,
    print_safely,
    printable,
    printable_json,
    printable_lines,
    spreadsheet_text,
)
from tests.source import files, text_of, tree_of

HOSTILE = {
    "colour": "\x1b[31mred\x1b[0m",
    "title of the window": "\x1b]0;owned\x07",
    "cursor": "a\rerror: none",
    "reversed": "photo\u202egpj.exe",
    "isolate": "\u2066x\u2069",
    "hidden": "a\u200bb\ufeffc\u00ad",
    "tags": "a\U000e0041\U000e007f",
    "C1": "\x9b31m\x85",
    "lines": "a\nb\u2028c\u2029d\x0be\x0cf",
    "no UTF-8": "a\udcff",
    "delete": "\x7f\x00\x08",
    "no XML": "a\ufffe\uffff",
}
HARMLESS = ["a 1.jpg", "类别 二", "naïve.png", "a\u3000b\u00a0c", "👩\u200d🔬", "می\u200cخواهم", "\\x1b", "'"]
SHOWN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def is_safe(text: str) -> bool:
    return not any(unicodedata.category(c) in SHOWN and c not in "\u200c\u200d" for c in text)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_escaped_and_nothing_of_it_is_lost(name):
    text = printable(HOSTILE[name])
    assert is_safe(text) and text != HOSTILE[name]
    decoded = text.encode("latin1", "backslashreplace").decode("unicode_escape")
    assert decoded.encode("utf-16", "surrogatepass") == HOSTILE[name].encode("utf-16", "surrogatepass")
    ElementTree.fromstring(ElementTree.tostring(ElementTree.Element("a", name=text)))


@pytest.mark.parametrize("name", HARMLESS)
def test_other_names_are_not_changed(name):
    assert printable(name) == printable_lines(name) == name == spreadsheet_text(name)


@pytest.mark.parametrize("name", [*HOSTILE.values(), *HARMLESS])
def test_json_has_escapes_of_its_own_and_the_same_value(name):
    text = printable_json({name: [name]})
    assert is_safe(text) and json.loads(text) == {name: [name]}
    assert name in HOSTILE.values() or "\\u" not in text


# Programs whose output is for their own maker, or cannot hold a name from a file.
OWN_TEXTS = ("tests/", "benchmarks/", "demo/", "test_tipc/", "alignment/torch_side/", "common/", "configs/")
SAFE_PRINTS = {
    "models/pretrained.py": "as_",  # the table of public weights
    "factory/trained.py": "*models.list_models()",
    "deploy/results/printing.py": "(successes|printable_json)",  # Python's list escapes what is not printable
    "deploy/benchmark_report.py": "time.strftime",
    "deploy/serving/client.py": "printable_json",
    "deploy/serving/triton_client.py": "printable_json",
    "deploy/serving/json_log.py": "line$",  # JSON in ASCII
    "deploy/pipeline.py": "f'{num_done}/",
    "datasets/split/examine.py": "f'{done:,}",
}


def test_no_program_prints_a_name_as_it_is():
    wrong = [
        f"{path}:{node.lineno}: print({ast.unparse(node.args[0])}, use print_safely"
        for path in files("*.py")
        if not path.startswith(OWN_TEXTS) and " print(" in text_of(path)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print" and node.args
        if not isinstance(node.args[0], ast.Constant)
        and not re.match(SAFE_PRINTS.get(path, "$").replace("*", r"\*"), ast.unparse(node.args[0]))
    ]
    assert wrong == []


def test_a_line_break_in_a_name_makes_no_message_of_its_own():
    assert printable_lines("bad\n[12:00:00] Accuracy 99 %\n\n  x\ty\x1b") == (
        "bad\n  [12:00:00] Accuracy 99 %\n\n  x\ty\\x1b"
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_errors_logs_and_warnings_show_hostile_names_escaped(name, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["program"])

    def main(_):
        raise DataError(f"{HOSTILE[name]}: no such file")

    with pytest.raises(SystemExit, match="3"):
        run(main)
    print_safely(f"warning: {HOSTILE[name]}")
    record = logging.LogRecord("engine", logging.INFO, "", 0, "file=%s", (HOSTILE[name],), None)
    shown = capsys.readouterr()
    for text in (shown.err, shown.out, LineFormatter().format(record), str(BadImage(HOSTILE[name], "damaged"))):
        assert is_safe(text.removesuffix("\n").replace("\n  ", "")), text


FORMULAS = ["=1+1", "+1", "-a.jpg", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", '=HYPERLINK("http://x","y")']


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_a_text_and_can_be_read_back(text):
    for given in (text, f"'{text}", f"''{text}"):
        assert spreadsheet_text(given) == f"'{given}"
        for allow_formulas in (False, True):
            assert original_text(spreadsheet_text(given, allow_formulas=allow_formulas)) == given
    assert spreadsheet_text(text, allow_formulas=True) == text


def test_numbers_and_other_texts_are_no_formulas():
    cells = [-1.5, -3, "a=b", "1-2", "", "'a'"]
    assert [spreadsheet_text(cell) for cell in cells] == cells
    texts = [cell for cell in cells if isinstance(cell, str)]
    assert [original_text(text) for text in texts] == texts
