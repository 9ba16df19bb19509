"""The saver writes beside the training, tolerates a full disk for some saves, and keeps the files it should keep."""

import threading

import numpy as np
import pytest

from common.errors import DiskError
from configs.schema import OutputConfig
from engine import saver as module
from engine.checkpoint import read_checkpoint
from engine.saver import BEST, LATEST, PREVIOUS, Saver, numbered
from tests.engine.test_train import new_state, train


def make(tmp_path, state=None, **changes) -> Saver:
    on_saved = {"on_saved": changes.pop("on_saved")} if "on_saved" in changes else {}
    return Saver(state or new_state(), OutputConfig(output_dir=str(tmp_path), **changes), **on_saved)


@pytest.fixture
def disk(monkeypatch):
    """Simulate a disk that is full while `disk.is_full`, or for the names in `disk.refused`."""
    real = module.write_checkpoint

    class Disk:
        is_full, refused, written = False, (), []

    def write(path, *arguments, **keywords):
        if Disk.is_full or path.name in Disk.refused:
            raise DiskError(f"cannot write {path}: No space left on device")
        Disk.written.append(path.name)
        real(path, *arguments, **keywords)

    monkeypatch.setattr(module, "write_checkpoint", write)
    return Disk


def test_every_fifth_epoch_and_the_last_one_have_a_checkpoint_of_their_own(tmp_path):
    saver = make(tmp_path, save_freq=5)
    names = {epoch: saver.numbered_names(epoch, 9) for epoch in range(9)}
    assert {epoch: named for epoch, named in names.items() if named} == {4: ["checkpoint-4.pd"], 8: ["checkpoint-8.pd"]}


def test_training_may_continue_while_a_snapshot_is_written(tmp_path, monkeypatch):
    state, may_write, real = new_state(), threading.Event(), module.write_checkpoint
    monkeypatch.setattr(module, "write_checkpoint", lambda *a, **k: (may_write.wait(10), real(*a, **k)))
    before = state.model[0].weight.numpy()
    saver = make(tmp_path, state)
    saver.save(LATEST)
    train(state)
    may_write.set()
    saver.finish()
    read = read_checkpoint(tmp_path / LATEST)
    assert np.array_equal(read.tensors["model/0.weight"], before) and read.meta["next_step"] == 0
    assert not np.array_equal(state.model[0].weight.numpy(), before)


def test_a_full_disk_is_survived_and_what_was_missed_is_written_later(tmp_path, disk, caplog):
    state = new_state()
    saver = make(tmp_path, state)
    state.begin_epoch(1)
    saver.save(LATEST)
    saver.finish()
    disk.is_full = True
    state.begin_epoch(2)
    saver.save(BEST, LATEST)
    state.begin_epoch(3)
    saver.save(LATEST)
    assert "failure 1 of 3: the training continues" in caplog.text
    assert read_checkpoint(tmp_path / LATEST).meta["next_epoch"] == 1
    with pytest.raises(DiskError):
        saver.finish()
    disk.is_full = False
    saver.finish()
    assert read_checkpoint(tmp_path / BEST).meta["next_epoch"] == 2  # of the best epoch
    assert read_checkpoint(tmp_path / LATEST).meta["next_epoch"] == 3
    assert read_checkpoint(tmp_path / PREVIOUS).meta["next_epoch"] == 1


@pytest.mark.parametrize("attempts", [1, 3])
def test_too_many_failures_end_the_run(tmp_path, disk, attempts):
    disk.is_full, saver = True, make(tmp_path, save_attempts=attempts)
    for _ in range(attempts):
        saver.save(LATEST)
    with pytest.raises(DiskError, match="No space left") as caught:
        saver.save(LATEST)
    assert caught.value.exit_code == 74


def test_a_success_resets_the_count_of_failures(tmp_path, disk):
    saver = make(tmp_path, save_attempts=2)
    for is_full in (True, False) * 4:
        saver._await_write()
        disk.is_full = is_full
        saver.save(LATEST)
    saver.finish()


def test_nothing_is_deleted_for_a_file_that_could_not_be_written(tmp_path, disk):
    state = new_state()
    saver = make(tmp_path, state, keep_last=2)
    for epoch in range(4):
        disk.refused = ("checkpoint-3.pd",)
        state.begin_epoch(epoch + 1)
        saver.save(f"checkpoint-{epoch}.pd", LATEST)
    with pytest.raises(DiskError):
        saver.finish()
    assert [path.stem for path in numbered(tmp_path, before=9)] == ["checkpoint-1", "checkpoint-2"]
    disk.refused = ()
    saver.finish()
    assert [path.stem for path in numbered(tmp_path, before=9)] == ["checkpoint-2", "checkpoint-3"]


def test_later_epochs_of_an_earlier_run_do_not_count(tmp_path):
    state = new_state()
    (tmp_path / "checkpoint-299.pd").touch()
    saver = make(tmp_path, state, keep_last=2)
    for epoch in range(3):
        state.begin_epoch(epoch + 1)
        saver.save(f"checkpoint-{epoch}.pd")
    saver.finish()
    assert [path.stem for path in numbered(tmp_path, before=300)] == ["checkpoint-1", "checkpoint-2", "checkpoint-299"]


def test_progress_is_reported_when_it_is_on_the_disk(tmp_path, disk):
    reports, state = [], new_state()
    saver = make(tmp_path, state, on_saved=lambda *place: reports.append((*place, list(disk.written))))
    state.begin_epoch(5)
    saver.save(BEST, LATEST)
    saver.finish()
    assert reports == [(5, 0, [BEST, LATEST])]
