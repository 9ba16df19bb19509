"""The live line, metrics.jsonl, the trackers of --log_to, env.json and curves.png of a run."""

import json
import logging
import sys
from types import SimpleNamespace

import pytest
from PIL import Image

from common.errors import MissingDependencyError, UsageError
from configs.schema import OutputConfig
from engine.progress import live_line, plots
from engine.progress.environment import FILE, describe_environment, write_environment
from engine.progress.epoch_log import best_epoch
from engine.progress.live_line import LiveLine, line_text
from engine.progress.meters import ProgressLog
from engine.progress.plots import CurvesPlot
from engine.progress.step_log import StepLog
from engine.progress.trackers import create_trackers

PACE = SimpleNamespace(images_per_second=128.4, waiting_share=0.026, seconds_per_step=0.5)


def test_the_line_has_place_numbers_speed_and_time_left():
    text = line_text("Epoch: [2]", (2, 10), (19, 100), "lr: 0.1  loss: 1.2", PACE, evaluation_seconds=6)
    left = (80 + 7 * 100) * 0.5 + 8 * 6  # this epoch and seven others, and eight evaluations
    assert left == 438
    assert text == "epoch 2/9 step 20/100  left 0:07:18  128 images/s  data 3%  loss: 1.2  lr: 0.1"
    assert line_text("Test:", (2, 10), (0, 4), "loss: 1", PACE, 6) == "epoch 2/9  evaluating 1/4  loss: 1"


def test_on_a_terminal_the_line_takes_the_place_of_the_log_lines(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    shown = []
    live = LiveLine(True, epochs=2)
    monkeypatch.setattr(live, "show", lambda *arguments: shown.append(arguments[:3]))

    def two_steps(each: LiveLine) -> list[str]:
        caplog.clear()
        progress = ProgressLog("Epoch: [0]", 2, log_every=1, live=each)
        for _ in range(2):
            progress.step_done("loss: 1", 8)
        progress.finish()
        return [record.getMessage().split()[2] for record in caplog.records]

    with live:
        assert two_steps(live) == []
    assert shown == [("Epoch: [0]", (0, 2), "loss: 1"), ("Epoch: [0]", (1, 2), "loss: 1")]
    # Outside its context the line is not drawn, so there are log lines.
    assert two_steps(live) == two_steps(LiveLine(False)) == ["[0/2]", "[1/2]", "Total"] and len(shown) == 2


@pytest.mark.parametrize(
    ("is_tty", "term", "expected"), [(True, "xterm", True), (True, "dumb", False), (False, "xterm", False)]
)
def test_a_terminal_is_recognised(monkeypatch, is_tty, term, expected):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(live_line.sys, "stdout", SimpleNamespace(isatty=lambda: is_tty))
    assert live_line.is_terminal() is expected


def test_log_lines_have_the_rate(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    ticks = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks) / 2)
    progress = ProgressLog("Epoch: [0]", 1, log_every=1)
    progress.step_done("loss: 1", 64)  # 64 images in half a second
    assert caplog.records[0].getMessage().endswith("images/s: 128.0")
    assert progress.images_per_second == 128


def test_metrics_are_kept_up_to_the_place_where_a_run_resumes(tmp_path):
    log = StepLog(tmp_path)
    for epoch in (0, 1):
        for step in (0, 20):
            log.record_step(epoch, step, 40, {"loss": 1.0})
        log.record_epoch(epoch, {"test_acc1": 50.0})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 2, "st')  # killed while writing
    log.forget_from(1, 20)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line.get("step")) for line in lines] == [(0, 0), (0, 20), (0, None), (1, 0)]


def test_metrics_of_other_ranks_and_full_disks(tmp_path, caplog, monkeypatch):
    StepLog(tmp_path, rank=1).record_epoch(0, {})
    assert not list(tmp_path.iterdir())
    (tmp_path / "metrics.jsonl").mkdir()  # cannot be opened as a file
    log = StepLog(tmp_path)
    log.record_epoch(0, {})
    log.record_epoch(1, {})
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        f"cannot write {tmp_path / 'metrics.jsonl'}"
    ]


def test_trackers_get_steps_and_epochs(tmp_path, monkeypatch):
    sent = []
    writer = SimpleNamespace(add_scalar=lambda name, value, step: sent.append((name, value, step)))
    folders = []
    fake = SimpleNamespace(LogWriter=lambda logdir: folders.append(logdir) or writer)
    monkeypatch.setitem(sys.modules, "visualdl", fake)
    log = StepLog(None, 0, create_trackers(OutputConfig(output_dir=str(tmp_path), log_to="visualdl"), {}))
    log.record_step(2, 20, 40, {"loss": 0.5})
    log.record_epoch(2, {"test_acc1": 75.0})
    assert folders == [str(tmp_path / "visualdl")]
    assert sent == [("step/loss", 0.5, 100), ("epoch/epoch", 2, 2), ("epoch/test_acc1", 75.0, 2)]


