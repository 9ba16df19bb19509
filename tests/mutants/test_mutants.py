"""Every planted fault has its place in the present source and tests that exist; the runs themselves are no test."""

import ast
from collections import Counter
from functools import cache

import pytest

from tests.mutants.__main__ import planted, table
from tests.mutants.catalog import ROOT, Mutant, read_mutants
from tests.mutants.pytest_process import FAILED, HUNG, NOTHING, PASSED, run_pytest
from tests.source import text_of, tree_of

OF_THE_AUDIT = (
    "D09 D12 D14 D15 D16 D17 E01 E04 E06 E08 E09 E14 E17 E18 E19 E20 E21 E22 E24 E25 M04 M07 P01 P04 P08 P09 P10 P12 "
    "P13 C03 A01 A02 A05 A06 S01 S03 S04 S07 S10 T03 K01 K02"
).split()
MUTANTS = read_mutants()


def test_the_catalogue_has_the_faults_of_the_audit_and_150_more():
    names = [mutant.id for mutant in MUTANTS]
    assert [name for name, times in Counter(names).items() if times > 1] == []
    assert set(OF_THE_AUDIT) <= set(names)
    assert len(names) >= len(OF_THE_AUDIT) + 150


@cache
def dump_of(path: str) -> str:
    return ast.dump(tree_of(path))


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.id for mutant in MUTANTS])
def test_a_fault_has_one_place_where_it_can_be_planted(mutant):
    places = mutant.places()
    assert len(places) == 1, f"{mutant.find!r} stands {len(places)} times in {mutant.package}: {places}"
    text = text_of(places[0])
    changed = mutant.plant(text)
    assert changed != text
    if places[0].endswith(".py"):
        assert ast.dump(ast.parse(changed)) != dump_of(places[0]), "the edit changes nothing"


def test_the_tests_that_are_named_exist():
    missing = []
    for name in sorted({test for mutant in MUTANTS for test in mutant.tests}):
        path, _, function = name.partition("::")
        is_there = (ROOT / path).exists() and f"def {function.partition('[')[0]}" in text_of(path) if function else True
        missing += [] if is_there and (ROOT / path).exists() else [name]
    assert missing == []


def test_a_planted_fault_is_taken_out_again(tmp_path):
    mutant = Mutant("X", "common", "", "def usable_cpus() -> int:", "def usable_cpus() -> str:", ())
    path = tmp_path / "common" / "cpus.py"
    path.parent.mkdir()
    path.write_bytes((ROOT / "common" / "cpus.py").read_bytes())
    before = path.read_bytes(), path.stat().st_mtime_ns
    with planted([mutant], tmp_path):
        assert b"-> str:" in path.read_bytes()
        assert path.stat().st_mtime_ns != before[1]
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize(
    ("test", "ended"),
    [("assert 1", PASSED), ("assert 0", FAILED), ("import time; time.sleep(60)", HUNG), (None, NOTHING)],
)
def test_how_a_run_ended(tmp_path, test, ended):
    (tmp_path / "test_one.py").write_text(f"def test_one():\n    {test}\n" if test else "")
    timeout = 0.5 if ended == HUNG else 60
    assert run_pytest(tmp_path, ["test_one.py"], timeout, tmp_path / "output.txt") == ended


def test_the_table_has_a_row_for_each_package_and_the_share():
    rows = {
        "engine": {"planted": 3, "found": 2, "survived": ["E01"]},
        "common": {"planted": 1, "found": 1, "survived": []},
    }
    assert table(rows)[1:] == [
        "common            1      1",
        "engine            3      2  E01",
        "all               4      3  75.0 %",
    ]
