"""A damaged log.txt or metrics.jsonl is set aside with a warning, and the run goes on with its good lines."""

import errno
import io
import json
import os

import pytest

from common.errors import DiskError
from engine.progress import json_lines
from engine.progress.epoch_log import EpochLog, read_records
from engine.progress.step_log import StepLog

LINES = [json.dumps({"epoch": epoch, "test_acc1": 10.5 * epoch}) + "\n" for epoch in range(4)]
DAMAGE = {
    "a flipped bit that is no UTF-8": lambda text: text.replace(b"test", b"\xf4est", 1),
    "a flipped bit in the name of the epoch": lambda text: text.replace(b"epoch", b"epoci", 1),
    "a flipped bit in a bracket": lambda text: text.replace(b"{", b"z", 1),
    "zeros": lambda text: bytes(20) + text[20:],
    "a line of another kind": lambda text: b"[1]\n" + text.split(b"\n", 1)[1],
    "an epoch that is no number": lambda text: text.replace(b'"epoch": 0', b'"epoch": "0"'),
    "deep brackets": lambda text: b"[" * 100_000 + b"\n" + text.split(b"\n", 1)[1],
}


@pytest.mark.parametrize("name", ["log.txt", "metrics.jsonl"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_lines_do_not_end_a_run(tmp_path, caplog, name, damage):
    path, bad = tmp_path / name, DAMAGE[damage]("".join(LINES).encode())
    path.write_bytes(bad)
    if name == "log.txt":
        EpochLog(tmp_path).forget_from(3)
    else:
        StepLog(tmp_path).forget_from(3, 0)
    assert path.read_text() == "".join(LINES[1:3])
    assert (tmp_path / f"{name}.damaged").read_bytes() == bad
    [message] = caplog.messages
    assert f"{path} is damaged: it is now {path}.damaged" in message and "3 good lines" in message


@pytest.mark.parametrize("name", ["log.txt", "metrics.jsonl"])
def test_a_last_line_that_a_kill_cut_short_is_no_damage(tmp_path, caplog, name):
    (tmp_path / name).write_text("".join(LINES)[:-5])
    EpochLog(tmp_path).forget_from(9)
    StepLog(tmp_path).forget_from(9, 0)
    assert (tmp_path / name).read_text() == "".join(LINES[:3])
    assert not caplog.messages and os.listdir(tmp_path) == [name]


def test_what_is_no_file_is_set_aside_too(tmp_path, caplog):
    os.mkfifo(tmp_path / "log.txt")
    (tmp_path / "metrics.jsonl").mkdir()
    log, steps = EpochLog(tmp_path), StepLog(tmp_path)
    log.forget_from(0)
    steps.forget_from(0, 0)
    log.record({"epoch": 0})
    steps.record_epoch(0, {})
    assert read_records(tmp_path / "log.txt") == read_records(tmp_path / "metrics.jsonl") == [{"epoch": 0}]
    assert len(caplog.messages) == 2


def test_the_lines_before_the_place_of_a_resumed_run_stay_byte_for_byte(tmp_path):
    steps = StepLog(tmp_path)
    for epoch in range(3):
        for step in (0, 5):
            steps.record_step(epoch, step, 10, {"loss": 0.1})
        steps.record_epoch(epoch, {"test_acc1": 1e-7})
    before = (tmp_path / "metrics.jsonl").read_text().splitlines()
    steps.forget_from(1, 5)
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == before[:4]


class FullDisk(io.FileIO):
    """A file on a disk with room for three more bytes."""

    def write(self, data):
        return super().write(data[:3])


def test_a_line_that_does_not_fit_leaves_no_part_of_it(tmp_path, monkeypatch):
    path = tmp_path / "log.txt"
    path.write_text(LINES[0])
    monkeypatch.setattr(json_lines, "open", lambda name, mode, buffering: FullDisk(name, mode), raising=False)
    with pytest.raises(OSError) as caught:
        json_lines.append_lines(path, LINES[1])
    assert caught.value.errno == errno.ENOSPC and path.read_text() == LINES[0]
    log = EpochLog(tmp_path)
    log.record({"epoch": 1})
    with pytest.raises(DiskError, match=r"log\.txt"):  # after the last epoch no other one comes
        log.finish()
    monkeypatch.undo()
    log.record({"epoch": 2})
    log.finish()
    assert [record["epoch"] for record in read_records(path)] == [0, 1, 2]
