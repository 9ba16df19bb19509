"""The table of results in the READMEs is that of results.jsonl; what is not measured says so."""

import pytest

from benchmarks.results_table import HEADS, MARKS, ROWS, main, table
from common.errors import DataError
from common.marked_text import replaced

LINE = {"benchmark": "fashion_mnist", "model": "peleenet", "arm": "short", "settings": {"lr": 1}, "epochs": 5}


def rows(lines: list[dict], page: str = "README.md") -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(lines, page).splitlines()[2:]]


def test_the_readmes_have_the_table_of_the_results(capsys):
    assert main(["--check"]) == 0, "python -m benchmarks.results_table"


@pytest.mark.parametrize(("page", "word"), [("README.md", "not yet"), ("README_ch.md", "尚未")])
def test_without_results_every_row_says_so_and_how_to_fill_it(page, word):
    cells = rows([{"benchmark": "latency", "results": []}], page)
    assert len(cells) == len(ROWS) and {len(row) for row in cells} == {len(HEADS[page])}
    assert all(row[5] == row[6] == word and row[4] == "" and row[8] for row in cells)


def test_mean_and_spread_of_the_newest_settings():
    old = LINE | {"settings": {"lr": 2}, "top1_percent": 50.0, "seconds": 10}
    new = [LINE | {"top1_percent": 91.0 + seed, "seconds": 900 + seed} for seed in range(3)]
    full = {"benchmark": "train_full", "case": "peleenet", "recipe": "fashion_mnist_peleenet",
            "flags": ["--batch_size", "128"],
            "pytorch": [{"top1_percent": [80.0, 91.5]}, {"top1_percent": [80.0, 92.5]}]}  # fmt: skip
    cells = rows([old, *new, full])
    assert cells[0][3:7] == ["5", "901", "92.00 ± 1.00 (3 seeds)", "92.00 ± 0.71 (2 seeds)"]
    assert cells[1][5:7] == ["not yet", "not yet"]  # the long form has other flags
    assert rows([*new, full | {"flags": []}])[0][6] == "not yet"  # other steps than those of the two processes
    assert rows([*new, full | {"recipe": "another"}])[0][6] == "not yet"
    longer = full | {"flags": ["--epochs", "30", "--reprob", "0.25", "--batch_size", "128"]}
    assert [row[6] for row in rows([*new, longer])[:2]] == ["not yet", "92.00 ± 0.71 (2 seeds)"]
    assert rows([new[0]])[0][5] == "91.00"
    assert all(row[5] == "not yet" for row in cells[4:])  # ImageNet


def test_only_the_text_between_the_marks_is_replaced():
    text = f"a\n{MARKS[0]}\nold\n{MARKS[1]}\nb"
    assert replaced(text, MARKS, "| new \\1 |", "x.md") == f"a\n{MARKS[0]}\n| new \\1 |\n{MARKS[1]}\nb"
    with pytest.raises(DataError, match=r"x\.md: expected the lines"):
        replaced("a", MARKS, "new", "x.md")
