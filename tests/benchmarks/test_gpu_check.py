"""The check for a first run on a GPU: without one it says so; outcomes, the report, and the page that lists them."""

import json
import re

import numpy as np
import pytest

from benchmarks.gpu_check import __main__ as program
from benchmarks.gpu_check.checks import CHECKS, _compare_weights
from benchmarks.gpu_check.workplace import CheckFailed, NotPossible, Workplace, draw_pictures
from common.errors import MissingDependencyError
from engine.checkpoint import write_checkpoint
from tests.source import text_of


def test_without_a_gpu_it_ends_with_exit_code_7(tmp_path):
    with pytest.raises(MissingDependencyError, match="--device gpu needs a GPU build of Paddle") as caught:
        program.main([f"--output_dir={tmp_path}"])
    assert caught.value.exit_code == 7 and list(tmp_path.iterdir()) == []


def test_every_check_says_what_it_expects_and_is_on_the_pages():
    assert all(re.fullmatch(r"\w.+[.]", check.expects) for check in CHECKS.values())
    for page in ("docs/gpu_checklist.md", "docs/gpu_checklist_ch.md"):
        assert re.findall(r"^\| `(\w+)` \|", text_of(page), re.MULTILINE) == list(CHECKS)


def raising(error):
    def run(place):
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "outcome", "found"),
    [
        (lambda place: f"fine on {place.device}", "passed", "fine on cpu"),
        (raising(CheckFailed("8 of 9 differ")), "FAILED", "8 of 9 differ"),
        (raising(NotPossible("one GPU")), "left out", "one GPU"),
    ],
)
def test_outcomes(run, outcome, found, tmp_path, monkeypatch):
    run.__doc__ = "Expected."
    monkeypatch.setitem(CHECKS, "device", CHECKS["device"]._replace(run=run))
    assert program.run_here(Workplace(tmp_path, "cpu"), "device") == 0
    assert json.loads((tmp_path / "device.json").read_text()) == {
        "check": "device", "expected": "Expected.", "outcome": outcome, "found": found
    }  # fmt: skip


def test_a_rehearsal_on_the_cpu_writes_the_report(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.gpu_check.workplace.NUM_PICTURES", {"train": 4, "val": 4})
    assert program.main(["--device=cpu", "--checks", "device", "bfloat16", f"--output_dir={tmp_path}"]) == 0
    report = json.loads((tmp_path / "gpu_check.json").read_text())
    assert [check["outcome"] for check in report["checks"]] == ["passed", "left out"]
    assert "paddle 3.3.1" in report["checks"][0]["found"] and "needs a GPU" in report["checks"][1]["found"]
    out = capsys.readouterr().out
    assert "1 passed, 0 FAILED, 1 left out" in out and f"to send back: {tmp_path / 'gpu_check.json'}" in out


def test_a_crash_fails_its_check_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(program.sys, "executable", "/bin/false")
    outcome = program.run_apart(Workplace(tmp_path, "cpu"), "device")
    assert outcome["outcome"] == "FAILED" and "ended with exit code 1" in outcome["found"]


def test_weights_are_compared_to_the_last_bit(tmp_path):
    for name, value in (("a", 1.0), ("b", 1.0), ("c", np.nextafter(np.float32(1), np.float32(2)))):
        path = tmp_path / name / "checkpoint-latest.pd"
        path.parent.mkdir()
        write_checkpoint(path, {"model/x": np.float32([value]), "model/y": np.zeros(2, np.float32)}, {})
    assert _compare_weights(tmp_path / "a", tmp_path / "b") == "2 tensors equal to the last bit"
    with pytest.raises(CheckFailed, match=r"1 of 2 tensors differ, by at most 1.2e-07: \['model/x'\]"):
        _compare_weights(tmp_path / "a", tmp_path / "c")


def test_the_drawn_pictures_have_classes_in_both_splits(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_check.workplace.NUM_PICTURES", {"train": 8, "val": 4})
    draw_pictures(tmp_path)
    assert len(list(tmp_path.glob("train/?/*.jpg"))) == 8 and len(list(tmp_path.glob("val/?/*.jpg"))) == 4
