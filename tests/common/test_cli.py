"""A path that does not exist is answered with the one that was probably meant, and a missing package with its name."""

import re
import subprocess
import sys

import pytest

from common.cli import did_you_mean_path
from common.errors import CheckpointError, DataError, UsageError
from configs.loader import parse
from configs.schema import TrainConfig
from datasets.check.__main__ import main as check
from datasets.reading.dataset import open_dataset
from datasets.reading.image_folder import find_images
from datasets.split.__main__ import main as split
from deploy import load
from engine.weights_format import read_bytes
from tests.source import ROOT, files, text_of


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "My Pictures").mkdir()
    (tmp_path / "checkpoint-best.pd").write_bytes(b"")
    return tmp_path


def test_the_nearest_name_of_the_same_folder(folder, monkeypatch):
    assert did_you_mean_path(folder / "My Picture") == f"; did you mean {folder}/My Pictures?"
    assert did_you_mean_path(f"{folder}/my-pictures/") == f"; did you mean {folder}/My Pictures?"
    assert did_you_mean_path(folder / "dogs") == did_you_mean_path(folder / "none" / "My Picture") == ""
    monkeypatch.chdir(folder)
    assert did_you_mean_path("checkpoint-bst.pd") == "; did you mean checkpoint-best.pd?"


@pytest.mark.parametrize(
    ("read", "name", "error"),
    [
        (find_images, "My Picture", DataError),
        (lambda path: open_dataset(path, "train", None, None), "My Picture", DataError),
        (lambda path: check([path]), "My Picture", DataError),
        (lambda path: split([path, f"--output_dir={path}/lists"]), "My Picture", DataError),
        (read_bytes, "checkpoint-bst.pd", CheckpointError),
        (load, "checkpoint-bst.pd", UsageError),
        (lambda path: parse(TrainConfig, [f"--config={path}"], prog="main.py"), "checkpoint-bst.pd", UsageError),
    ],
)
def test_programs_say_it(folder, read, name, error):
    with pytest.raises(error, match=r"; did you mean .*/(My Pictures|checkpoint-best\.pd)\?"):
        read(type(folder)(folder / name) if read is read_bytes else str(folder / name))


# ------------------------------------------------------------------------------------------------- missing packages

WITHOUT = """
import runpy, sys
missing, sys.argv = sys.argv[1], sys.argv[2:]
sys.modules[missing] = None
sys.path.insert(0, "")
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
PROGRAMS = ("datasets.check", "datasets.split", "datasets.pack", "datasets.digits", "demo.textures", "deploy.serving")


@pytest.mark.parametrize(("missing", "package"), [("numpy", "numpy"), ("PIL", "Pillow")])
def test_programs_name_the_package_that_is_not_installed(missing, package):
    how = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    commands = [[sys.executable, "-c", WITHOUT, missing, program, "folder"] for program in PROGRAMS]
    for process in [subprocess.Popen(command, **how) for command in commands]:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (7, ""), process.args
        assert err == (
            f"error: {package} is not installed: python -m pip install -r requirements.txt (for GPUs: "
            "requirements-gpu.txt)\n"
        )


def test_programs_that_need_numpy_ask_for_it_before_they_import_it():
    """By reading: a program that imports numpy at its top, or a package of this project that may do so."""
    for path in files("*.py"):
        text = text_of(path)
        is_program = 'if __name__ == "__main__":\n    run' in text and not path.startswith("tests/")
        if is_program and re.search(r"^import numpy", text, re.MULTILINE):
            assert 'require_packages("numpy"' in text, path
