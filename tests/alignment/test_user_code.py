"""Errors in the files of the user have file and line and are never taken for a match."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from alignment.case import Case, Training, checked_case
from alignment.cli import main
from alignment.runner import run_stages
from alignment.user_code import UserCodeError, construct, load_callable
from common.errors import CaseError, ReferenceFailedError
from tests.alignment import linear_nets
from tests.alignment.linear_nets import WORDS


@pytest.fixture
def write_net(tmp_path) -> Callable[..., Case]:
    """Writes two equal nets with a case; `port` and `expected` are code between their layers, `end` ends the files."""

    def write(port: str = "pass", expected: str = "pass", *, ends: tuple[str, str] = ("", "")) -> Case:
        for package, code, end in (("paddle", port, ends[0]), ("torch", expected, ends[1])):
            linear_nets.write_net(tmp_path, package, code, end=end)
        (tmp_path / "net.yaml").write_text("port: port.py:Net\nreference: ref.py:Net\nshape: [6, 6]\n")
        train = Training(shape=(6, 6), steps=2, curve_side=0)
        return Case("net", tmp_path, "port.py:Net", "ref.py:Net", shape=(6, 6), train=train)

    return write


@pytest.mark.parametrize(
    "code", ["sys.exit(0)", "exit()", "import argparse; argparse.ArgumentParser().parse_args(['x'])"]
)
def test_a_file_that_ends_the_program_is_an_error_with_its_line(code, write_net, tmp_path):
    write_net(ends=(code, ""))
    path = tmp_path / "port.py"
    with pytest.raises(UserCodeError, match=rf"{path}:{len(path.read_text().splitlines())}: SystemExit: .*__main__"):
        load_callable(f"{path}:Net")


def test_a_constructor_that_ends_the_program_is_an_error(tmp_path):
    path = tmp_path / "port.py"
    path.write_text("import sys\ndef make():\n    sys.exit(0)\n")
    with pytest.raises(UserCodeError, match=rf"{path}:3: SystemExit"):
        construct(f"{path}:make", load_callable(f"{path}:make"), {})


@pytest.mark.torch
@pytest.mark.parametrize(("side", "error"), [(0, CaseError), (1, ReferenceFailedError)])
def test_the_command_does_not_end_with_success_where_a_file_calls_exit(side, error, write_net, tmp_path):
    write_net(ends=("sys.exit(0)", "") if side == 0 else ("", "sys.exit(0)"))
    with pytest.raises(error, match="SystemExit") as caught:
        main(["forward", str(tmp_path / "net.yaml")])
    assert caught.value.exit_code == 2


@pytest.mark.torch
def test_a_forward_that_calls_exit_is_no_match(write_net, reference):
    verdict = run_stages(write_net("sys.exit(0)"), ("forward",), reference)
    assert verdict.exit_code == 6 and "SystemExit" in verdict.first_problem().detail
    with pytest.raises(ReferenceFailedError, match="SystemExit"):
        run_stages(write_net(expected="sys.exit(0)"), ("forward",), reference)


LEAF = """

class Leaf(nn.{base}):
    def forward(self, x, factor):
        {code}
        return x * factor
"""


@pytest.mark.torch
def test_an_error_in_a_layer_has_its_message_and_its_line(write_net, tmp_path, reference):
    case = write_net("x = Leaf()(x, 2)", "x = Leaf()(x, 2)")
    for package, code in (("paddle", "y = x.nowhere"), ("torch", "pass")):
        base, name = WORDS[package]
        text = (tmp_path / name).read_text()
        text = text.replace("x = Leaf()(x, 2)", "x = self.leaf(x, 2)").replace("__init__()\n", "__init__()\nLINE", 1)
        text = text.replace("LINE", "        self.leaf = Leaf()\n")
        (tmp_path / name).write_text(text + LEAF.format(base=base, code=code))
    verdict = run_stages(case, ("forward",), reference)
    detail = verdict.first_problem().detail
    line = (tmp_path / "port.py").read_text().splitlines().index("        y = x.nowhere") + 1
    assert "has no attribute 'nowhere'" in detail and f"port.py:{line})" in detail, detail


@pytest.mark.torch
def test_an_error_of_the_reference_has_its_line(write_net, tmp_path, reference):
    case = write_net(expected="x = x.nowhere")
    line = (tmp_path / "ref.py").read_text().splitlines().index("        x = x.nowhere") + 1
    with pytest.raises(ReferenceFailedError, match=rf"no attribute 'nowhere' \(at .*ref.py:{line}\)"):
        run_stages(case, ("forward",), reference)


@pytest.mark.torch
def test_code_that_is_not_written_is_no_missing_operation(write_net, reference):
    verdict = run_stages(write_net("raise NotImplementedError('todo')"), ("forward",), reference)
    assert verdict.status == "fail" and "NotImplementedError: todo" in verdict.first_problem().detail


@pytest.mark.torch
def test_a_model_without_layers_has_a_place_in_the_file_of_the_user(tmp_path, reference):
    net = "from {0} import nn\n\n\nclass Net(nn.{1}):\n    def forward(self, x):\n        return x * {2}\n"
    (tmp_path / "port.py").write_text(net.format("paddle", "Layer", 2))
    (tmp_path / "ref.py").write_text(net.format("torch", "Module", 3))
    case = Case("net", tmp_path, "port.py:Net", "ref.py:Net", shape=(4, 3))
    problem = run_stages(case, ("forward",), reference).first_problem()
    assert "port.py:4; reference:" in problem.detail and "ref.py:4" in problem.detail, problem


@pytest.mark.torch
def test_a_port_with_another_parameter_is_no_match_and_no_wrong_file(write_net, tmp_path, reference):
    case = write_net()
    text = (tmp_path / "port.py").read_text()
    (tmp_path / "port.py").write_text(text.replace("__init__()\n", "__init__()\n        self.more = nn.Linear(2, 2)\n"))
    verdict = run_stages(case, ("forward",), reference)
    assert verdict.exit_code == 6 and "more.weight" in verdict.first_problem().detail


@pytest.mark.torch
def test_a_parallel_model_is_the_model_inside(write_net, tmp_path, reference):
    case = write_net()
    with open(tmp_path / "ref.py", "a") as file:
        file.write("\ndef parallel():\n    return nn.DataParallel(Net())\n")
    assert run_stages(replace(case, reference="ref.py:parallel"), ("weights", "forward"), reference).status == "pass"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"shape": []}, "shape: expected the lengths of a batch"),
        ({"shape": [0, 8]}, r"got \[0, 8\]"),
        ({"seed": -1}, "seed: expected a number of at least 0; got -1"),
        ({"train": {"shape": []}}, "train: shape: expected"),
        ({"train": {"optimizer": "adam"}}, "train: unknown optimizer 'adam'; did you mean adamw"),
    ],
)
def test_a_value_that_no_run_can_have_is_a_wrong_case(keys, words, tmp_path):
    for name in ("port.py", "ref.py"):
        (tmp_path / name).write_text("")
    content = {"port": "port.py:Net", "reference": "ref.py:Net"} | keys
    with pytest.raises(CaseError, match=words):
        checked_case(content, "net.yaml", name="net", folder=tmp_path, is_trusted=False)
