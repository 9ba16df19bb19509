"""The accuracy benchmark: its JPEGs, its commands, its table, and that a finished training is not repeated."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import backend_accuracy
from benchmarks.backend_accuracy import main, table, write_jpegs
from configs.loader import parse
from configs.schema import EvalConfig, TrainConfig


@pytest.fixture
def two_digits(monkeypatch):
    def write(folder):
        for split in ("train", "val"):
            (folder / split).mkdir(parents=True)
            Image.fromarray(np.full((32, 32), 200, np.uint8)).save(folder / split / "0.png")
        (folder / "label_list.txt").write_text("0 zero\n")

    monkeypatch.setattr(backend_accuracy, "write_digits", write)


def test_digits_become_jpegs_with_grain(two_digits, tmp_path):
    folder = write_jpegs(tmp_path / "digits")
    images = [Image.open(path) for path in sorted(folder.rglob("*.png"))]
    assert [(image.format, image.size) for image in images] == [("JPEG", (160, 160))] * 2
    pixels = [np.asarray(image, float) for image in images]
    assert all(12 < one.std() < 20 for one in pixels) and np.abs(pixels[0] - pixels[1]).mean() > 5
    written = (folder / "val" / "0.png").stat().st_mtime_ns
    assert write_jpegs(folder) == folder and (folder / "val" / "0.png").stat().st_mtime_ns == written


def test_every_backend_is_trained_once_and_evaluated_twice(two_digits, tmp_path, monkeypatch, capsys):
    commands = []

    def run(script, *flags):
        config = parse({"main.py": TrainConfig, "eval.py": EvalConfig}[script], list(flags), prog=script)
        commands.append((script, config))
        if script == "main.py":
            folder = tmp_path / f"{config.loader.image_backend}_{config.run.seed}"
            assert config.output.output_dir == str(folder) and config.schedule.epochs == 8
            folder.mkdir()
        return "* Acc@1 99.155 Acc@5 100.000 loss 0.1"

    monkeypatch.setattr(backend_accuracy, "run", run)
    for _ in range(2):
        main(["--seeds=4", f"--output_dir={tmp_path}", f"--results={tmp_path / 'r.jsonl'}"])
    trained = [config.loader.image_backend for script, config in commands if script == "main.py"]
    evaluated = [config.preprocess.eval_image_backend for script, config in commands if script == "eval.py"]
    assert trained == ["pil", "cv2", "turbo"] and evaluated == ["pil", "pil", "pil", "cv2", "pil", "turbo"] * 2
    results = json.loads((tmp_path / "r.jsonl").read_text().splitlines()[-1])["results"]
    assert results[2] == {"backend": "turbo", "seed": 4, "top1_percent": 99.155, "top1_percent_by_itself": 99.155}
    assert "turbo 99.16: mean 99.16, +0.00 to pil; evaluated by itself 99.16" in capsys.readouterr().out


def test_table():
    scores = {"pil": (99.0, 99.2), "turbo": (99.2, 99.4)}
    results = [
        {"backend": backend, "seed": seed, "top1_percent": one, "top1_percent_by_itself": one - 1}
        for backend, ones in scores.items()
        for seed, one in enumerate(ones)
    ]
    assert table(results) == [
        "pil   99.00 99.20: mean 99.10 +- 0.14, +0.00 to pil; evaluated by itself 98.10",
        "turbo 99.20 99.40: mean 99.30 +- 0.14, +0.20 to pil; evaluated by itself 98.30",
    ]
