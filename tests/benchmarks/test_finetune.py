"""The fine-tuning benchmark: its pictures, its commands, its table, and that a finished training is not repeated."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import finetune, small_sets
from benchmarks.finetune import PARTS, RARE, main, table
from configs.loader import parse
from configs.schema import EvalConfig, TrainConfig


@pytest.fixture
def fake_sets(monkeypatch):
    """Every set has the classes of "photos", a grey picture after another."""

    def draw(split):
        for number in range(200):
            name = small_sets.PHOTOGRAPHS[number % 8]
            yield np.full((20, 30), number % 250, np.uint8), name

    monkeypatch.setattr(small_sets, "SETS", dict.fromkeys(small_sets.SETS, draw))


def test_a_set_is_written_once_and_rare_classes_only_in_its_training_part(fake_sets, tmp_path):
    folder = small_sets.write_set(tmp_path, "photos", {"train": 5, "val": 3}, rare={"grass": 2})
    counts = {str(p.relative_to(folder)): len(list(p.iterdir())) for p in folder.glob("*/*")}
    assert counts == {f"{split}/{name}": {"train": 2 if name == "grass" else 5, "val": 3}[split]
                      for split in ("train", "val") for name in small_sets.PHOTOGRAPHS}  # fmt: skip
    with Image.open(folder / "train" / "brick" / "0001.png") as picture:
        assert (picture.size, picture.mode) == ((small_sets.SIDE,) * 2, "RGB")
    (folder / "val" / "brick" / "0001.png").unlink()
    small_sets.write_set(tmp_path, "photos", {"train": 5, "val": 3})
    assert not (folder / "val" / "brick" / "0001.png").exists()


@pytest.mark.parametrize("part", PARTS)
def test_every_arm_is_trained_once(fake_sets, tmp_path, monkeypatch, capsys, part):
    commands = []

    def run(script, *flags, log):
        config = parse({"main": TrainConfig, "eval": EvalConfig}[script], list(flags), prog=script)
        commands.append((script, config))
        if script == "main":
            folder = Path(config.output.output_dir)
            folder.mkdir(parents=True)
            (folder / "log.txt").write_text(json.dumps({"test_acc1": 50.0 + config.run.seed}) + "\n")
            return ""
        if config.data.cls_label_path_val is None:
            assert config.preprocess.crop_pct == 1
            return "* Acc@1 75.000 Acc@5 80.000"
        lines = Path(config.data.cls_label_path_val).read_text().splitlines()
        assert {line.split("/")[1] for line in lines} == set(RARE) and len(lines) == 24
        return "* Acc@1 25.000 Acc@5 50.000"

    monkeypatch.setattr(finetune, "run", run)
    flags = ["--part", part, "--seeds", "3", "4", f"--output_dir={tmp_path}", f"--results={tmp_path / 'r.jsonl'}"]
    main(flags)
    sets, arms = PARTS[part]
    trained = [config for script, config in commands[1:] if script == "main"]
    assert len(trained) == len(sets) * len(arms) * 2
    assert {config.resume.finetune for config in trained} == {str(tmp_path / "first" / "checkpoint-latest.pd")}
    assert {config.schedule.epochs for config in trained} == set(sets.values())
    record = json.loads((tmp_path / "r.jsonl").read_text())
    assert record["benchmark"] == f"finetune, {part}" and len(record["results"]) == len(trained)
    assert {result["seed"]: result["top1_percent"] for result in record["results"]} == {3: 53.0, 4: 54.0}
    assert {result["whole_percent"] for result in record["results"]} == {75.0}
    assert {result.get("rare_percent") for result in record["results"]} == {25.0 if part == "rare" else None}
    commands.clear()
    main([*flags, "--arms", next(iter(arms))])
    assert {script for script, _ in commands} == {"eval"}
    assert "top1_percent  53.5 +-  0.7" in capsys.readouterr().out


def test_table():
    results = [
        {"set": "a", "arm": "x", "seed": 0, "top1_percent": 50.0},
        {"set": "a", "arm": "y", "seed": 0, "top1_percent": 60.0},
    ]
    assert table(results) == [
        "a         x                  top1_percent  50.0",
        "a         y                  top1_percent  60.0",
    ]
