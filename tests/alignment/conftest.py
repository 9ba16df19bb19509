"""The process of the reference, or a small program in its place, for the tests of the alignment tool."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from alignment.reference import Reference


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
