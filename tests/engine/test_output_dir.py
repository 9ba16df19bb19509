"""The output folder belongs to one run at a time, and the work of a run that ends by an error stays in it."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import BadImage, DiskError, UsageError
from configs.schema import OutputConfig
from engine.checkpoint import read_checkpoint
from engine.fit import fit
from engine.metrics import Scores
from engine.output_dir import locked_output_dir, reports_and_exports, set_earlier_run_aside
from engine.run import Run
from engine.saver import BEST, BEST_EMA, LATEST, Saver
from tests.engine.test_train import LOADER, RECIPE, everything, new_state, train
from tests.engine.tiny import FakeTrainLoader, same

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from engine.output_dir import locked_output_dir
with locked_output_dir(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of a folder."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **how) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_training_in_one_folder_is_refused(tmp_path, holder):
    with (
        pytest.raises(UsageError, match=rf"another training writes into this folder \(process {holder.pid} on "),
        locked_output_dir(tmp_path / "run"),
    ):
        pass
    with locked_output_dir(tmp_path / "run", rank=1), locked_output_dir(None):  # rank 0 holds the lock for all ranks
        pass
    holder.kill()
    holder.wait()
    with locked_output_dir(tmp_path / "run"):  # the system frees the lock of a process that dies
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="cannot write into --output_dir"), locked_output_dir(tmp_path / "file" / "run"):
        pass


def test_the_files_of_an_earlier_run_are_moved_together(tmp_path):
    assert set_earlier_run_aside(tmp_path) is None
    for number in (1, 2):
        for name in ("checkpoint-best.pd", "checkpoint-3.pd", "log.txt", "config.yaml"):
            (tmp_path / name).write_text(f"{name} of run {number}")
        (tmp_path / "split").mkdir()
        (tmp_path / "run_state.json").write_text("of this run")
        aside = set_earlier_run_aside(tmp_path)
        assert aside.parent == tmp_path and aside.name.startswith("previous-")
        assert sorted(path.name for path in aside.iterdir()) == [
            "checkpoint-3.pd", "checkpoint-best.pd", "config.yaml", "log.txt", "split"
        ]  # fmt: skip
        assert (aside / "log.txt").read_text() == f"log.txt of run {number}"
    assert sorted(path.name[:9] for path in tmp_path.iterdir()) == ["previous-", "previous-", "run_state"]


def test_reports_and_exports_of_an_earlier_run_are_found(tmp_path):
    assert reports_and_exports(tmp_path) == []
    for name in (
        "report/report.html",
        "exported/card.yaml",
        "exported/report.html",
        "split/train_list.txt",
        "card.yaml",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert [path.name for path in reports_and_exports(tmp_path)] == ["exported", "report"]


def run_fit(state, folder, monkeypatch, *, loader=LOADER, evaluate=lambda: Scores(9, 1.0, 0.0, 0.0), epochs=1):
    monkeypatch.setattr("engine.fit.evaluate", lambda *arguments: evaluate())
    recipe = RECIPE.__class__(**{**vars(RECIPE), "epochs": epochs, "eval_ema": True})
    saver = Saver(state, OutputConfig(output_dir=str(folder)))
    fit(state, recipe, loader, None, Run(log_every=3, sync_every=1), saver)


def test_the_best_checkpoints_are_written_from_the_first_evaluation_on_also_at_0_percent(tmp_path, monkeypatch):
    run_fit(new_state(), tmp_path, monkeypatch, epochs=2)
    for name in (BEST, BEST_EMA):
        assert read_checkpoint(tmp_path / name).meta["next_epoch"] == 1, "the second epoch is no better"


class BadLoader(FakeTrainLoader):
    """An image of step 4 cannot be read."""

    def batches(self, epoch, first_step=0):
        yield from super().batches(epoch, first_step)[: 4 * 2]
        raise BadImage("a.jpg", "damaged")


def test_a_bad_training_image_leaves_the_steps_that_were_done(tmp_path, monkeypatch):
    state = new_state()
    with pytest.raises(BadImage):
        run_fit(state, tmp_path, monkeypatch, loader=BadLoader(7, 4, 2))
    resumed, whole = new_state(seed=5), new_state()
    resumed.restore(read_checkpoint(tmp_path / LATEST))
    assert resumed.place == (0, 4)
    train(resumed)
    train(whole)
    assert same(everything(resumed), everything(whole)), "as if the error had not been"


def test_an_error_in_the_evaluation_leaves_the_epoch_that_was_trained(tmp_path, monkeypatch, caplog):
    def evaluate():
        raise BadImage("val/a.jpg", "damaged")

    with pytest.raises(BadImage):
        run_fit(new_state(), tmp_path, monkeypatch, evaluate=evaluate)
    assert read_checkpoint(tmp_path / LATEST).meta["next_step"] == 7
    assert "continue with the same command and --resume auto" in caplog.text
    resumed = new_state(seed=5)
    resumed.restore(read_checkpoint(tmp_path / LATEST))
    run_fit(resumed, tmp_path, monkeypatch)
    assert resumed.place == (1, 0)
