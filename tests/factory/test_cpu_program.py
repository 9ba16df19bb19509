"""The program that evaluates on a CPU: checked against the eager model, and given up where it differs."""

import ast
import logging
from functools import partial

import numpy as np
import paddle
import pytest
from PIL import Image

import eval as evaluation
import predict
from configs.schema import TrainedDeviceConfig
from datasets.preprocess import Preprocess
from deploy.engines import EagerEngine
from engine.checkpoint import write_checkpoint
from factory import cpu_program
from factory.cpu_program import CheckedProgram, open_cpu_engine
from models import create_model

TINY, SIDE = {"block_config": [1, 1, 1, 1]}, 32
IMAGES = np.random.default_rng(0).standard_normal((20, 3, SIDE, SIDE), np.float32)


@pytest.fixture(scope="module")
def model():
    paddle.seed(0)
    model = create_model("peleenet", num_classes=3, **TINY)
    model.eval()
    return model


class Fake:
    """An engine that answers with given logits, and counts the images that it gets."""

    def __init__(self, logits):
        self.logits, self.counts = np.asarray(logits, np.float32), []

    def run(self, images):
        self.counts.append(len(images))
        return self.logits[: len(images)]

    def clone(self):
        return Fake(self.logits)


LOGITS = np.random.default_rng(1).standard_normal((20, 3)).astype(np.float32)


def test_an_equal_program_computes_all_but_the_check(caplog):
    program, eager = Fake(LOGITS * (1 + 5e-6)), Fake(LOGITS)
    engine = CheckedProgram(program, eager)
    for _ in range(3):
        np.testing.assert_array_equal(engine.run(IMAGES), program.logits)
    assert (program.counts, eager.counts) == ([20, 20, 20], [16]) and caplog.messages == []
    assert engine.clone().run(IMAGES[:2]).shape == (2, 3) and eager.counts == [16]


@pytest.mark.parametrize("wrong", [LOGITS * (1 + 1e-4), LOGITS * np.nan])
def test_a_program_that_differs_is_given_up_with_a_word(wrong, caplog):
    program, eager = Fake(wrong), Fake(LOGITS)
    engine = CheckedProgram(program, eager)
    for _ in range(2):
        np.testing.assert_array_equal(engine.run(IMAGES), LOGITS)
    assert (program.counts, eager.counts) == ([20], [16, 20, 20])
    [message] = caplog.messages
    assert "the program and the eager model differ by" in message and "the eager model continues" in message
    assert engine.clone().run(IMAGES).shape == (20, 3)


def test_the_program_of_a_model_gives_its_logits(model, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "eval")
    monkeypatch.setattr(cpu_program, "MIN_MACS", 0)
    monkeypatch.setattr(cpu_program, "MIN_IMAGES", 0)
    eager = EagerEngine(model)
    engine = open_cpu_engine(model, SIDE, 1, TrainedDeviceConfig(cpu_threads=1), eager)
    assert isinstance(engine, CheckedProgram)
    expected = eager.run(IMAGES)
    for images, logits in ((IMAGES, expected), (IMAGES[:3], expected[:3])):
        np.testing.assert_allclose(engine.run(images), logits, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert engine._program is not None and engine._is_checked
    [line] = caplog.messages
    assert line.startswith("forward pass: Paddle Inference of model.pdmodel") and line.endswith("the eager model")


def test_the_eager_model_is_taken_for_few_images_and_where_it_is_asked_for(model, monkeypatch):
    eager = EagerEngine(model)
    assert open_cpu_engine(model, SIDE, 100, TrainedDeviceConfig(), eager) is eager
    with monkeypatch.context() as patch:
        patch.setattr("models.complexity.count_macs", None)  # few images need no forward pass to be counted
        assert open_cpu_engine(model, SIDE, 15, TrainedDeviceConfig(), eager) is eager
    monkeypatch.setattr(cpu_program, "MIN_MACS", 0)
    monkeypatch.setattr(cpu_program, "MIN_IMAGES", 0)
    assert open_cpu_engine(model, SIDE, 10, TrainedDeviceConfig(eager=True), eager) is eager
    monkeypatch.setattr("engine.run.is_on_cpu", lambda: False)
    assert open_cpu_engine(model, SIDE, 10, TrainedDeviceConfig(), eager) is eager


def test_a_network_that_cannot_be_traced_stays_eager_with_a_word(model, monkeypatch, caplog):
    def fail(*arguments):
        raise TypeError("first line\nno trace of this layer")

    monkeypatch.setattr(cpu_program, "MIN_MACS", 0)
    monkeypatch.setattr(cpu_program, "MIN_IMAGES", 0)
    monkeypatch.setattr("engine.export.export_program", fail)
    eager = EagerEngine(model)
    assert open_cpu_engine(model, SIDE, 1, TrainedDeviceConfig(), eager) is eager
    assert caplog.messages == [
        "no program of the network: no trace of this layer; the eager model computes, which is slower"
    ]


@pytest.fixture
def folder(model, tmp_path, monkeypatch):
    """A checkpoint and five images of three classes; every number of images is worth a program."""
    monkeypatch.setattr(cpu_program, "MIN_MACS", 0)
    monkeypatch.setattr(cpu_program, "MIN_IMAGES", 0)
    monkeypatch.setattr("models.create_model", partial(create_model, **TINY))
    tensors = {f"model/{name}": value.numpy() for name, value in model.state_dict().items()}
    info = {"args": {"model": "peleenet", "nb_classes": 3}, "preprocess": Preprocess(SIDE).to_dict()}
    write_checkpoint(tmp_path / "c.pd", tensors, {"next_epoch": 1, "next_step": 0, "epoch": 0, "info": info})
    for index in range(5):
        path = tmp_path / "val" / str(index % 3) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path


def test_eval_and_predict_answer_as_with_the_eager_model(folder, capfd):
    checkpoint, val = f"--resume={folder / 'c.pd'}", folder / "val"
    scores, records = [], []
    for eager in ("True", "False"):
        evaluation.main([checkpoint, f"--data_path={folder}", "--num_workers=0", "--tta=flip", f"--eager={eager}"])
        out = capfd.readouterr().out
        assert ("forward pass: Paddle Inference" in out) == (eager == "False")
        scores.append([line.split("] ")[1] for line in out.splitlines() if "Acc" in line])
        explained = folder / f"explained {eager}"
        predict.main(
            [checkpoint, f"--infer_imgs={val}", "--batch_size=2", f"--explain={explained}", f"--eager={eager}"]
        )
        out, err = capfd.readouterr()
        records.append(records_in(out))
        name = "eager model" if eager == "True" else "Paddle Inference of model.pdmodel on CPU, OpenVINO, 1 thread"
        assert f"engine: {name}; CPU threads: 1 (usable processors: " in err
        assert len(list(explained.rglob("*.jpg"))) == 5
    assert scores[0] == scores[1] and len(scores[0]) == 2
    assert [record[0] for record in records[0]] == [record[0] for record in records[1]]
    np.testing.assert_allclose(*([record[1] for record in one] for one in records), atol=2e-5)


def records_in(out: str) -> list[tuple]:
    """(file and classes, scores) of each record that predict.py printed."""
    return [
        ((record["file_name"], record["class_ids"]), record["scores"])
        for line in out.splitlines()
        if line.startswith("[{")  # eval.py has set up the log lines of this process
        for record in ast.literal_eval(line)
    ]
