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

import numpy as np
import pytest
import safetensors.numpy

from common import files
from common.errors import CheckpointError, DiskError
from common.files import temporary_path
from engine import checkpoint
from engine.checkpoint import find_latest, read_checkpoint, remove_leftovers, write_checkpoint
from engine.safetensors_io import encode
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


def write(folder, name="checkpoint-latest.pd", *, epoch=3, step=17):
    path = folder / name
    write_checkpoint(path, TENSORS, {**META, "next_epoch": epoch, "next_step": step})
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


def test_the_latest_is_the_file_that_was_written_last_whatever_its_epoch_and_file_time(tmp_path, monkeypatch):
    assert find_latest(tmp_path) is None
    assert find_latest(tmp_path / "not there") is None
    for name, epoch, step in [("299", 300, 0), ("best", 4, 9), ("latest", 5, 0)]:
        os.utime(write(tmp_path, f"checkpoint-{name}.pd", epoch=epoch, step=step), (4000 - epoch, 4000 - epoch))
    assert find_latest(tmp_path).name == "checkpoint-latest.pd"
    os.utime(tmp_path / "checkpoint-best.pd")
    monkeypatch.setattr("time.time_ns", lambda: 0)  # continued on a machine whose clock is behind
    write(tmp_path, "checkpoint-6.pd", epoch=7, step=0)
    write(tmp_path, epoch=7, step=0)
    assert read_checkpoint(find_latest(tmp_path)).meta["next_epoch"] == 7


def test_of_files_without_a_time_the_last_epoch_is_taken_and_a_file_with_a_time_is_newer(tmp_path, monkeypatch):
    """Earlier versions wrote no time, and the files of a copied folder have the time of copying."""

    def encode_without(tensors, texts):
        return encode(tensors, {name: texts[name] for name in ("sha256", "meta")})

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "encode", encode_without)
        for age, (name, epoch) in enumerate([("latest", 5), ("previous", 4), ("3", 3)]):
            os.utime(write(tmp_path, f"checkpoint-{name}.pd", epoch=epoch), (1000 + age, 1000 + age))
    assert find_latest(tmp_path).name == "checkpoint-latest.pd"
    newer = write(tmp_path, "checkpoint-0.pd", epoch=1)
    assert find_latest(tmp_path) == newer


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
