"""Verdicts and their outputs: nothing is a success that does not pass, and the report is one safe file."""

import json
from argparse import Namespace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import alignment
from alignment.case import list_cases
from alignment.cli import write_files
from alignment.report.html_page import as_html
from alignment.report.json_junit import FORMAT, as_json, write_junit
from alignment.report.text import conclusion, problem_lines, stage_lines
from alignment.runner import STAGES
from alignment.verdict import Check, StageResult, Verdict
from common.errors import DiskError
from common.printable import printable

VERDICTS = sorted(Path(alignment.__file__).parent.glob("verdicts/*.json"))


def verdict():
    checks = [
        Check("good", "pass", 1e-12, 1e-10),
        Check("<bad>", "fail", float("inf"), 1e-10, "why", "a.b", ["a hint"]),
    ]
    return Verdict("net", [StageResult("forward", checks), StageResult("loss", [Check("nothing", "inconclusive")])])


def test_a_verdict_is_a_success_only_if_all_checks_pass(tmp_path):
    assert verdict().exit_code == 6
    assert Verdict("net", [StageResult("loss", [Check("x", "inconclusive")])]).exit_code == 6
    assert Verdict("net", []).exit_code == 6
    assert Verdict("net", [StageResult("loss", [Check("x", "pass")])]).exit_code == 0
    assert verdict().first_problem().layer == "a.b"
    write_junit(verdict(), tmp_path / "junit.xml")
    tests = ElementTree.parse(tmp_path / "junit.xml").findall(".//testcase")
    assert [[child.tag for child in test] for test in tests] == [[], ["failure"], ["error"]]
    assert json.loads(json.dumps(as_json(verdict())))["stages"]["forward"]["checks"][1]["value"] == "infinite"


def test_a_remark_is_no_error_of_junit(tmp_path):
    found = Verdict("net", [StageResult("forward", [Check("x", "pass"), Check("y", "remark", detail="a word")])])
    write_junit(found, tmp_path / "junit.xml")
    tests = ElementTree.parse(tmp_path / "junit.xml").findall(".//testcase")
    assert found.exit_code == 0
    assert [[(child.tag, child.text) for child in test] for test in tests] == [[], [("system-out", "a word")]]


@pytest.mark.parametrize("kind", [float, np.float32, np.float64])
def test_numbers_of_numpy_are_written_as_json(kind):
    checks = [Check("good", "pass", kind(0), kind(1e-10)), Check("bad", "fail", kind("inf"), kind(1))]
    stages = json.loads(json.dumps(as_json(Verdict("net", [StageResult("forward", checks)]))))["stages"]
    plain = [{"name": "good", "status": "pass", "value": 0, "tolerance": 1e-10},
             {"name": "bad", "status": "fail", "value": "infinite", "tolerance": 1}]  # fmt: skip
    assert stages["forward"]["checks"] == plain


def test_the_terminal_shows_numbers_hints_and_the_nearest_cause():
    lines = stage_lines(verdict().stages[0])
    assert lines[0].split()[:4] == ["forward", "fail", "0.0", "s"]
    assert "1 of 2 checks pass; nearest to its limit: good, 1.00e-12 <= 1e-10" in lines[0]
    assert [line.split() for line in lines[1:]] == [["!", "<bad>", "inf", ">", "1e-10", "why"]]
    assert [line.strip() for line in problem_lines(verdict()) if line] == [
        "1. a.b inf > 1e-10", "<bad>: why", "hint: a hint"
    ]  # fmt: skip
    assert conclusion(verdict()) == "net: no match: <bad>, at a.b: why; a hint"
    assert conclusion(Verdict("net", [StageResult("loss", [Check("x", "inconclusive")])])).startswith("net: inconclu")
    assert conclusion(Verdict("net", [StageResult("loss", [Check("x", "pass")])])) == "net: match"


def check(name, value, *, layer="", hints=(), status="fail"):
    return Check(name, status, value, 1e-10, layer=layer, hints=list(hints))


def test_problems_are_ordered_by_effect_and_causes_come_first():
    forward = [check("logits", 0.9), check("a alone", 1e-3, layer="a"), check("slope", 1e-7, layer="s")]
    backward = [check("a alone", 2e-3, layer="a"), check("b alone", 0.5, layer="b"), check("setting", 0.0, layer="c")]
    train = [check("weights", 0.3, layer="c")]
    found = Verdict("net", [StageResult(str(k), checks) for k, checks in enumerate((forward, backward, train))])
    assert [(problem.name, problem.status) for problem in found.problems()] == [
        ("b alone", "fail"), ("setting", "fail"), ("a alone", "fail"), ("logits", "fail"), ("slope", "remark")
    ]  # fmt: skip
    text = " ".join(problem_lines(found))
    assert "may follow from these: logits" in text and "one float32 constant" in text


