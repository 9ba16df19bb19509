"""What models return is compared with its keys, number and shapes, and what they are given is what the case says."""

from collections.abc import Callable

import numpy as np
import pytest

from alignment.case import checked_case
from alignment.layers.outputs import unpacked
from alignment.runner import run_stages
from alignment.verdict import Verdict

NET = """
import {package}
from {package} import nn

class Net(nn.{base}):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 6), nn.Linear(8, 6)

    def forward(self, {arguments}):
        y, z = self.first(x), self.second(x)
        return {output}

def loss(output, target):
    return (output["a"] ** 2).mean() + 3 * (output["b"] ** 2).mean()
"""
WORDS = {"torch": ("Module", "ref.py"), "paddle": ("Layer", "port.py")}
CASE = {
    "port": "port.py:Net", "reference": "ref.py:Net", "shape": [4, 8],
    "train": {"shape": [4, 8], "steps": 2, "curve_side": 0},
}  # fmt: skip
pytestmark = pytest.mark.torch


@pytest.fixture
def run(tmp_path, reference) -> Callable[..., Verdict]:
    """Runs stages on two nets that return these expressions."""

    def with_outputs(port: str, expected: str, stages=("forward", "backward"), arguments="x", **keys) -> Verdict:
        for package, output in (("paddle", port), ("torch", expected)):
            base, name = WORDS[package]
            text = NET.format(package=package, base=base, output=output, arguments=arguments)
            (tmp_path / name).write_text(text)
        content = {key: value for key, value in (CASE | keys).items() if value is not None}
        case = checked_case(content, "net", name="net", folder=tmp_path, is_trusted=False)
        return run_stages(case, stages, reference)

    return with_outputs


@pytest.mark.parametrize(
    ("port", "expected", "words"),
    [
        ('{"b": y, "a": z}', '{"a": y, "b": z}', ""),
        ("(y.reshape([-1, 2, 3]), y.mean(-1))", "(y, y.mean(-1))", "the port returns 0 [4, 2, 3], 1 [4]"),
        ("(y[:, :2], y[:, 2:])", "(y[:, :1], y[:, 1:])", "the reference returns 0 [4, 1], 1 [4, 5]"),
        ("(y, z)", '{"a": y, "b": z, "c": y[:, :0]}', "the reference returns a [4, 6], b [4, 6], c [4, 0]"),
    ],
)
def test_other_keys_number_or_shapes_are_no_match(run, port, expected, words):
    verdict = run(port, expected)
    assert [stage.status for stage in verdict.stages] == ["fail", "fail"]
    assert any(words in check.detail for check in verdict.problems()), verdict.problems()


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ('{"b": z, "a": y}', '{"a": y, "b": z}'),
        ('{"c": {"b": z, "a": y}, "d": y * z}', '{"d": y * z, "c": {"a": y, "b": z}}'),
        ("(y, z)", '{"a": y, "b": z}'),
        ('{"one": y, "two": z}', '{"a": y, "b": z}'),
        ('{"b": z, "a": y} if self.training else (y, z)', '{"a": y, "b": z} if self.training else (y, z)'),
    ],
)
def test_equal_values_under_the_keys_of_the_reference_match(run, port, expected):
    verdict = run(port, expected, ("forward", "backward", "train"))
    assert verdict.status == "pass", verdict.problems()


MAIN = "y.unsqueeze(-1)"


@pytest.mark.parametrize(
    ("outputs", "arguments", "keys"),
    [
        (("y", "y"), "x", {"inputs": {"x": [2, 8]}, "shape": None, "train": {"steps": 2, "curve_side": 0}}),
        (("{'b': z, 'a': y}", "{'a': y, 'b': z}"), "x", {"inputs": {"x": [2, 8]}, "shape": None}),
        (("y", "y"), "*, x", {}),
        ((f"({MAIN}, z) if self.training else {MAIN}",) * 2, "x", {}),
    ],
)
def test_a_model_is_run_on_what_the_case_or_its_forward_says(run, outputs, arguments, keys):
    verdict = run(*outputs, ("forward", "backward", "train"), arguments, **keys)
    assert verdict.status == "pass", verdict.problems()


def test_a_list_in_place_of_a_tensor_is_named(run):
    verdict = run("[y]", "y")
    assert "the port returns a list of 1, the reference one tensor" in verdict.first_problem().detail


def test_the_loss_of_the_user_gets_the_outputs_by_their_keys(run):
    verdict = run(
        '{"b": z, "a": y}', '{"a": y, "b": z}', ("loss", "metric", "train"), loss="loss", metric="loss",
        target={"shape": [4, 6], "range": [0, 1]},
    )  # fmt: skip
    assert verdict.status == "pass", verdict.problems()


@pytest.mark.torch
def test_the_output_that_differs_and_its_operation_are_named_wherever_it_is_computed(compare):
    layers = "self.conv, self.head = nn.{}(3, 6, 3), nn.Linear(6, 4)"
    forward = "f = F.relu(self.conv(x)).mean((2, 3))\nunit = F.normalize(f, {})\n"
    forward += "return {{'unit': unit, 'logits': self.head(f)}}"
    verdict = compare(
        (layers.format("Conv2d"), forward.format("dim=1")), (layers.format("Conv2D"), forward.format("axis=0")),
        ("forward",), (4, 3, 8, 8),
    )  # fmt: skip
    problem = verdict.first_problem()
    assert problem.detail.endswith("1 of 2 outputs differ: unit")
    assert [line.split("  ")[-1] for line in problem.source] == [
        "unit = F.normalize(f, axis=0)",
        "unit = F.normalize(f, dim=1)",
    ]
    assert "in the reference normalize at" in problem.hints[-1]


def test_packed_outputs_are_taken_apart_only_where_their_sizes_fit():
    one, two = np.arange(6.0).reshape(2, 3), np.arange(8.0).reshape(2, 2, 2)
    outputs = [["a", [2, 3]], ["b", [2, 2, 2]]]
    found = unpacked(np.concatenate([one, two.reshape(2, 4)], 1), outputs)
    assert np.array_equal(found["a"], one) and np.array_equal(found["b"], two)
    assert list(unpacked(np.arange(14.0), outputs)) == ["a", "b"]
    assert unpacked(np.arange(15.0), outputs) == {} and unpacked(one, []) == {}
