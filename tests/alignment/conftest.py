"""The process of the reference, or a small program in its place, for the tests of the alignment tool."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent, indent

import pytest

from alignment.case import Case, Training
from alignment.reference import Reference
from alignment.runner import run_stages
from alignment.verdict import Verdict

HEADS = {
    "torch": "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n\n\nclass Net(nn.Module):\n",
    "paddle": "import paddle\nfrom paddle import nn\nfrom paddle.nn import functional as F\n\n\nclass Net(nn.Layer):\n",
}
FILES = {"torch": "ref.py", "paddle": "port.py"}


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("torch") and importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is missing; `make align` installs it")


@pytest.fixture(scope="session")
def reference(tmp_path_factory) -> Reference:
    """A process with PyTorch whose answers are recorded, so that no question is computed twice."""
    with Reference(recordings=tmp_path_factory.mktemp("recordings")) as reference:
        yield reference


@pytest.fixture
def stub_python(tmp_path) -> Callable[[str], str]:
    """Makes an interpreter that runs the given code in place of torch_side/run.py."""

    def make(code: str) -> str:
        script = tmp_path / "python"
        script.write_text(f"#!{sys.executable} -S\nimport json, sys, time\n{code}\n")
        script.chmod(0o755)
        return str(script)

    return make


@pytest.fixture(scope="session")
def torch_side() -> Path:
    return Path(__file__).parents[2] / "alignment" / "torch_side"


@pytest.fixture
def compare(tmp_path, reference) -> Callable[..., Verdict]:
    """Runs the stages on two nets, each given as the bodies of its constructor and of its forward."""

    def run(
        expected: tuple[str, str],
        port: tuple[str, str],
        stages=("weights", "forward", "backward", "train"),
        shape=(4, 6),
        **keys,
    ) -> Verdict:
        for package, (parts, forward) in (("torch", expected), ("paddle", port)):
            text = "def __init__(self):\n    super().__init__()\n" + indent(dedent(parts).strip(), "    ")
            text += "\n\ndef forward(self, x):\n" + indent(dedent(forward).strip(), "    ") + "\n"
            (tmp_path / FILES[package]).write_text(HEADS[package] + indent(text, "    "))
        keys.setdefault("train", Training(shape=(6, *shape[1:]), steps=3, curve_side=0))
        case = Case("net", tmp_path, "port.py:Net", "ref.py:Net", shape=shape, **keys)
        return run_stages(case, stages, reference)

    return run
