"""Cases are read strictly: wrong keys and values of a YAML file are named, and the defaults are the documented ones."""

import math
import os
import subprocess
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

from alignment.case import Case, list_cases, read_case
from alignment.cli import main as alignment_main
from alignment.exchange import constructor
from alignment.mapping.names import case_of_names
from alignment.paddle_side.port import build
from alignment.weights import main as convert_main
from common.errors import CaseError
from engine.safetensors_io import encode


def test_shipped_cases_can_be_read():
    assert {"peleenet", "mobilenet_v3_small", "mobilenet_v3_large", "alexnet", "ladder", "fork"} <= set(list_cases())
    assert all(read_case(name).reference for name in list_cases())


def test_a_case_without_tolerances_has_the_documented_ones(tmp_path):
    """docs/alignment.md states them, and the verdicts in alignment/verdicts were found with them."""
    (tmp_path / "case.yaml").write_text("port: a\nreference: b\n")
    case = read_case(str(tmp_path / "case.yaml"))
    assert asdict(case.tolerances) == {
        "float64": 1e-10, "rounding": 6.0, "float32": 0.0, "initialisation": math.inf, "gradient": 1e-7, "step": 1e-6,
        "curve": 3.0, "absolute": 0.0, "amplification": 30.0,
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


@pytest.mark.parametrize("key", ["port", "reference"])
@pytest.mark.parametrize(
    ("spec", "arguments"),
    [
        ("os:system", "{command: touch ran}"),
        ("subprocess:run", "{args: [touch, ran]}"),
        ("torchvision_evil.models:net", "{}"),
        ("../outside.py:net", "{}"),
        ("FOLDER/outside.py:net", "{}"),
        ("link.py:net", "{}"),
        ("common.cli:run", "{}"),
        ("transformers:AutoModel", "{trust_remote_code: true}"),
    ],
)
def test_a_case_takes_models_from_beside_it_or_from_known_packages_alone(tmp_path, monkeypatch, key, spec, arguments):
    folder, spec = tmp_path / "case", spec.replace("FOLDER", str(tmp_path))
    folder.mkdir()
    monkeypatch.chdir(folder)
    (tmp_path / "outside.py").write_text("")
    (folder / "link.py").symlink_to(tmp_path / "outside.py")
    models = {"port": "alexnet", "reference": "torchvision.models:alexnet"} | {key: spec}
    lines = [f"{name}: {value}\n" for name, value in models.items()] + [f"{key}_arguments: {arguments}\n"]
    (folder / "case.yaml").write_text("".join(lines))
    with pytest.raises(CaseError, match=r"could run any code.*--trust_case") as caught:
        read_case(str(folder / "case.yaml"))
    assert caught.value.exit_code == 2 and spec in str(caught.value)
    assert read_case(str(folder / "case.yaml"), is_trusted=True).is_trusted
    for program in (alignment_main, convert_main):
        words = ["convert", "a.pd", "b.pd", "--case"] if program is convert_main else ["forward"]
        with pytest.raises(CaseError, match="--trust_case"):
            program([*words, str(folder / "case.yaml")])
    assert not (folder / "ran").exists()


def test_files_that_are_typed_on_the_command_line_may_be_anywhere(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    (tmp_path / "net.py").write_text("")
    monkeypatch.chdir(tmp_path / "work")
    file = f"{tmp_path}/net.py"
    case = case_of_names("../net.py:port", f"{file}:reference", shape="2,8")
    assert (case.port, case.reference, case.is_trusted) == ("../net.py:port", f"{file}:reference", False)
    with pytest.raises(CaseError, match=r"os:system could run any code"):
        case_of_names(f"{file}:port", "os:system")
    with pytest.raises(CaseError, match="trust_remote_code could run any code"):
        case_of_names(f"{file}:port(trust_remote_code=True)", f"{file}:reference")


def test_a_trusted_case_runs_what_it_names(tmp_path):
    (tmp_path / "case.yaml").write_text(f"port: os:mkdir\nport_arguments: {{path: {tmp_path}/made}}\nreference: os:x\n")
    weights = tmp_path / "a.safetensors"
    weights.write_bytes(b"".join(encode({"a": np.zeros(1, np.float32)}, {})))
    with pytest.raises(CaseError, match="os:mkdir makes an object of NoneType, not a paddle"):
        convert_main(["convert", str(weights), "b.pdparams", "--trust_case", "--case", f"{tmp_path}/case.yaml"])
    assert (tmp_path / "made").is_dir()


def test_a_name_that_a_known_package_only_imports_is_refused(tmp_path):
    package = SimpleNamespace(run=subprocess.run, Popen=subprocess.Popen, os=os, Case=Case)
    for name in ("run", "Popen", "os"):
        with pytest.raises(ImportError, match="not of torchvision"):
            constructor(package, name, "torchvision")
        assert constructor(package, name) is getattr(package, name)
    assert constructor(package, "Case", "alignment") is Case
    (tmp_path / "case.yaml").write_text("port: models:NamedTuple\nreference: torchvision.models:b\n")
    with pytest.raises(CaseError, match=r"NamedTuple is of typing, not of models.*--trust_case"):
        build(read_case(str(tmp_path / "case.yaml")))


def test_a_case_cannot_call_itself_trusted(tmp_path):
    (tmp_path / "case.yaml").write_text("port: a\nreference: b\nis_trusted: true\n")
    with pytest.raises(CaseError, match="unknown key 'is_trusted'"):
        read_case(str(tmp_path / "case.yaml"))
