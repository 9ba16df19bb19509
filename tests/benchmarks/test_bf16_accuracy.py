"""The bf16 benchmark: its commands, its numbers, its line, and what it says on a processor without bfloat16."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import bf16_accuracy
from benchmarks.bf16_accuracy import line_of, main
from common.cpus import has_bfloat16
from common.errors import MissingDependencyError
from configs.loader import parse
from configs.schema import ExportConfig, TrainConfig
from deploy import engine_base

RESULT = {
    "num_images": 8, "fp32_top1_percent": 99.0, "bf16_top1_percent": 98.5, "num_other_classes": 1,
    "largest_difference": 0.0123,
}  # fmt: skip


@pytest.fixture
def digits(monkeypatch):
    def write(folder):
        folder.mkdir(parents=True)
        for number in range(3):
            pixels = np.random.default_rng(number).integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / "val_list.txt").write_text("0.png 0\n1.png 1\n2.png 2\n")

    monkeypatch.setattr(bf16_accuracy, "write_digits", write)


def test_each_model_is_trained_and_exported_once(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(engine_base, "has_bfloat16", lambda: True)
    monkeypatch.setattr(bf16_accuracy, "score", lambda exported, data: RESULT)
    commands = []

    def run(script, *flags):
        config = parse({"main.py": TrainConfig, "export_model.py": ExportConfig}[script], list(flags), prog=script)
        commands.append((script, config.model.name))
        if script == "export_model.py":
            folder = tmp_path / config.model.name / "exported"
            assert config.export.output_dir == str(folder) and config.export.format == "onnx"
            folder.mkdir(parents=True)
            (folder / "card.yaml").touch()
        else:
            assert config.schedule.epochs == 3

    monkeypatch.setattr(bf16_accuracy, "run", run)
    for _ in range(2):
        main(["--epochs=3", f"--output_dir={tmp_path}", f"--results={tmp_path / 'r.jsonl'}"])
    scripts = ("main.py", "export_model.py")
    assert commands == [(script, model) for model in ("peleenet", "mobilenet_v3_small") for script in scripts]
    recorded = json.loads((tmp_path / "r.jsonl").read_text().splitlines()[-1])["results"]
    assert recorded == [{"model": "peleenet", **RESULT}, {"model": "mobilenet_v3_small", **RESULT}]
    assert (
        "peleenet: top-1 99.00 % in fp32, 98.50 % in bf16 (-0.50); another class for 1 of 8" in capsys.readouterr().out
    )


def test_without_bfloat16_nothing_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_base, "has_bfloat16", lambda: False)
    with pytest.raises(MissingDependencyError, match="no bfloat16"):
        main([f"--output_dir={tmp_path}", f"--results={tmp_path / 'r.jsonl'}"])
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


@pytest.mark.deploy
@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")
def test_the_numbers_are_of_both_precisions(digits, tmp_path):
    import paddle

    from datasets.preprocess import Preprocess
    from deploy.card import Card
    from deploy.engines import EagerEngine
    from deploy.export.export_folder import export_folder
    from deploy.export.parity import parity_images
    from deploy.predictor import Predictor
    from export_model import program_writer
    from models import create_model

    paddle.seed(0)
    model = create_model("peleenet", block_config=[1, 1, 1, 1], num_classes=3)
    model.eval()
    card = Card("peleenet", "PeleeNet", 3, Preprocess(input_size=32), class_names=None)
    eager, images = Predictor(EagerEngine(model), card), parity_images()
    logits = eager.logits(eager.preprocess(images))
    export_folder(tmp_path / "exported", ("onnx",), card, program_writer(model, 32), images, logits)
    bf16_accuracy.write_digits(tmp_path / "digits")
    result = bf16_accuracy.score(tmp_path / "exported", tmp_path / "digits")
    files = [(tmp_path / "digits" / f"{number}.png").read_bytes() for number in range(3)]
    best = eager.logits(eager.preprocess(files)).argmax(1)
    assert result["num_images"] == 3
    assert result["fp32_top1_percent"] == pytest.approx(100 * np.mean(best == [0, 1, 2]))
    assert 1e-7 < result["largest_difference"] < 0.1


def test_a_line_for_people():
    assert line_of({"model": "m", **RESULT}) == (
        "m: top-1 99.00 % in fp32, 98.50 % in bf16 (-0.50); another class for 1 of 8 images; a score differs by at "
        "most 0.0123"
    )
