"""Fixtures of tests/deploy: a tiny model, its exported folders, and a folder of images."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from PIL import Image

from datasets.preprocess import Preprocess
from datasets.reading.pixels import image_to_input
from deploy.card import Card
from deploy.export.export_folder import export_folder
from deploy.export.parity import parity_images
from export_model import program_writer
from models import create_model
from tests.forked_python import run_python

SIDE = 32
CLASS_NAMES = ("zero", "one, uno", "two: zwei", "三")


class Source:
    """A small model with the arguments of export_folder."""

    def __init__(self, seed: int = 0):
        paddle.seed(seed)
        self.model = create_model("peleenet", block_config=[1, 1, 1, 1], num_classes=4)
        self.model.eval()
        self._write_program, self._programs = program_writer(self.model, SIDE), {}
        self.images = parity_images()
        self.card = Card(
            model="peleenet",
            architecture="PeleeNet",
            num_classes=4,
            preprocess=Preprocess(input_size=SIDE),
            class_names=CLASS_NAMES,
            metrics={"best_top1_percent": 98.5},
        )
        self.logits = self.eager(self.images)

    def save_program(self, folder: Path, **how) -> list[Path]:
        """Write a program as `program_writer` does; each kind is traced once, since the model stays as it is."""
        kind = (paddle.framework.use_pir_api(), *sorted(how.items()))
        if kind not in self._programs:
            self._programs[kind] = {path.name: path.read_bytes() for path in self._write_program(folder, **how)}
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / name for name in self._programs[kind]]
        for path in files:
            path.write_bytes(self._programs[kind][path.name])
        return files

    def eager(self, images) -> np.ndarray:
        arrays = np.stack([image_to_input(image, self.card.preprocess) for image in images])
        with paddle.no_grad():
            return self.model(paddle.to_tensor(arrays)).numpy()

    def export(self, folder: Path, formats=("paddle",), **changes) -> Card:
        arguments = {"card": self.card, "save_program": self.save_program} | changes
        return export_folder(folder, formats, images=self.images, expected_logits=self.logits, **arguments)


@pytest.fixture(scope="session", autouse=True)
def forked_conversion():
    """Convert to ONNX in processes that have imported Paddle, as that takes longer than the conversion."""
    forks = SimpleNamespace(run=lambda words, cwd, **_: run_python(words[1:], cwd=cwd))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deploy.export.onnx_export.subprocess", forks)
        yield


@pytest.fixture(scope="session")
def source() -> Source:
    return Source()


@pytest.fixture(scope="session")
def exported(source, tmp_path_factory) -> Path:
    """An exported folder with model.json and model.pdmodel. Tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("exported")
    source.export(folder, ("paddle", "pdmodel"))
    return folder


@pytest.fixture(scope="session")
def exported_onnx(source, tmp_path_factory) -> Path:
    """An exported folder with model.json, model.pdmodel and model.onnx."""
    for package in ("onnx", "paddle2onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("exported_onnx")
    source.export(folder, ("paddle", "pdmodel", "onnx"))
    return folder


@pytest.fixture(scope="session")
def image_folder(source, tmp_path_factory) -> Path:
    """Seven images of several types in nested folders, and a file that is not an image."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "inner folder").mkdir()
    names = ("b.jpg", "a.JPEG", "inner folder/c.png", "inner folder/d.BMP", "e.webp", "f.tiff", "g.Jpg")
    for index, name in enumerate(names):
        image: Image.Image = source.images[index % len(source.images)]
        image.rotate(10 * index).save(folder / name)
    (folder / "notes.txt").write_text("not an image")
    return folder
