"""Holds docs/design.md, docs/adding.md and the READMEs to the source: layout, names, exit codes, counts."""

import re
from pathlib import Path

import pytest

from common import errors
from tests import layout_report
from tests.source import ROOT, files, part_of, text_of

DESIGN = text_of("docs/design.md")
CODE = [path for path in files("*.py") if part_of(path) != "tests"]


def section(title: str, text: str = DESIGN) -> str:
    """The text below a heading of level 2, up to the next one."""
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]


def rows(text: str) -> list[list[str]]:
    """The rows of the tables in a text, without their heads."""
    tables = re.findall(r"^\|.*\|\n\|[-|: ]+\|\n((?:\|.*\|\n)*)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for table in tables for line in table.splitlines()]


WHERE = rows(section("Where is it?"))


def test_there_are_at_least_thirty_questions():
    assert len(WHERE) >= 30
    assert len({question for question, _, _ in WHERE}) == len(WHERE)


@pytest.mark.parametrize(("question", "word", "file"), WHERE, ids=[row[0] for row in WHERE])
def test_the_word_of_the_field_leads_to_the_file(question, word, file):
    path = file.strip("`")
    assert path in CODE
    if word in Path(path).name:
        return
    defined = re.compile(rf"\b(def|class) [a-z_]*{word.replace('_', '_?')}", re.IGNORECASE)
    found = [path for path in CODE if defined.search(text_of(path))]
    assert path in found and len(found) <= 3, f"{word} is defined in {found}"


def test_the_layout_names_every_folder_and_nothing_else():
    """Of two levels; the folders of data below them are named where they are read."""
    folders, named, package = set(), set(), ""
    for path in files("*"):
        parts = Path(path).parts[:-1]
        if len(parts) == 1 or (len(parts) == 2 and parts[0] in ("datasets", "engine", "deploy", "alignment")):
            folders.add("/".join(parts))
    for indent, name in re.findall(r"^( *)([a-z_]+)/ ", section("Layout"), re.MULTILINE):
        package = package if indent else name
        named.add(f"{package}/{name}" if indent else name)
    assert folders - named - {".ci", "alignment/verdicts"} == set()
    assert named - folders == set()


@pytest.mark.parametrize("page", ["docs/design.md", "docs/compatibility.md", "docs/compatibility_ch.md"])
def test_exit_codes(page):
    """Every code of common/errors.py is on the page, and no other but 0 and, for users, 1."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ProjectError)]
    codes = {kind.exit_code for kind in kinds} - {1}  # 1: a fault that a restart may cure, and a fault of the project
    named = re.findall(r"^\| (\d+) \|", text_of(page), re.MULTILINE)
    assert {int(code) for code in named} - {0, 1} == codes
    assert page == "docs/design.md" or {"0", "1"} <= set(named)


# ---------------------------------------------------------------------------------------------------- counts

COUNTS = [row for row in rows(section("Counts")) if len(row) == 3]


def count(start: str) -> tuple[int, int]:
    """(limit, now) of the row of the table of counts that begins like this."""
    [row] = [row for row in COUNTS if row[0].startswith(start)]
    return int(row[1]), int(row[2])


def test_the_counts_are_within_their_limits():
    assert all(int(now) <= int(limit) for _, limit, now in COUNTS)


def test_the_most_parameters_of_a_function():
    number, name = layout_report.most_parameters()
    assert number == count("parameters of a function")[1], name


def test_the_lines_of_main():
    assert layout_report.lines_of_main() <= count("lines of `main.py`")[0]


def test_the_files_to_touch():
    touched = layout_report.files_to_touch()
    for task in (
        "a model",
        "an augmentation",
        "an optimizer",
        "a training flag",
        "an inference engine",
        "an alignment case",
    ):
        paths = touched[task[0].upper() + task[1:]]
        row = "files to touch, beside tests, for a model" if task == "a model" else f"... for {task}"
        assert len(paths) == count(row)[1], paths
    for path in (path for paths in touched.values() for path in paths):
        assert (ROOT / path.replace("NAME", "peleenet")).exists(), path


def test_the_duplicates():
    """Each is in the table with its reason, and each row of the table is there."""
    files_of = {tuple(place.split(":")[0] for place in pair) for pair in layout_report.duplicates()}
    listed = set()
    for where, reason in [row for row in rows(section("Counts")) if len(row) == 2]:
        paths = re.findall(r"`(.+?)`", where)
        assert reason and len(paths) == (1 if where.endswith(" twice") else 2), where
        listed.add((paths[0], paths[-1]))
    assert files_of == listed


def test_the_files_that_a_training_image_passes():
    passed = layout_report.files_of_a_training_image()
    assert {"datasets/reading/decode.py", "datasets/loading/worker_pool.py", "engine/train.py"} <= set(passed)
    assert len(passed) == count("files that a training image passes")[1], passed
