"""The backend that evaluated a model stays with it: from main.py through checkpoint and card to every other script."""

import importlib.util
from functools import partial

import numpy as np
import paddle
import pytest
from PIL import Image

import eval as evaluation
import export_model
import infer
import predict
from common.errors import MissingDependencyError
from datasets.preprocess import Preprocess
from datasets.reading.backends import open_file
from deploy.card import read_card
from engine.checkpoint import write_checkpoint
from models import create_model

TINY = {"block_config": [1, 1, 1, 1]}


@pytest.fixture(autouse=True)
def small_model(monkeypatch):
    monkeypatch.setattr("models.create_model", partial(create_model, **TINY))


@pytest.fixture
def folder(tmp_path):
    """A checkpoint that was evaluated by turbo, and four JPEGs."""
    pytest.importorskip("cv2")
    pytest.importorskip("simplejpeg")
    paddle.seed(0)
    tensors = {f"model/{k}": v.numpy() for k, v in create_model("peleenet", num_classes=2, **TINY).state_dict().items()}
    info = {"preprocess": Preprocess(input_size=32, image_backend="turbo").to_dict()}
    write_checkpoint(tmp_path / "c.pd", tensors, {"next_epoch": 1, "next_step": 0, "epoch": 0, "info": info})
    for i in range(4):
        path = tmp_path / "val" / str(i % 2) / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """The backends by which images were opened."""
    backends = []

    def recorded(path, exif_orientation, backend):
        backends.append(backend)
        return open_file(path, exif_orientation, backend)

    monkeypatch.setattr("datasets.reading.pixels.open_file", recorded)
    return backends


def run(script, folder, *more):
    """A script by its command line; the number of images is four in each."""
    model = ["--nb_classes=2", "--input_size=32", f"--resume={folder / 'c.pd'}"]
    commands = {
        evaluation: [*model, f"--data_path={folder}", "--num_workers=0"],
        predict: [*model, f"--infer_imgs={folder / 'val'}"],
        export_model: [*model, f"--output={folder / 'exported'}", "--format=paddle"],
        infer: [f"--model_file={folder / 'exported'}", f"--input_file={folder / 'val'}", "--cpu_threads=1"],
    }
    script.main([*commands[script], *more])


@pytest.mark.parametrize(("more", "backend"), [([], "turbo"), (["--eval_image_backend=pil"], "pil")])
def test_nobody_has_to_repeat_it(folder, asked, more, backend, capfd):
    run(evaluation, folder, *more)
    run(predict, folder, *more)
    note = "--eval_image_backend pil replaces turbo, the value of"
    out, err = capfd.readouterr()
    assert (note in out) == (note in err) == (backend == "pil")
    assert f"image_backend='{backend}'" in out
    run(export_model, folder, *more)
    assert read_card(folder / "exported").preprocess == Preprocess(input_size=32, image_backend=backend)
    run(infer, folder)
    assert asked == [backend] * 12
    assert (note in capfd.readouterr().err) == (backend == "pil")


def test_a_machine_without_the_package_says_what_to_install(folder, monkeypatch):
    run(export_model, folder)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "simplejpeg" else found(name))
    for script in (evaluation, predict, infer):
        with pytest.raises(MissingDependencyError, match=r"needs python -m pip install simplejpeg; or ") as caught:
            run(script, folder)
        assert caught.value.exit_code == 7
