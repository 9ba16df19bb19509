"""Log lines and log.txt have the format of PeleeNet-paddle, which users parse."""

import json
import logging
import re

import pytest

from common.errors import DiskError
from common.logs import set_up_logging
from engine.progress.epoch_log import EpochLog, read_records
from engine.progress.meters import Meter, ProgressLog

TIME = r"^\[\d\d:\d\d:\d\d\.\d{6}\] "
TIMES = r"  time: \d\.\d{4}  data: \d\.\d{4}$"


def test_lines_of_an_epoch(capsys):
    set_up_logging()
    progress, loss = ProgressLog("Epoch: [119]", 45, log_every=20), Meter()
    for value in progress.timed(range(45)):
        loss.add(value)
        progress.step_done(f"lr: {0.1:.6f}  loss: {loss}")
    progress.finish()
    lines = capsys.readouterr().out.splitlines()
    starts = [r"\[ 0/45\]", r"\[20/45\]", r"\[40/45\]", r"\[44/45\]"]
    losses = [r"0\.0000 \(0\.0000\)", r"10\.5000 \(10\.0000\)", r"30\.5000 \(20\.0000\)", r"34\.5000 \(22\.0000\)"]
    for line, start, value in zip(lines, starts, losses, strict=False):
        assert re.search(rf"{TIME}Epoch: \[119\]  {start}  eta: 0:00:00  lr: 0\.100000  loss: {value}{TIMES}", line)
    assert re.search(rf"{TIME}Epoch: \[119\] Total time: 0:00:00 \(0\.\d{{4}} s / it\)$", lines[-1])
    assert len(lines) == 5


def test_the_line_in_the_readme_of_peleenet_paddle(capsys):
    """In [2000/2502] of a resumed epoch the counter has the width of the total."""
    set_up_logging()
    progress = ProgressLog("Epoch: [3]", 2502, log_every=20, first_step=2000)
    progress.step_done("lr: 0.000001  loss: 1.3032 (1.2889)")
    assert re.search(rf"Epoch: \[3\]  \[2000/2502\]  eta: 0:00:0\d  lr: 0\.000001  loss: 1\.3032 \(1\.2889\){TIMES}",
                     capsys.readouterr().out.strip())  # fmt: skip


def test_only_rank_0_logs(tmp_path, capsys):
    set_up_logging(rank=1)
    logging.getLogger("engine.fit").warning("hello")
    log = EpochLog(tmp_path, rank=1)
    log.record({"epoch": 0})
    log.forget_from(0)
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())
    EpochLog(None).record({"epoch": 0})  # without --output_dir nothing is kept


def test_a_meter_is_restored_bit_for_bit():
    meter = Meter()
    for i in range(50):
        meter.add(0.1 * i)
    other = Meter.from_dict(json.loads(json.dumps(meter.to_dict())))
    for each in (meter, other):
        each.add(1 / 3)
    assert (other.total, other.count, list(other.recent)) == (meter.total, meter.count, list(meter.recent))
    assert meter.count == 51 and len(meter.recent) == 20


def test_log_txt_has_each_epoch_once(tmp_path):
    log = EpochLog(tmp_path)
    log.forget_from(0)  # nothing there yet
    for epoch in range(4):
        log.record({"epoch": epoch, "train_loss": epoch / 3})
    path = tmp_path / "log.txt"
    with open(path, "a") as file:
        file.write('{"epoch": 4, "trai')  # a kill
    assert [record["epoch"] for record in read_records(path)] == [0, 1, 2, 3]
    log.forget_from(2)
    log.record({"epoch": 2})
    assert read_records(path) == [{"epoch": 0, "train_loss": 0.0}, {"epoch": 1, "train_loss": 1 / 3}, {"epoch": 2}]


def test_a_full_disk_costs_no_line(tmp_path, monkeypatch):
    log = EpochLog(tmp_path)
    log.record({"epoch": 0})
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(DiskError, match="No space left"):
        log.forget_from(0)
    assert read_records(tmp_path / "log.txt") == [{"epoch": 0}]


@pytest.mark.parametrize("field", ["mean", "median", "recent_mean"])
def test_an_empty_meter_is_zero(field):
    assert getattr(Meter(), field) == 0


def test_lines_that_a_full_disk_did_not_take_follow_later(tmp_path, monkeypatch):
    log = EpochLog(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("engine.progress.epoch_log.append_lines", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        log.record({"epoch": 0})
        log.record({"epoch": 1})
    log.record({"epoch": 2})
    assert [record["epoch"] for record in read_records(tmp_path / "log.txt")] == [0, 1, 2]
