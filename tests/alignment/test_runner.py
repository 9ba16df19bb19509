"""The stages are run in order, an exception is a failed check, and wrong questions end before any computation."""

import subprocess
import sys
from pathlib import Path

import pytest

from alignment.case import read_case
from alignment.cli import main
from alignment.paddle_side.port import Port
from alignment.reference import Reference
from alignment.runner import STAGES, run_stages
from alignment.verdict import Check, StageResult
from common.errors import BadImage, CaseError, DataError, WeightsError

ROOT = Path(__file__).parents[2]
PASSED = StageResult("weights", [Check("names", "pass")])
FAILED = StageResult("weights", [Check("names", "fail")])


def fake_stages(monkeypatch, **outcomes):
    """Let stages return these results, or raise these exceptions."""

    def run_of(result):
        def run(session):
            if isinstance(result, Exception):
                raise result
            return result

        return run

    for name, result in outcomes.items():
        monkeypatch.setattr(f"alignment.stages.{name}.run", run_of(result))


@pytest.mark.parametrize("error", [WeightsError("of another shape"), ValueError("a bug of the port")])
def test_an_exception_is_a_failed_check_and_later_stages_are_run(error, monkeypatch):
    fake_stages(monkeypatch, weights=PASSED, forward=error, loss=StageResult("loss", [Check("x", "pass")]))
    with Reference("/nowhere/python") as reference:
        verdict = run_stages(read_case("ladder"), ("weights", "forward", "loss"), reference, port=Port(lambda: None))
    assert [(stage.name, stage.status) for stage in verdict.stages] == [
        ("weights", "pass"), ("forward", "fail"), ("loss", "pass")
    ]  # fmt: skip
    assert str(error) in verdict.first_problem().detail and verdict.exit_code == 6


def test_a_weights_error_of_the_first_stage_is_no_empty_verdict(monkeypatch):
    fake_stages(monkeypatch, forward=WeightsError("of another shape"))
    with Reference("/nowhere/python") as reference:
        verdict = run_stages(read_case("ladder"), ("forward",), reference, port=Port(lambda: None))
        assert [stage.status for stage in verdict.stages] == ["fail"]
        with pytest.raises(WeightsError):  # on the command line: the given weights cannot be used
            run_stages(read_case("ladder"), ("forward",), reference, weights={})
        assert run_stages(read_case("ladder"), ("forward",), reference).exit_code == 6


def test_what_the_stage_weights_reports_is_not_repeated(monkeypatch):
    fake_stages(monkeypatch, weights=FAILED, forward=WeightsError("of another shape"))
    for port in (None, Port(lambda: None)):
        with Reference("/nowhere/python") as reference:
            verdict = run_stages(read_case("ladder"), ("weights", "forward", "loss"), reference, port=port)
        assert verdict.stages == [FAILED]


def test_missing_and_damaged_images_are_no_difference(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with Reference("/nowhere/python") as reference:
        with pytest.raises(DataError):
            run_stages(read_case("ladder"), ("data",), reference, image_folder=tmp_path / "absent")
        with pytest.raises(BadImage, match=r"a\.jpg: not an image") as caught:
            run_stages(read_case("ladder"), ("data",), reference, image_folder=tmp_path)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["all", "none.yaml"], 2, "none.yaml: no such file"),
        (["all", "peleent"], 2, "did you mean peleenet"),
        (["forward", "peleenet", "--images", "/none"], 3, "/none: no such file or folder"),
    ],
)
def test_a_wrong_question_ends_before_any_computation(argv, code, message):
    with pytest.raises((CaseError, DataError), match=message) as caught:
        main(argv)
    assert caught.value.exit_code == code


def test_usage_errors_come_before_torch(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["run", "peleenet"])
    assert caught.value.code == 2


def test_a_selftest_without_mutations_is_refused():
    with pytest.raises(CaseError, match="--only no such bug"):
        main(["selftest", "--only", "no such bug", "--clean", "0", "--no_peers"])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("alignment --help", [*STAGES, "peleenet", "--recordings", "--junit"]),
        ("alignment selftest --help", ["--only", "--no_peers"]),
        ("alignment compare --help", ["--tolerance"]),
        ("alignment.weights convert --help", ["--case", "--to", "--layout"]),
    ],
)
def test_the_documented_commands_answer(command, words):
    done = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in words)


def test_an_error_is_one_message_and_an_exit_code():
    done = subprocess.run(
        [sys.executable, "-m", "alignment", "all", "peleent"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown case 'peleent'; did you mean peleenet?"), done.stderr


@pytest.mark.torch
def test_the_command_writes_its_files(tmp_path, capsys):
    files = {name: tmp_path / f"out.{name}" for name in ("json", "junit", "report")}
    flags = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    assert main(["forward", "ladder", *flags]) == 0
    assert all(path.stat().st_size > 300 for path in files.values())
    assert "ladder: match" in capsys.readouterr().out
