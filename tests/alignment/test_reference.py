"""The process of the reference: answers in order, recordings by content, and errors that say what is missing."""

import time

import numpy as np
import pytest

from alignment.case import Case, read_case
from alignment.exchange import read_arrays
from alignment.paddle_side.port import Port
from alignment.reference import File, Reference
from alignment.runner import run_stages
from common.errors import MissingDependencyError, ReferenceFailedError

ECHO = """for line in sys.stdin: print(json.dumps({"answer": json.loads(line)}), flush=True)"""


def test_an_answer_that_was_not_awaited_is_not_the_next_one(stub_python):
    with Reference(stub_python(ECHO)) as reference:
        reference.begin("record_trace")  # and the port fails before it waits for the answer
        assert reference.ask("rates")["operation"] == "rates"


def test_a_reference_that_computes_does_not_delay_the_end(stub_python):
    start = time.monotonic()
    with Reference(stub_python("time.sleep(20)")) as reference:
        reference.begin("train_steps")
    assert time.monotonic() - start < 10


def test_recordings_identify_files_by_their_content(tmp_path, stub_python):
    recordings = tmp_path / "recordings"
    with Reference(stub_python(ECHO), recordings) as reference:
        for number, (place, content) in enumerate([("here", "a"), ("there", "a"), ("there", "b")]):
            (tmp_path / place).mkdir(exist_ok=True)
            (tmp_path / place / "net.py").write_text(content)
            case = Case("net", tmp_path / place, port="", reference="net.py:Net")
            reference.ask("replay", reference=case.reference_spec, paths=[File.at(tmp_path / place / "net.py")])
            assert len(list(recordings.iterdir())) == (1, 1, 2)[number]


def test_recordings_identify_a_source_with_the_files_that_it_imports(tmp_path, stub_python):
    recordings, package = tmp_path / "recordings", tmp_path / "net"
    package.mkdir()
    (package / "net.py").write_text("from blocks import Block\nfrom .parts import inner\nimport sys")
    changes = [
        ("blocks.py", "import deeper"),
        ("deeper.py", "a = 1"),
        ("parts/inner.py", "a = 1"),
        ("port.py", "a = 1"),
    ]
    changes += [("deeper.py", "a = 2"), ("parts/inner.py", "a = 2"), ("port.py", "a = 2")]
    numbers = []
    with Reference(stub_python(ECHO), recordings) as reference:
        for name, content in changes:
            (package / name).parent.mkdir(exist_ok=True)
            (package / name).write_text(content)
            reference.ask("replay", reference=Case("net", package, port="", reference="net.py:Net").reference_spec)
            numbers.append(len(list(recordings.iterdir())))
    assert numbers == [1, 2, 3, 3, 4, 5, 5]  # the port is not part of the reference


def test_recordings_of_other_code_of_the_tool_are_not_used(tmp_path, stub_python, monkeypatch):
    for identity in ("one", "other", "one"):
        monkeypatch.setattr("alignment.reference._own_identity", lambda identity=identity: identity)
        with Reference(stub_python(ECHO), tmp_path / "recordings") as reference:
            reference.ask("rates")
    assert len(list((tmp_path / "recordings").iterdir())) == 2


@pytest.mark.torch
def test_answers_are_recorded_and_used_without_torch(tmp_path):
    case = read_case("ladder")
    with Reference(recordings=tmp_path) as reference:
        first = run_stages(case, ("weights", "forward"), reference)
    with Reference(python="/nowhere/python", recordings=tmp_path) as offline:
        again = run_stages(case, ("weights", "forward"), offline)
    assert [c.value for r in again.stages for c in r.checks] == [c.value for r in first.stages for c in r.checks]


@pytest.mark.torch
def test_an_error_of_the_reference_is_reported(reference):
    with pytest.raises(ReferenceFailedError, match="no_such_model"):
        reference.ask("inventory", reference={"callable": "torchvision.models:no_such_model", "arguments": {}})


def test_a_missing_reference_is_no_failed_check():
    port = Port(lambda: None)
    with Reference("/nowhere/python") as reference, pytest.raises(MissingDependencyError):
        run_stages(read_case("ladder"), ("metric",), reference, port=port)


def test_missing_torch_names_the_install_command(tmp_path, stub_python):
    code = """sys.exit("ModuleNotFoundError: No module named 'torch'")"""
    with Reference(stub_python(code)) as reference:
        with pytest.raises(MissingDependencyError, match="pip install torch") as caught:
            reference.ask("versions")
        assert caught.value.exit_code == 7
    with Reference(str(tmp_path / "absent")) as reference, pytest.raises(MissingDependencyError, match="cannot start"):
        reference.ask("versions")


def test_recorded_arrays_hold_no_objects(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_arrays(tmp_path / "a.npz")
