"""The operations between two layers: the first whose result differs is named with its line on both sides."""

import re

import numpy as np
import paddle
import pytest

from alignment.case import Case, Training
from alignment.layers.operations import Operation, first_difference, root_of_difference
from alignment.paddle_side.operation_log import OperationLog
from alignment.runner import run_stages
from alignment.trace import Trace

NET = """
{imports}
class Net(nn.{base}):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.{conv}(3, 6, 3), nn.Linear(6, 4)

    def forward(self, x):
        x = self.conv(x)
        scale = F.softmax(x, {axis}=1)
        x = {relu}
        x = x * scale + 0.5
        x = {pool}
        return {end}
"""
RIGHT = {"relu": "F.relu(x)", "pool": "x.mean((2, 3))", "end": "self.head(x)"}
WRONG = [  # (lines of the port that differ, pattern of the hint)
    (
        {"relu": "F.leaky_relu(x)"},
        r"equal up to conv2d at torch_net.py:10; then leaky_relu at port_net.py:12, \w+ at port_net.py:13, \.\.\., "
        r"in the reference relu at torch_net.py:12",
    ),
    (
        {"pool": "x.max((2, 3))"},
        r"equal up to add at torch_net.py:13; then max at port_net.py:14, .*in the reference mean at torch_net.py:14",
    ),
    (
        {"end": "self.head(x.flip(1))"},
        r"numbers in another order or shape: flip at port_net.py:15; in the reference mean at torch_net.py:14",
    ),
    (
        {"end": "self.head(x) * 2"},
        r"equal up to \w+ at port_net.py:15; then \w+ at port_net.py:15, in the reference nothing",
    ),
]


@pytest.mark.torch
@pytest.mark.parametrize(("lines", "pattern"), WRONG)
def test_the_operation_after_which_the_values_differ_is_named(lines, pattern, tmp_path, reference):
    paddle_words = {"imports": "from paddle import nn\nfrom paddle.nn import functional as F", "base": "Layer"}
    torch_words = {"imports": "from torch import nn\nfrom torch.nn import functional as F", "base": "Module"}
    port = NET.format(**paddle_words, conv="Conv2D", axis="axis", **RIGHT | lines)
    (tmp_path / "port_net.py").write_text(port)
    (tmp_path / "torch_net.py").write_text(NET.format(**torch_words, conv="Conv2d", axis="dim", **RIGHT))
    train = Training(shape=(4, 3, 8, 8), steps=3, curve_side=0)
    case = Case("net", tmp_path, "port_net.py:Net", "torch_net.py:Net", shape=(2, 3, 8, 8), train=train)
    problem = run_stages(case, ("forward",), reference).first_problem()
    assert any(re.search(pattern, re.sub(r"\S*/", "", hint)) for hint in problem.hints), problem.hints


@pytest.mark.torch
def test_an_operation_that_only_large_values_reach_is_named_with_its_line(compare):
    layers = "self.conv, self.head = nn.{}(3, 6, 3), nn.Linear(6, 4)"
    forward = "x = self.conv(x)\nx = F.{}(x)\nx = x * 2\nx = x.mean((2, 3))\nx = x + 1\nx = x * 3\nreturn self.head(x)"
    verdict = compare(
        (layers.format("Conv2d"), forward.format("relu6")), (layers.format("Conv2D"), forward.format("relu")),
        ("forward",), (2, 3, 8, 8),
    )  # fmt: skip
    problem = verdict.first_problem()
    assert problem.name.startswith("first difference, images times"), problem
    assert any(" relu at " in hint and " relu6 at " in hint for hint in problem.hints), problem.hints
    assert [line.split("  ")[-1] for line in problem.source] == ["x = F.relu(x)", "x = F.relu6(x)"]


def operation(name: str, array, place: str = "x.py:1") -> Operation:
    return Operation.of_result(name, place, np.asarray(array, np.float64))


def test_a_value_that_is_found_again_later_hides_other_ways_to_it():
    one, two, other = [1.0, 2.0], [3.0, 5.0], [7.0, 8.0]
    port = [operation("a", one), operation("detour", other), operation("b", two)]
    assert first_difference(port, [operation("a", one), operation("b", two)]).hint == ""
    assert first_difference(port, [operation("b", two), operation("c", one)]).hint == (
        "the operations differ after this: equal up to b at x.py:1; then nothing, in the reference c at x.py:1"
    )
    assert first_difference([operation("gelu", one)], [operation("gelu", two)]).hint.endswith(
        "in the reference gelu at x.py:1; gelu is called on both sides, so compare its arguments"
    )
    assert "another order" in first_difference([operation("b", two)], [operation("b", two[::-1])]).hint
    assert first_difference([operation("ones", [1.0, 1.0])], [operation("ones", [1.0, 1.0])]).hint == ""


def test_a_wrong_operation_is_found_beside_right_ones_that_come_later():
    # x -> a -> b -> end, where a differs; beside it x -> c, which is right and comes last
    def side(wrong: float) -> list[Operation]:
        arrays = [
            ("x", [1.0, 2.0], ()), ("a", [3.0, wrong], (0,)), ("b", [4.0, 2 * wrong], (1,)), ("c", [9.0, 8.0], (0,)),
            ("end", [7.0, 3 * wrong], (2, 3)),
        ]  # fmt: skip
        return [Operation.of_result(name, f"{name}.py:1", np.array(array), 0, inputs) for name, array, inputs in arrays]

    found = root_of_difference(side(5.0), side(6.0))
    assert (found.port.name, found.reference.name) == ("a", "a")
    assert found.hint.startswith(
        "the operations differ after this: equal up to x at x.py:1; then a at a.py:1, b at b.py"
    )
    assert root_of_difference(side(5.0), side(5.0)).hint == ""


def test_minus_infinity_of_a_mask_does_not_hide_what_is_equal():
    one, two = [operation("masked", [-np.inf, 2.0, last]) for last in (3.0, 4.0)]
    assert one.is_like(one) and not one.is_like(two)


def test_paddles_operations_are_kept_between_two_nodes_alone():
    trace, x = Trace(), paddle.to_tensor([[1.0, 2.0]])
    with OperationLog(trace, (0, 1)) as log:
        x = x + 1  # before the first node
        trace.nodes.append({})
        x = x * 2  # inside it
        trace.nodes[0]["outputs"] = []
        first, _ = (paddle.nn.functional.relu(x) @ x.T).expand([2, 1]).unbind(0)
        trace.nodes.append({})
        _ = first - 1
    assert [one.name for one in log.operations] == ["relu", "transpose", "matmul", "expand", "unbind", "unbind"]
    assert log.operations[0].place.startswith("tests/alignment/test_operations.py:")
    assert log.operations[0].sums[:2] == (10.0, 10.0)
    x - 1
    assert len(log.operations) == 6
