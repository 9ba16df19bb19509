"""The benchmark of Fashion-MNIST: its plan, its commands, that a finished run is not repeated, and its table."""

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import fashion
from benchmarks.fashion import LONG, PARTS, RECIPES, Clock, Run, main, plan, read_results, table
from common.errors import ProjectError, UsageError
from configs.loader import parse
from configs.schema import TrainConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture
def trainings(monkeypatch):
    """Trainings that only write their log; the list has the config of each."""
    configs = []

    def run(command, *, cwd, env, stdout, stderr):
        config = parse(TrainConfig, command[command.index("main.py") + 1 :], prog="main.py")
        assert config.resume.resume == "auto" and env["OMP_NUM_THREADS"] == "1"
        configs.append(config)
        folder, epochs = Path(config.output.output_dir), range(config.schedule.epochs)
        numbers = {"train_loss": 1.0, "test_loss": 0.5, "best_acc1": 95.0}
        averaged = {"test_acc1_ema": 94.0} if config.ema.model_ema_eval else {}
        lines = [numbers | averaged | {"epoch": e, "test_acc1": 90.0 + config.run.seed + e / 100} for e in epochs]
        (folder / "log.txt").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(fashion.subprocess, "run", run)
    return configs


def flags(tmp_path, *more: str) -> list[str]:
    return [f"--output_dir={tmp_path / 'out'}", f"--results={tmp_path / 'r.jsonl'}", f"--data={tmp_path}", *more]


def test_every_run_of_the_plan_parses_and_has_settings_of_its_own():
    runs = plan(RECIPES, PARTS, processes=2)
    assert len({run.name for run in runs}) == len(runs) == 2 * (3 + sum(len(arms) for arms in PARTS.values()) - 1)
    for model in RECIPES:
        settings = [json.dumps(run.settings) for run in runs if run.model == model and run.seed == 0]
        same = [text for text in settings if settings.count(text) > 1]
        assert len(same) <= 2, "an arm of no effect; one may be the recipe's own weight decay"


@pytest.mark.parametrize("model", RECIPES)
def test_the_head_of_a_recipe_names_both_forms(model):
    head = (ROOT / RECIPES[model]).read_text().split("model:")[0]
    assert f"Long form, with {' '.join(LONG)}:" in head and f"--models {model}" in head
    assert "--nproc_per_node 2" in head and RECIPES[model] in head


def test_runs_are_recorded_once_and_lost_ones_are_made_up(tmp_path, trainings, capsys):
    main(flags(tmp_path, "--models", "peleenet"))
    assert [config.run.seed for config in trainings] == [0, 1, 2]
    lines = read_results(tmp_path / "r.jsonl")
    assert [line["top1_percent"] for line in lines] == [90.04, 91.04, 92.04]
    assert {(line["epochs"], line["best_top1_percent"], line["arm"]) for line in lines} == {(5, 95.0, "short")}
    assert len(lines[0]["train_loss_test_loss_top1"]) == 5 and lines[0]["settings"]["crop"] == "pad4"
    assert lines[0]["command"].startswith("python -m paddle.distributed.launch --log_dir ")
    assert "91.04 +- 1.00  3 seeds    5 epochs" in capsys.readouterr().out
    text = (tmp_path / "r.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "r.jsonl").write_text(text[0] + text[2] + text[1][:50])
    for _ in range(2):
        main(flags(tmp_path, "--models", "peleenet"))
        assert [config.run.seed for config in trainings] == [0, 1, 2, 1]


def test_pictures_are_those_of_the_first_seed_that_is_still_there(tmp_path, monkeypatch, capsys):
    runs, drawn = plan(["peleenet"], ["short", "long"], processes=2), []
    (tmp_path / runs[1].name).mkdir()
    (tmp_path / runs[1].name / "checkpoint-latest.pd").touch()
    monkeypatch.setattr(fashion, "draw", lambda *arguments: drawn.append(arguments))
    fashion.draw_all(runs, tmp_path, tmp_path / "pictures")
    assert runs[1].seed == 1 and drawn == [("peleenet", "short", tmp_path / runs[1].name, tmp_path / "pictures")]
    assert "peleenet, long: no checkpoint in" in capsys.readouterr().out


def test_an_arm_of_another_part_is_named_with_it(tmp_path):
    with pytest.raises(UsageError, match="--arms 'no flip' is of the part arms: add --part arms"):
        main(flags(tmp_path, "--models", "peleenet", "--arms", "no flip"))


def test_other_settings_are_other_runs(tmp_path, trainings, monkeypatch):
    main(flags(tmp_path, "--models", "peleenet", "--seeds", "0"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((ROOT / RECIPES["peleenet"]).read_text().replace("lr: 0.1 ", "lr: 0.3 "))
    monkeypatch.setitem(fashion.RECIPES, "peleenet", str(recipe))
    main(flags(tmp_path, "--models", "peleenet", "--seeds", "0"))
    main(flags(tmp_path, "--models", "peleenet", "--seeds", "0", "--processes", "1"))
    assert [config.schedule.lr for config in trainings] == [0.1, 0.3, 0.3]
    assert len({config.output.output_dir for config in trainings}) == 3


def test_arms(tmp_path, trainings, capsys):
    arms = ["untuned", "average"]
    main(flags(tmp_path, "--models", "peleenet", "--part", "arms", "--arms", *arms))
    assert [config.augment.crop for config in trainings] == ["pad4", "resized"]
    assert read_results(tmp_path / "r.jsonl")[0]["average_top1_percent"] == 94.0
    assert "averaged weights 94.00" in capsys.readouterr().out


def test_list_trains_nothing(tmp_path, trainings, capsys):
    main(flags(tmp_path, "--list"))
    out = capsys.readouterr().out
    assert out.startswith("6 runs, of which 0 are recorded") and out.count("python -m paddle") == 6 and not trainings


def test_a_failed_training_is_not_recorded(tmp_path, monkeypatch):
    def run(command, stdout, **_):
        stdout.write("the reason\n")
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(fashion.subprocess, "run", run)
    with pytest.raises(ProjectError, match=r"ended with code 3; its log is .*benchmark.log\nthe reason"):
        main(flags(tmp_path, "--models", "peleenet"))
    assert not read_results(tmp_path / "r.jsonl")


def test_a_killed_start_counts_up_to_its_last_checkpoint(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(fashion.time, "time", lambda: now[0])
    Clock(tmp_path).start()
    checkpoint = tmp_path / "checkpoint-latest.pd"
    checkpoint.touch()
    fashion.os.utime(checkpoint, (1060, 1060))
    now[0] = 5000.0
    second = Clock(tmp_path)
    second.start()
    now[0] = 5030.0
    third = Clock(tmp_path)
    third.start()  # the second was killed before it wrote a checkpoint
    now[0] = 5050.0
    assert third.stop() == 60 + 20


def test_table_has_one_line_per_settings():
    line = {"model": "m", "arm": "short", "settings": {"lr": 1}, "top1_percent": 90.0, "epochs": 5, "seconds": 60}
    texts = table([line, line | {"top1_percent": 91.0}, line | {"settings": {"lr": 2}}])
    assert len(texts) == 2 and "90.50 +- 0.71  2 seeds" in texts[0] and "90.00" in texts[1]


def test_one_process_needs_no_launcher(tmp_path):
    run = Run("peleenet", "short", 0, ("--config", RECIPES["peleenet"], "--seed", "0"), 1)
    assert run.command(tmp_path, tmp_path)[0] == "main.py"
