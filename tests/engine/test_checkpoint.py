"""A checkpoint file is whole or absent, any changed bit is detected, and the newest undamaged file is found."""

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

from common import files
from common.errors import CheckpointError, DiskError
from common.files import temporary_path
from configs.schema import OutputConfig
from engine import checkpoint, run_state
from engine.checkpoint import Mark, find_latest, last_mark, read_checkpoint, remove_leftovers, write_checkpoint
from engine.progress import environment, epoch_log, step_log
from engine.safetensors_io import encode
from engine.saver import Saver
from engine.state import Snapshot
from engine.weights import load_weights
from tests.engine.tiny import same

ROOT = Path(__file__).parents[2]
TENSORS = {
    "model/a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "model/transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "model_ema/a.weight": np.full((3, 4), 0.5, np.float32),
    "optimizer/scalar": np.array(1e-300),
    "optimizer/half": np.array([1.5], np.float16),
    "optimizer/empty": np.zeros((0, 3), np.float32),
    "optimizer/count": np.array([2**40, -1]),
    "optimizer/bytes": np.array([1, 2, 3], np.uint8),
    "optimizer/flags": np.array([True, False]),
}
META = {"next_epoch": 3, "next_step": 17, "info": {"class_names": ["tench", "Weißer Hai"], "lr": 0.1}}


def write(folder, name="checkpoint-latest.pd", *, epoch=3, step=17, mark=None):
    path = folder / name
    write_checkpoint(path, TENSORS, {**META, "next_epoch": epoch, "next_step": step}, mark=mark)
    return path


