"""Errors in the files of the user have file and line and are never taken for a match."""

from collections.abc import Callable

import pytest

from alignment.case import Case, Training
from alignment.cli import main
from alignment.runner import run_stages
from alignment.user_code import UserCodeError, construct, load_callable
from common.errors import CaseError, ReferenceFailedError

NET = """
import sys
import {package}
from {package} import nn

class Net(nn.{base}):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.first(x)
        {code}
        return self.second(x)
"""
WORDS = {"torch": ("Module", "ref.py"), "paddle": ("Layer", "port.py")}


@pytest.fixture
def write_net(tmp_path) -> Callable[..., Case]:
    """Writes two equal nets with a case; `port` and `expected` are code between their layers, `end` ends the files."""

    def write(port: str = "pass", expected: str = "pass", *, ends: tuple[str, str] = ("", "")) -> Case:
        for package, code, end in (("paddle", port, ends[0]), ("torch", expected, ends[1])):
            base, name = WORDS[package]
            (tmp_path / name).write_text(NET.format(package=package, base=base, code=code) + end)
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
