"""The epochs of a run: the best accuracies, and the order in which the checkpoints reach the disk."""

from dataclasses import replace

import pytest

from common.errors import Preempted
from configs.schema import OutputConfig
from engine.checkpoint import read_checkpoint
from engine.fit import fit
from engine.metrics import Scores
from engine.progress.epoch_log import EpochLog
from engine.run import Run
from engine.saver import BEST, BEST_EMA, LATEST, Saver
from tests.engine.test_train import LOADER, RECIPE, new_state

# Top 1 of the model and of the average in each epoch, in percent: both, neither, one and the other are the best so far.
TOP1 = [(40.0, 30.0), (40.0, 30.0), (50.0, 30.0), (45.0, 60.0), (55.0, 65.0)]


def run_fit(
    state, folder, monkeypatch, evaluate, *, on_saved=lambda epoch, step: None, records=None, **recipe
) -> list[dict]:
    """Run the epochs without training; returns the numbers that were recorded."""
    records = [] if records is None else records
    monkeypatch.setattr("engine.fit.train_epoch", lambda *arguments: None)
    monkeypatch.setattr("engine.fit.evaluate", lambda *arguments: evaluate())
    recipe = replace(RECIPE, **({"epochs": len(TOP1), "eval_ema": True} | recipe))
    saver = Saver(state, OutputConfig(output_dir=str(folder), save_freq=2), on_saved=on_saved)
    run = Run(epoch_log=EpochLog(None, 0, [records.append]))
    fit(state, recipe, LOADER, None, run, saver, {"n_parameters": 7})
    return records


def scores_of(tops):
    """Create an evaluation that gives these top-1 one after another: of the model and of the average in each epoch."""
    remaining = iter([top1 for epoch in tops for top1 in epoch])
    return lambda: Scores(100, 1.0, next(remaining), 100.0)


def test_all_that_an_epoch_leaves_is_on_the_disk_before_the_latest_checkpoint(tmp_path, monkeypatch):
    """A run resumes from the latest checkpoint and does not repeat its epochs: nothing would write the other files."""
    state, seen, recorded = new_state(), [], []

    def note(next_epoch, next_step):
        assert len(recorded) >= next_epoch
        names = [path.name for path in tmp_path.glob("checkpoint-*.pd") if path.name != "checkpoint-previous.pd"]
        epochs = {name: read_checkpoint(tmp_path / name).meta["next_epoch"] for name in names}
        seen.append((next_epoch, {name for name, epoch in epochs.items() if epoch == next_epoch}))

    records = run_fit(state, tmp_path, monkeypatch, scores_of(TOP1), on_saved=note, records=recorded)
    assert seen == [
        (1, {LATEST, BEST, BEST_EMA}),
        (2, {LATEST, "checkpoint-1.pd"}),
        (3, {LATEST, BEST}),
        (4, {LATEST, BEST_EMA, "checkpoint-3.pd"}),
        (5, {LATEST, BEST, BEST_EMA, "checkpoint-4.pd"}),
    ]
    assert [record["best_acc1"] for record in records] == [40, 40, 50, 50, 55]
    assert [record["best_acc1_ema"] for record in records] == [30, 30, 30, 60, 65]
    assert [(record["epoch"], record["n_parameters"]) for record in records] == [(epoch, 7) for epoch in range(5)]


def test_of_equal_accuracies_the_smaller_loss_is_better(tmp_path, monkeypatch):
    """A few validation images are all right in many epochs, and the first of them is not the best."""
    state, losses, written = new_state(), iter([0.3, 0.2, 0.25, 0.1]), []

    def evaluate():
        return Scores(60, next(losses), 100.0, 100.0)

    def note(next_epoch, next_step):
        written.append(read_checkpoint(tmp_path / BEST).meta["next_epoch"])

    run_fit(state, tmp_path, monkeypatch, evaluate, on_saved=note, epochs=3, eval_ema=False, patience=9)
    assert written == [1, 2, 2] and state.best_epoch == 0  # --patience asks for a better top-1
    resumed = new_state()
    resumed.restore(read_checkpoint(tmp_path / LATEST))
    assert (resumed.best_loss, resumed.best_loss_ema) == (0.2, None)
    run_fit(resumed, tmp_path, monkeypatch, evaluate, on_saved=note, epochs=4, eval_ema=False)
    assert written[-1] == 4