def test_what_differs_in_training_follows_from_the_causes_of_other_stages_unless_a_hint_says_more():
    forward = StageResult("forward", [check("a alone", 1e-3, layer="a", hints=["epsilon"])])
    train = StageResult("train", [check("weights", 0.3, layer="stem"), check("losses", 0.2, hints=["beta2"])])
    found = Verdict("net", [forward, train])
    assert [problem.name for problem in found.causes_and_others()[0]] == ["losses", "a alone"]
    assert found.causes_and_others()[1] == ["weights"]
    assert [problem.layer for problem in Verdict("net", [train]).causes_and_others()[0]] == ["stem", ""]


def test_a_difference_of_one_float32_constant_is_a_problem_if_nothing_is_larger():
    alone = Verdict("net", [StageResult("forward", [check("slope", 1e-7, layer="s")])])
    assert alone.problems()[0].status == "fail" and alone.exit_code == 6
    assert conclusion(alone).startswith("net: no match: slope, at s")


def test_at_most_ten_problems_are_explained():
    many = Verdict("net", [StageResult("forward", [check(f"x{k}", 1.0, layer=f"l{k}") for k in range(14)])])
    lines = problem_lines(many)
    assert sum(line.lstrip()[:1].isdigit() for line in lines) == 10 and "and 4 more" in " ".join(lines)


def test_a_remark_passes_and_is_counted():
    found = Verdict("net", [StageResult("initialisation", [check("x", None, status="remark")])])
    assert found.exit_code == 0 and conclusion(found) == "net: match, 1 remark"


def test_the_report_is_one_file_and_escapes_texts():
    page = as_html(verdict())
    assert "&lt;bad&gt;" in page and "<bad>" not in page and "a hint" in page
    assert "http" not in page and "src=" not in page
    diverged = StageResult("train", [Check("losses", "fail")], curves={"loss of the port": [float("nan")] * 3})
    assert "Loss, 3 steps" in as_html(Verdict("net", [diverged]))


HOSTILE = "<script>&\"'\x1b[31m\u202e\udcff\x00</script>"
ROW = {"path": HOSTILE, "kind": HOSTILE, "place": HOSTILE, "match": HOSTILE, "match_place": HOSTILE, "status": HOSTILE,
       "paired_by": HOSTILE, "note": HOSTILE, "hints": [HOSTILE], "output_error": 1.0, "alone_error": None,
       "gradient_error": None, "float32_error": None}  # fmt: skip


def test_hostile_names_stay_texts_in_every_report(tmp_path):
    checks = [Check(HOSTILE, status, 1.0, 0.0, HOSTILE, HOSTILE, [HOSTILE]) for status in ("fail", "inconclusive")]
    stage = StageResult(HOSTILE, checks, layers=[ROW], curves={HOSTILE: [1.0]})
    hostile = Verdict(HOSTILE, [stage], {HOSTILE: HOSTILE})
    page = as_html(hostile)
    assert "<script" not in page and "&lt;script&gt;&amp;&quot;&#x27;" in page
    options = Namespace(json=tmp_path / "v.json", junit=tmp_path / "v.xml", report=tmp_path / "v.html")
    write_files(hostile, options)
    tests = ElementTree.parse(options.junit).findall(".//testcase")
    assert [test.get("name") for test in tests] == [printable(HOSTILE)] * 2
    assert json.loads(options.json.read_text())["case"] == HOSTILE
    for path in vars(options).values():
        assert not set("\x1b\u202e\x00") & set(path.read_text(encoding="utf-8"))


def test_a_report_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    options = Namespace(json=tmp_path / "file" / "v.json", junit=None, report=None)
    with pytest.raises(DiskError, match=r"cannot write .*file/v\.json") as caught:
        write_files(Verdict("case", []), options)
    assert caught.value.exit_code == 74


@pytest.mark.parametrize("path", [path for path in VERDICTS if path.stem in list_cases()], ids=lambda path: path.stem)
def test_the_kept_verdicts_are_of_the_present_format(path):
    """`python -m alignment all NAME --json alignment/verdicts/NAME.json` writes a new one."""
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["format"] == FORMAT and content["case"] == path.stem in list_cases()
    kept = tuple(content["stages"])
    assert kept == tuple(stage for stage in STAGES if stage in kept) and set(STAGES) - set(kept) <= {"initialisation"}
    assert {stage["status"] for stage in content["stages"].values()} == {content["status"]} == {"pass"}
