"""A path that does not exist is answered with the one that was probably meant."""

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