def test_a_signal_during_either_evaluation_saves_the_state_after_the_last_step(tmp_path, monkeypatch):
    for num_evaluations in (0, 1):
        folder = tmp_path / str(num_evaluations)
        folder.mkdir()
        state, answers = new_state(), iter([90.0][:num_evaluations])

        def evaluate(answers=answers):
            for top1 in answers:
                return Scores(100, 1.0, top1, 100.0)
            raise Preempted("stopped by a signal during evaluation")

        with pytest.raises(Preempted):
            run_fit(state, folder, monkeypatch, evaluate)
        assert [path.name for path in folder.iterdir()] == [LATEST]
        meta = read_checkpoint(folder / LATEST).meta
        assert (meta["next_epoch"], meta["best_top1_percent"], meta["best_top1_ema_percent"]) == (0, 0, 0)


@pytest.mark.parametrize(("patience", "num_epochs"), [(1, 2), (2, 5), (None, 5)])
def test_patience_ends_the_training(tmp_path, monkeypatch, caplog, patience, num_epochs):
    """Epoch 1 is the only one in which neither the model nor its average is better than before."""
    caplog.set_level("INFO")
    state = new_state()
    records = run_fit(state, tmp_path, monkeypatch, scores_of(TOP1), patience=patience)
    assert len(records) == num_epochs
    assert (tmp_path / f"checkpoint-{num_epochs - 1}.pd").exists(), "the last epoch has a numbered checkpoint"
    assert ("the training ends before epoch 2: no better top-1 since epoch 0 (--patience 1)" in caplog.text) == (
        patience == 1
    )


def test_a_resumed_run_remembers_its_patience(tmp_path, monkeypatch):
    """Stopped after one epoch without a better top-1, of two allowed, or after the last: nothing is trained again."""
    top1 = [(40.0, 0.0)] * 5
    whole, part, resumed, finished = (new_state() for _ in range(4))
    expected = run_fit(whole, tmp_path, monkeypatch, scores_of(top1), patience=2)
    assert len(expected) == 3 and (tmp_path / "checkpoint-2.pd").exists(), "the last epoch, though --save_freq is 2"

    (tmp_path / "part").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("engine.saver.Saver.numbered_names", lambda *_: [])
        first = run_fit(part, tmp_path / "part", patch, scores_of(top1), patience=2, epochs=2)
    resumed.restore(read_checkpoint(tmp_path / "part" / LATEST))
    rest = run_fit(resumed, tmp_path / "part", monkeypatch, scores_of(top1), patience=2)
    assert first + rest == expected and resumed.best_epoch == whole.best_epoch == 0

    finished.restore(read_checkpoint(tmp_path / LATEST))
    assert run_fit(finished, tmp_path, monkeypatch, scores_of(top1), patience=2) == []


def test_the_first_epoch_of_a_run_is_always_trained(tmp_path, monkeypatch):
    """Also where it has a number, after foreign weights or --start_epoch."""
    state = new_state()
    state.begin_epoch(3)
    assert [record["epoch"] for record in run_fit(state, tmp_path, monkeypatch, scores_of(TOP1), patience=1)] == [3, 4]


def test_a_checkpoint_of_before_patience_begins_to_count(tmp_path, monkeypatch):
    state = new_state()
    run_fit(state, tmp_path, monkeypatch, scores_of([(40.0, 0.0)] * 5), epochs=3)
    checkpoint = read_checkpoint(tmp_path / LATEST)
    del checkpoint.meta["best_epoch"]
    state.restore(checkpoint)
    assert state.best_epoch == 2
