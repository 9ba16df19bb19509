"""The zoo of networks: a verdict is judged by the true differences, and the documents show the results of the file."""

import json

import pytest

from alignment.mapping import zoo
from alignment.mapping.zoo_table import DOCS, MARKS, PAGES, table
from alignment.verdict import Check, StageResult, Verdict
from common.errors import CaseError


def verdict(*checks: Check) -> Verdict:
    return Verdict("net", [StageResult("forward", list(checks) or [Check("all", "pass")])])


def problem(layer: str, kind: str, hint: str) -> Check:
    return Check("settings", "fail", 0.0, detail=f"{zoo.NOT_REACHED}{kind} at x.py:3", layer=layer, hints=[hint])


def test_a_network_that_is_not_in_the_zoo_is_named():
    with pytest.raises(CaseError, match="unknown network 'resnet19'; known: resnet18"):
        zoo.main(["resnet19"])


def test_only_the_true_differences_are_expected():
    pool = problem("pool", "MaxPool2D", "ceil_mode is False, in the reference True; write x")
    drop = problem("drop", "Dropout", "dropout_mode is downscale_in_infer, in the reference upscale_in_train")
    assert zoo.difference_text(pool) == "MaxPool2D: ceil_mode is False, in the reference True"
    assert zoo.is_expected("squeezenet1_0", verdict(pool, drop))
    assert not zoo.is_expected("squeezenet1_0", verdict(pool))
    assert not zoo.is_expected("squeezenet1_0", verdict(pool, drop, problem("conv", "Conv2D", "stride is 1")))
    assert zoo.is_expected("resnet18", verdict()) and not zoo.is_expected("resnet18", verdict(pool))


def test_the_table_counts_verdicts_and_takes_the_fastest_run():
    runs = {
        "64 pixels, seed 0": {"verdict": "match", "differences": [], "seconds": 30},
        "64 pixels, seed 1": {"verdict": "match", "differences": [], "seconds": 20},
        "64 pixels, seed 2": {"verdict": "no match", "differences": ["MaxPool2D: x", "MaxPool2D: x"], "seconds": 25},
    }
    assert table({"net": runs}, "alignment.md")[2:] == [
        "| net | match, 2 of 3 runs<br>no match, 1 of 3 runs | MaxPool2D: x | 20 |"
    ]


@pytest.mark.parametrize("page", PAGES)
def test_the_documents_have_the_results(page):
    """`python -m alignment zoo --write_table` writes them; every network has only its true differences."""
    results = json.loads(zoo.RESULTS.read_text())
    text = (DOCS / page).read_text(encoding="utf-8")
    assert "\n".join(table(results, page)) in text.partition(MARKS[0])[2].partition(MARKS[1])[0]
    assert len(results) >= 10 and results.keys() <= zoo.NETWORKS.keys()
    assert all(run["is_expected"] for runs in results.values() for run in runs.values())
