"""Cases are read strictly: wrong keys and values of a YAML file are named, and the defaults are the documented ones."""

from dataclasses import asdict

import pytest

from alignment.case import list_cases, read_case
from common.errors import CaseError


def test_shipped_cases_can_be_read():
    assert {"peleenet", "mobilenet_v3_small", "mobilenet_v3_large", "alexnet", "ladder", "fork"} <= set(list_cases())
    assert all(read_case(name).reference for name in list_cases())


def test_a_case_without_tolerances_has_the_documented_ones(tmp_path):
    """docs/alignment.md states them, and the verdicts in alignment/verdicts were found with them."""
    (tmp_path / "case.yaml").write_text("port: a\nreference: b\n")
    case = read_case(str(tmp_path / "case.yaml"))
    assert asdict(case.tolerances) == {
        "float64": 1e-10, "float32": 1e-5, "gradient": 1e-7, "step": 1e-6, "curve": 3.0, "absolute": 0.0,
        "amplification": 30.0,
    }  # fmt: skip
    assert asdict(case.train) == {
        "shape": (8, 3, 64, 64), "steps": 20, "optimizer": "momentum", "lr": 2**-6, "momentum": 0.875,
        "weight_decay": 2**-13, "smoothing": 0.125, "curve_side": 32, "curve_lr": 0.02,
    }  # fmt: skip
    assert (case.shape, case.input_range, case.seed) == ((1, 3, 224, 224), (-2.0, 2.0), 0)


@pytest.mark.parametrize("name", list_cases())
def test_no_shipped_case_has_larger_tolerances(name, tmp_path):
    (tmp_path / "case.yaml").write_text("port: a\nreference: b\n")
    default, shipped = asdict(read_case(str(tmp_path / "case.yaml")).tolerances), asdict(read_case(name).tolerances)
    assert {key: value for key, value in shipped.items() if value > default[key]} == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port: a\nreferense: b", "unknown key 'referense'; did you mean reference"),
        ("port: a", "the key 'reference' is missing"),
        ("port: a\nreference: b\ntrain: {step: 3}", "unknown key 'step'; did you mean steps"),
        ("port: a\nreference: b\ntolerances: {float64: much}", "expected a number, got 'much'"),
        ("port: a\nreference: b\nlayouts: {x: {renam: {a: b}}}", "unknown key 'renam'; did you mean rename"),
        ("port: a\nreference: b\nfolder: /", "unknown key 'folder'"),
        ("port: a\nreference: b\n1: 2", "unknown key '1'"),
        ("port: a\nreference: b\nqqqq: 1", "unknown key 'qqqq'; known: port, reference"),
        ("port: a\nreference: b\nshape: many", "shape: expected a list, got 'many'"),
        ("port: a\nreference: b\nshape: [1, 3, x]", "shape: expected a whole number, got 'x'"),
        ("port: a\nreference: b\ninput_range: [1]", "input_range: expected 2 values"),
        ("port: a\nreference: b\ntranspose: head.weight", "transpose: expected a list, got 'head.weight'"),
        ("port: a\nreference: b\nrename: {a: 1}", "rename: a: expected a text, got 1"),
        ("port: a\nreference: b\ntrain: {curve_side: 20}", "train: .* curve_side a multiple of 8; got 20 and 20"),
        ("port: a\nreference: b\ntrain: 5", "train: expected a table"),
        ("- a", "expected a table"),
        ("a: [", "is not YAML"),
        ("a: 2026-13-41", "is not YAML"),
    ],
)
def test_a_wrong_case_is_named(tmp_path, text, message):
    (tmp_path / "case.yaml").write_text(text)
    with pytest.raises(CaseError, match=message):
        read_case(str(tmp_path / "case.yaml"))


def test_an_unknown_case_is_named():
    with pytest.raises(CaseError, match=r"did you mean peleenet\? known: .*; or give the path of a YAML file"):
        read_case("peleent")
