"""What the tool cannot judge is inconclusive with the reason, whatever differs, and never "no match"."""

import pytest

from alignment.case import Case, Training
from alignment.report.text import conclusion
from alignment.runner import run_stages
from alignment.verdict import Verdict
from tests.alignment.linear_nets import write_net

STAGES = ("weights", "forward", "backward", "train")
pytestmark = pytest.mark.torch


@pytest.fixture
def run(tmp_path, reference):
    """Runs the stages on two nets with this code between their layers."""

    def with_code(
        port: str, expected: str, *, scale: str = "", end: str = "", lr: float = 2**-6, shape=(6, 6), stages=STAGES
    ) -> Verdict:
        for package, code, factor in (("paddle", port, f"{end}{scale}"), ("torch", expected, end)):
            write_net(tmp_path, package, code, scale=factor)
        train = Training(shape=(6, 6), steps=6, curve_side=0, lr=lr)
        case = Case("net", tmp_path, "port.py:Net", "ref.py:Net", shape=shape, train=train)
        return run_stages(case, stages, reference)

    return with_code


def test_a_training_that_diverges(run):
    verdict = run("x = x * x", "x = x * x", lr=1e8)
    assert [stage.status for stage in verdict.stages] == ["pass", "pass", "pass", "inconclusive"]
    assert verdict.exit_code == 6 and conclusion(verdict).startswith("net: inconclusive: ")
    assert "the training of the reference diverges" in conclusion(verdict)
    assert "lower lr in train" in conclusion(verdict)


@pytest.mark.parametrize("name", ["randperm", "randint"])
def test_draws_that_the_other_side_cannot_have(run, name):
    codes = {
        "randperm": (
            "x = x[paddle.randperm(len(x))] if self.training else x",
            "x = x[torch.randperm(len(x))] if self.training else x",
        ),
        "randint": (
            "x = x + paddle.randint(1, 9, [len(x), 8]).astype(x.dtype) if self.training else x",
            "x = x + torch.randint(1, 9, (len(x), 8)) if self.training else x",
        ),
    }
    verdict = run(*codes[name])
    assert [stage.status for stage in verdict.stages][:3] == ["pass", "inconclusive", "inconclusive"]
    assert verdict.status == "inconclusive" and name in conclusion(verdict), verdict.stages
    assert "random draws that the tool cannot repeat" in conclusion(verdict)


def test_a_mistake_before_any_draw_is_no_match(run):
    """The evaluation mode has no draw, so its difference counts."""
    code = "x = x[{}.randperm(len(x))] if self.training else x"
    verdict = run(code.format("paddle"), code.format("torch"), scale="* 2")
    assert verdict.status == "fail" and "times 2" in conclusion(verdict)


def test_an_operation_that_is_missing_in_the_port(run):
    code = 'raise RuntimeError("(Unimplemented) The kernel of roi is not registered for the CPU")'
    verdict = run(code, "x = x.relu()")
    assert verdict.status == "inconclusive" and verdict.exit_code == 6
    assert "an operation is missing on this device" in conclusion(verdict)


def test_an_operation_that_is_missing_in_the_reference(run):
    code = 'raise NotImplementedError("no kernel for the CPU")'
    verdict = run("x = paddle.nn.functional.relu(x)", code)
    assert verdict.status == "inconclusive"
    assert "an operation is missing on this device" in conclusion(verdict)


def test_one_number_of_one_image_is_compared_with_that_of_another(run):
    verdict = run("x = x[:, :8]", "x = x[:, :8]", end=".sum(1, keepdim=True)", shape=(1, 6))
    assert verdict.status == "pass", verdict.problems()
    verdict = run("x = x.abs()", "x = -x", end=".sum(1, keepdim=True)", shape=(1, 6))
    assert verdict.status == "fail"


def test_inputs_on_which_both_sides_are_not_finite_are_not_judged(run):
    code = "x = x + ({}.sqrt(9 - x.abs().max()) - {}.sqrt(9 - x.abs().max()))"
    verdict = run(code.format("paddle", "paddle"), code.format("torch", "torch"), stages=("forward",))
    found = next(check for check in verdict.stages[0].checks if check.name == "other inputs")
    assert verdict.status == "pass", verdict.problems()
    judged, _, rest = found.detail.partition("; not judged, because both sides are not finite: ")
    assert "images times 64" not in judged and "images times 64" in rest