def test_what_is_written_is_read(tmp_path):
    read = read_checkpoint(write(tmp_path))
    assert read.meta == META
    assert same(read.tensors, TENSORS)
    assert all(read.tensors[name].shape == TENSORS[name].shape for name in TENSORS)
    assert list(read.section("model_ema")) == ["a.weight"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-latest.pd"]


def test_the_safetensors_package_reads_it_too(tmp_path):
    path = tmp_path / "f"
    write_checkpoint(path, {name: array for name, array in TENSORS.items() if array.size}, META)
    read = safetensors.numpy.load_file(path)
    assert same(read, {name: array for name, array in TENSORS.items() if array.size})


# --- Writing --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Simulates SIGKILL: no code of the project may catch it."""


STAGES = ["open", "write", "fsync of the file", "rename", "fsync of the folder"]


def fail_at(monkeypatch, stage, error):
    """Let the writer fail at one stage; half of the data is written before `write` fails."""
    calls = iter(["fsync of the file", "fsync of the folder"])
    real = {"open": open, "fsync": os.fsync, "replace": os.replace}

    class File:
        def __init__(self, *arguments, **options):
            if stage == "open":
                raise error
            self._file = real["open"](*arguments, **options)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

        def __getattr__(self, name):
            return getattr(self._file, name)

        def writelines(self, parts):
            data = b"".join(parts)
            if stage == "write":
                self._file.write(data[: len(data) // 2])
                self._file.flush()
                raise error
            self._file.write(data)

    def fsync(descriptor):
        if next(calls) == stage:
            raise error
        real["fsync"](descriptor)

    def replace(*arguments):
        if stage == "rename":
            raise error
        real["replace"](*arguments)

    monkeypatch.setattr(files, "open", File, raising=False)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_at_any_stage_leaves_the_old_or_the_new_file(tmp_path, monkeypatch, stage):
    path = write(tmp_path, step=1)
    with monkeypatch.context() as patch:
        fail_at(patch, stage, Killed())
        with pytest.raises(Killed):
            write(tmp_path, step=2)
    expected_step = 2 if stage == "fsync of the folder" else 1
    assert read_checkpoint(path).meta["next_step"] == expected_step
    assert find_latest(tmp_path) == path
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_every_file_of_a_run_are_removed(tmp_path):
    names = ("checkpoint-latest.pd", epoch_log.FILE, step_log.FILE, run_state.FILE, environment.FILE, "curves.png")
    leftovers = [temporary_path(tmp_path / name) for name in (*names, "config.yaml")]
    kept = [tmp_path / "checkpoint-latest.pd", tmp_path / ".notes.txt.1-ab.tmp"]
    for path in (*leftovers, *kept):
        path.touch()
    assert sorted(remove_leftovers(tmp_path)) == sorted(leftovers)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_a_clear_error_and_leaves_no_temporary_file(tmp_path, monkeypatch, stage):
    path = write(tmp_path, step=1)
    with monkeypatch.context() as patch:
        fail_at(patch, stage, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(DiskError, match=r"cannot write .*checkpoint-latest\.pd: No space left") as caught:
            write(tmp_path, step=2)
    assert caught.value.exit_code == 74
    assert list(tmp_path.iterdir()) == [path]
    read_checkpoint(path)


def test_a_real_limit_of_the_file_size(tmp_path):
    path = write(tmp_path, step=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size // 2, hard))
    try:
        with pytest.raises(DiskError, match="File too large"):
            write(tmp_path, step=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == [path]
    assert read_checkpoint(path).meta["next_step"] == 1


def test_data_reaches_the_disk_before_the_name_does(tmp_path, monkeypatch):
    order = []
    real_fsync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append(os.readlink(f"/proc/self/fd/{fd}")), real_fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("rename"), real_replace(a, b)))
    path = write(tmp_path)
    assert order == [str(temporary_path(path)), "rename", str(tmp_path)]


WRITER = """
import sys
import numpy as np
from engine.checkpoint import write_checkpoint
step = 0
while True:
    step += 1
    write_checkpoint(sys.argv[1], {"model/w": np.full(300_000, step, np.float32)}, {"next_epoch": 0, "next_step": step})
    print(step, flush=True)
"""


def test_sigkill_at_random_times_loses_and_corrupts_nothing(tmp_path):
    path, rng = tmp_path / "checkpoint-latest.pd", random.Random(0)
    for _ in range(12):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE)
        assert child.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        child.send_signal(signal.SIGKILL)
        reported = [1, *map(int, child.communicate()[0].split())][-1]
        read = read_checkpoint(path)
        assert read.meta["next_step"] >= reported
        assert (read.tensors["model/w"] == read.meta["next_step"]).all()
        remove_leftovers(tmp_path)
        assert list(tmp_path.iterdir()) == [path]


# --- Reading --------------------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_detected(tmp_path):
    path = write(tmp_path)
    good = path.read_bytes()
    rng = random.Random(1)
    for place in [*range(0, 128 * 8, 8), *(rng.randrange(len(good) * 8) for _ in range(1000))]:
        bad = bytearray(good)
        bad[place // 8] ^= 1 << place % 8
        path.write_bytes(bad)
        with pytest.raises(CheckpointError, match=r"checkpoint-latest\.pd is"):
            read_checkpoint(path)
    path.write_bytes(good)
    read_checkpoint(path)


def test_every_truncation_is_detected(tmp_path):
    path = write(tmp_path)
    good = path.read_bytes()
    for length in [*range(0, 200), *range(200, len(good), 37), len(good) - 1]:
        path.write_bytes(good[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
        with pytest.raises(CheckpointError):
            load_weights(path)
    path.write_bytes(good + b"\0")
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


def test_the_latest_is_the_state_with_the_largest_number_whatever_epoch_file_time_and_clock_say(tmp_path, monkeypatch):
    assert find_latest(tmp_path) is None
    assert find_latest(tmp_path / "not there") is None
    files = [("299", 300, 0), ("best", 4, 9), ("latest", 5, 0)]  # continued from an older checkpoint than 299
    for count, (name, epoch, step) in enumerate(files, start=1):
        monkeypatch.setattr(
            "time.time_ns", lambda count=count: 10**18 - count * 86_400 * 10**9
        )  # a day behind each time
        path = write(tmp_path, f"checkpoint-{name}.pd", epoch=epoch, step=step, mark=Mark("one", count))
        os.utime(path, (4000 - epoch, 4000 - epoch))
    assert find_latest(tmp_path).name == "checkpoint-latest.pd"
    (tmp_path / "checkpoint-latest.pd").unlink()
    assert find_latest(tmp_path).name == "checkpoint-best.pd"


def test_a_clock_that_was_a_day_ahead_between_two_files_does_not_send_a_run_back(tmp_path, monkeypatch):
    """Written by the Saver, as a run does: best, then latest, with the clock corrected in between and for good."""
    clock = iter([10**18 + 86_400 * 10**9] + [10**18 + second for second in range(20)])
    monkeypatch.setattr("time.time_ns", lambda: next(clock))
    for epoch in (1, 2):  # two processes
        state = SimpleNamespace(
            place=(epoch, 0), snapshot=lambda epoch=epoch: Snapshot({}, {"next_epoch": epoch, "next_step": 0})
        )
        saver = Saver(state, OutputConfig(output_dir=str(tmp_path)))
        saver.save(*(["checkpoint-best.pd"] if epoch == 1 else []), "checkpoint-latest.pd")
        saver.finish()
        assert find_latest(tmp_path).name == "checkpoint-latest.pd"
    marks = [
        checkpoint._read_header(tmp_path / f"checkpoint-{name}.pd").mark for name in ("best", "previous", "latest")
    ]
    assert len({mark.run for mark in marks}) == 1 and [mark.count for mark in marks] == [1, 1, 2]


def test_files_without_a_number_are_ordered_by_place_then_time_and_come_after_those_of_the_run(tmp_path, monkeypatch):
    """Earlier versions wrote no number, those from before 2026-11-21 no time either."""

    def encode_without(tensors, texts):
        return encode(tensors, {name: texts[name] for name in ("sha256", "meta")})

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "encode", encode_without)
        for age, (name, epoch) in enumerate([("latest", 5), ("previous", 4), ("3", 3)]):
            os.utime(write(tmp_path, f"checkpoint-{name}.pd", epoch=epoch), (1000 + age, 1000 + age))
    assert find_latest(tmp_path).name == "checkpoint-latest.pd"
    newer = write(tmp_path, "checkpoint-9.pd", epoch=5)  # with a time
    write(tmp_path, "checkpoint-0.pd", epoch=1)
    assert find_latest(tmp_path) == newer
    own = write(tmp_path, "checkpoint-best.pd", epoch=2, mark=Mark("one", 1))  # the first file of a newer version
    assert find_latest(tmp_path) == own


def test_the_time_of_a_file_grows_although_the_clock_goes_back(tmp_path, monkeypatch):
    times = []
    for now in (10**18, 10**18 - 86_400 * 10**9):
        monkeypatch.setattr("time.time_ns", lambda now=now: now)
        times.append(checkpoint._read_header(write(tmp_path)).written)
    assert times == [10**18, 10**18 + 1]


def test_files_of_another_run_come_after_those_without_a_number(tmp_path):
    write(tmp_path, "checkpoint-best.pd", epoch=300, mark=Mark("other", 900))
    older = write(tmp_path, "checkpoint-3.pd", epoch=3)
    latest = write(tmp_path, "checkpoint-latest.pd", epoch=4, mark=Mark("one", 2))
    latest.write_bytes(latest.read_bytes()[:-1])  # damaged, and its header still says which run it is
    assert find_latest(tmp_path) == older


def test_files_of_another_run_come_last_and_are_named(tmp_path, caplog):
    """A best checkpoint of a longer run, copied into the folder, must not take the place of the run in it."""
    write(tmp_path, "checkpoint-best.pd", epoch=300, mark=Mark("other", 900))
    latest = write(tmp_path, "checkpoint-latest.pd", epoch=3, mark=Mark("one", 2))
    write(tmp_path, "checkpoint-previous.pd", epoch=2, mark=Mark("one", 1))
    assert find_latest(tmp_path) == latest
    assert caplog.messages == [f"passed over, because another run wrote them than {latest}: checkpoint-best.pd"]
    assert last_mark(tmp_path) == Mark("one", 900)  # the next state of this run is after all that is there
    latest.write_bytes(b"")
    assert find_latest(tmp_path).name == "checkpoint-previous.pd"


def test_damaged_checkpoints_are_passed_over_and_named(tmp_path, caplog):
    paths = [write(tmp_path, f"checkpoint-{epoch}.pd", epoch=epoch) for epoch in range(4)]
    flipped = bytearray(paths[3].read_bytes())
    flipped[-1] ^= 1
    paths[3].write_bytes(flipped)
    paths[2].write_bytes(paths[2].read_bytes()[:-1])
    assert find_latest(tmp_path) == paths[1]
    lines = caplog.messages
    assert len(lines) == 2 and "checkpoint-3.pd" in lines[0] and "checkpoint-2.pd" in lines[1]
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of the 4 checkpoints"):
        find_latest(tmp_path)