@pytest.mark.parametrize(
    ("name", "package"), [("visualdl", "visualdl"), ("tensorboard", "tensorboardX"), ("wandb", "wandb")]
)
def test_a_missing_tracker_names_its_package(monkeypatch, tmp_path, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingDependencyError, match=f"--log_to {name} needs the package {package}.*pip install {package}"
    ):
        create_trackers(OutputConfig(output_dir=str(tmp_path), log_to=name), {})


def test_unknown_trackers_and_trackers_without_a_folder():
    with pytest.raises(UsageError, match=r"unknown program 'visuadl'; did you mean visualdl\?"):
        OutputConfig(log_to="visuadl")
    with pytest.raises(UsageError, match="--log_to tensorboard writes files into --output_dir"):
        create_trackers(OutputConfig(log_to="tensorboard"), {})
    assert OutputConfig(log_to="wandb", log_wandb=True).trackers == ["wandb"]


def test_env_json_has_command_commit_and_versions(tmp_path):
    write_environment(tmp_path)
    facts = json.loads((tmp_path / FILE).read_text())
    assert facts == json.loads(json.dumps(describe_environment()))
    assert facts["packages"]["paddlepaddle"] and facts["command"] and facts["cpus"] >= 1


def epochs_of(folder, accuracies):
    records = [
        {"epoch": epoch, "train_loss": 2 / (epoch + 1), "test_loss": 1, "test_acc1": accuracy}
        for epoch, accuracy in enumerate(accuracies)
    ]
    (folder / "log.txt").write_text("".join(json.dumps(record) + "\n" for record in records))


def test_curves_are_drawn_after_an_epoch_and_mark_the_best(tmp_path, monkeypatch):
    epochs_of(tmp_path, [10, 60, 55])
    assert best_epoch(tmp_path) == " in epoch 1" and best_epoch(tmp_path / "none") == ""
    titles = []
    real = plots._save
    monkeypatch.setattr(
        plots, "_save", lambda figure, file: titles.append([a.get_title() for a in figure.axes]) or real(figure, file)
    )
    CurvesPlot(tmp_path, 3)({"epoch": 2})
    with Image.open(tmp_path / "curves.png") as image:
        assert image.width >= 1000
    assert titles == [["Loss", "Accuracy: at best 60.0 % in epoch 1"]]


def test_short_epochs_are_drawn_together_but_the_last_always(tmp_path, monkeypatch):
    drawn, ticks = [], iter([0, 1, 45, 60, 61, 62, 63])
    monkeypatch.setattr(plots, "plot_curves", lambda log, file: drawn.append(1))
    monkeypatch.setattr(plots, "perf_counter", lambda: next(ticks))
    plot = CurvesPlot(tmp_path, 4)
    counts = []
    for epoch in range(4):  # drawn from 0 s to 1 s; 45 s is too early; from 60 s to 61 s; the last at 62 s
        plot({"epoch": epoch})
        counts.append(len(drawn))
    assert counts == [1, 1, 2, 3]


def test_a_log_that_somebody_edited_is_drawn_as_far_as_it_goes(tmp_path, caplog):
    lines = [{"epoch": 0, "test_acc1": None, "test_loss": 1.0}, {"epoch": 1, "test_acc1": 50.0}, {"test_acc1": 60.0}]
    (tmp_path / "log.txt").write_text("".join(json.dumps(line) + "\n" for line in lines))
    CurvesPlot(tmp_path, 2)({"epoch": 1})
    assert (tmp_path / "curves.png").exists() and not caplog.records
    assert best_epoch(tmp_path) == " in epoch 1"


def test_a_figure_that_cannot_be_written_is_closed(tmp_path, caplog):
    from matplotlib import pyplot

    epochs_of(tmp_path, [10])
    (tmp_path / "curves.png").mkdir()
    before = pyplot.get_fignums()
    CurvesPlot(tmp_path, 1)({"epoch": 0})
    assert "curves.png is not drawn" in caplog.text and pyplot.get_fignums() == before


def test_training_goes_on_without_matplotlib(tmp_path, monkeypatch, caplog):
    epochs_of(tmp_path, [10])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    plot = CurvesPlot(tmp_path, 9)
    plot({"epoch": 0})
    plot({"epoch": 1})
    assert [record.getMessage() for record in caplog.records] == [
        "curves.png is not drawn: plots need matplotlib: python -m pip install matplotlib"
    ]
