"""Fixtures of the C++ tests: the program, built once, and a small exported folder and image."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from datasets.preprocess import Preprocess
from tests.deploy.cpp.inputs import make_image, write_folder

ROOT = Path(__file__).parents[3]
BUILD = ROOT / "build" / "cpp"


@pytest.fixture(scope="session")
def program() -> Path:
    """Build the program if its sources have changed."""
    for tool in ("cmake", "c++"):
        if not shutil.which(tool):
            pytest.skip(f"no {tool}; `make test-cpp` installs what the C++ program needs")
    cmake_files = Path(pytest.importorskip("openvino").__file__).parent / "cmake"
    configure = ["cmake", "-S", ROOT / "deploy" / "cpp", "-B", BUILD, f"-DOpenVINO_DIR={cmake_files}"]
    configured = subprocess.run(configure, capture_output=True, text=True)
    missing = re.search(r"Could NOT find \w+|provided by \"yaml-cpp\"", configured.stderr)
    if configured.returncode and missing:
        pytest.skip(f"{missing[0]}; `make test-cpp` installs what the C++ program needs")
    assert configured.returncode == 0, configured.stderr
    built = subprocess.run(["cmake", "--build", BUILD, "--parallel", "2"], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout
    return BUILD / "infer"


@pytest.fixture
def infer(program):
    """A function that runs the program with flags and returns the finished process."""

    def run(model, images, *flags) -> subprocess.CompletedProcess:
        command = [program, "--model_file", model, "--input_file", images, "--cpu_threads", "1", *flags]
        return subprocess.run(command, capture_output=True, text=True)

    return run


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_folder(tmp_path / "exported", Preprocess(input_size=32))


@pytest.fixture
def image_file(tmp_path) -> Path:
    path = tmp_path / "image.png"
    make_image(40, 50).save(path)
    return path
