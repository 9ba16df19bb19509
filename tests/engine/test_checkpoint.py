"""A checkpoint is whole or absent, any changed bit is found, and weights fit the model or are refused by name."""

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import pytest
import safetensors.numpy
from paddle import nn

from common.errors import CheckpointError, DiskError
from engine import checkpoint
from engine.checkpoint import (
    drop_head,
    find_latest,
    load_weights,
    read_checkpoint,
    remove_leftovers,
    set_weights,
    write_checkpoint,
)
from engine.safetensors_io import encode
from tests.engine.tiny import arrays_of, same, tiny_net

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
    """Stands for SIGKILL: nothing of ours may catch it."""


STAGES = ["open", "write", "fsync of the file", "rename", "fsync of the folder"]


def fail_at(monkeypatch, stage, error):
    """Let the writer stumble at one stage; half of the data is written before `write` fails."""
    calls = iter(["fsync of the file", "fsync of the folder"])
    real = {"open": open, "fsync": os.fsync, "replace": os.replace}

    class File:
        def __init__(self, *arguments):
            if stage == "open":
                raise error
            self._file = real["open"](*arguments)

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

    monkeypatch.setattr(checkpoint, "open", File, raising=False)
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
def test_a_full_disk_is_a_clear_error_and_leaves_no_rubbish(tmp_path, monkeypatch, stage):
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
    assert order == [f"{path}.tmp", "rename", str(tmp_path)]


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


def test_every_flipped_bit_is_found(tmp_path):
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


def test_every_truncation_is_found(tmp_path):
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is no checkpoint at all", "not a file of weights"),
        (b"PK\x03\x04 and so on", "a zip archive that is cut off"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "the pickle is cut off"),
        (b"\x80\x04N.", "holds a NoneType"),
    ],
)
def test_foreign_files_are_named_for_what_they_are(tmp_path, content, message):
    path = tmp_path / "weights.pd"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_weights(path)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


@pytest.mark.parametrize("path", ["missing.pd", "."])
def test_a_path_that_is_no_file(tmp_path, path):
    with pytest.raises(CheckpointError, match="cannot read"):
        load_weights(tmp_path / path)


def test_latest_is_the_newest_whatever_an_earlier_run_has_left_and_a_copy_says(tmp_path, monkeypatch):
    assert find_latest(tmp_path) is None
    assert find_latest(tmp_path / "not there") is None
    for name, epoch, step in [("299", 300, 0), ("best", 4, 9), ("latest", 5, 0)]:
        os.utime(write(tmp_path, f"checkpoint-{name}.pd", epoch=epoch, step=step), (4000 - epoch, 4000 - epoch))
    assert find_latest(tmp_path).name == "checkpoint-latest.pd"
    os.utime(tmp_path / "checkpoint-best.pd")
    monkeypatch.setattr("time.time_ns", lambda: 0)  # a machine whose clock is behind goes on
    write(tmp_path, "checkpoint-6.pd", epoch=7, step=0)
    write(tmp_path, epoch=7, step=0)
    assert read_checkpoint(find_latest(tmp_path)).meta["next_epoch"] == 7


def test_of_files_without_a_time_the_furthest_is_taken_and_any_with_one_is_newer(tmp_path, monkeypatch):
    """Earlier versions wrote no time, and a copy of their folder has those of copying."""

    def encode_without(tensors, texts):
        return encode(tensors, {name: texts[name] for name in ("sha256", "meta")})

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "encode", encode_without)
        for age, (name, epoch) in enumerate([("latest", 5), ("previous", 4), ("3", 3)]):
            os.utime(write(tmp_path, f"checkpoint-{name}.pd", epoch=epoch), (1000 + age, 1000 + age))
    assert find_latest(tmp_path).name == "checkpoint-latest.pd"
    newer = write(tmp_path, "checkpoint-0.pd", epoch=1)
    assert find_latest(tmp_path) == newer


def test_damaged_checkpoints_are_passed_over_and_named(tmp_path):
    paths = [write(tmp_path, f"checkpoint-{epoch}.pd", epoch=epoch) for epoch in range(4)]
    flipped = bytearray(paths[3].read_bytes())
    flipped[-1] ^= 1
    paths[3].write_bytes(flipped)
    paths[2].write_bytes(paths[2].read_bytes()[:-1])
    lines = []
    assert find_latest(tmp_path, lines.append) == paths[1]
    assert len(lines) == 2 and "checkpoint-3.pd" in lines[0] and "checkpoint-2.pd" in lines[1]
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of the 4 checkpoints"):
        find_latest(tmp_path, lines.append)


# --- Weights of other formats ---------------------------------------------------------------------------------------


def test_plain_safetensors_by_content_not_by_name(tmp_path):
    path = tmp_path / "weights.pdparams"
    arrays = {"a": np.ones((2, 3), np.float32), "b": np.zeros(0, np.float32), "c": np.array(3.0)}
    safetensors.numpy.save_file(arrays, path, metadata={"format": "pd"})
    assert same(load_weights(path).arrays, arrays)
    with pytest.raises(CheckpointError, match="no moving average"):
        load_weights(path, ema=True)
    with pytest.raises(CheckpointError, match="plain safetensors"):
        read_checkpoint(path)


def test_bfloat16_becomes_float32(tmp_path):
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\x80\x3f\x20\xc0")
    assert load_weights(path).arrays["w"].tolist() == [1.0, -2.5]


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]},
        {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [10**12, 0], "data_offsets": [0, 8]},
        {"shape": [2]},
        [1, 2],
    ],
)
def test_inconsistent_safetensors_are_refused(tmp_path, entry):
    header = json.dumps({"w": entry}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match="damaged safetensors"):
        load_weights(path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"w": {"dtype": "F32", "shape": [10**4000] * 32, "data_offsets": [0, 8]}}, "needs a dtype, a shape"),
        ({"w": {"dtype": "F32", "shape": [1] * 40 + [2], "data_offsets": [0, 8]}}, "needs a dtype, a shape"),
        ({"__metadata__": {"format": ["pt"]}}, "its metadata is not a table of texts"),
        ({"__metadata__": 3}, "its metadata is not a table of texts"),
        ([[]] * 600_000, "items are too large"),
        (["x" * (17 << 20)], "items are too large"),
    ],
)
def test_headers_that_would_take_much_time_or_memory_are_refused(tmp_path, entries, message):
    header = json.dumps({"__metadata__": {}, "more": entries} if isinstance(entries, list) else entries).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match=rf"damaged safetensors.*{message}"):
        load_weights(path)


def test_what_could_not_be_read_again_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("engine.safetensors_io.MAX_HEADER_BYTES", 1000)
    with pytest.raises(CheckpointError, match="items are too large"):
        write_checkpoint(tmp_path / "checkpoint-latest.pd", TENSORS, {"names": ["x" * 1000]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        ({"info": 3}, "info is no table"),
        ({"info": {"args": []}}, "info.args is no table of plain values"),
        ({"info": {"args": {"model": {"a": 1}}}}, "info.args"),
        ({"info": {"preprocess": "x"}}, "info.preprocess"),
        ({"info": {"class_names": ["a", 1]}}, "info.class_names is no list of names"),
        ({"info": {"effective_batch": "4"}}, "info.effective_batch is no count"),
        ({"next_epoch": -1}, "next_epoch is no count"),
        ({"next_step": 10**30}, "next_step"),
        ({"epoch": "3"}, "epoch is no whole number"),
        ({"best_top1_percent": None}, "best_top1_percent is no number"),
        ({"lr_meter": {"recent": [1], "total": 3}}, "lr_meter.count"),
        ({"loss_meter": []}, "loss_meter is no table"),
        ({"scaler": {"scale": "x"}}, "scaler is no table of numbers"),
        ({"environment": 3}, "environment"),
    ],
)
def test_settings_of_other_types_are_an_error_despite_a_true_checksum(tmp_path, change, entry):
    path = tmp_path / "checkpoint-latest.pd"
    write_checkpoint(path, TENSORS, META | change)
    for read in (read_checkpoint, load_weights):
        with pytest.raises(CheckpointError, match=rf"checkpoint-latest\.pd was not written by this project: .*{entry}"):
            read(path)


@pytest.mark.parametrize("meta", [3, [], "x", None])
def test_settings_that_are_no_table_are_an_error(tmp_path, meta):
    write_checkpoint(tmp_path / "checkpoint-latest.pd", TENSORS, meta)
    with pytest.raises(CheckpointError, match="its settings are not a table"):
        read_checkpoint(tmp_path / "checkpoint-latest.pd")


def test_model_and_average_of_a_checkpoint(tmp_path):
    path = write(tmp_path)
    assert set(load_weights(path).arrays) == {"a.weight", "transposed"}
    assert load_weights(path, ema=True).arrays["a.weight"][0, 0] == 0.5
    assert load_weights(path).meta["info"] == META["info"]


# --- Into a model ---------------------------------------------------------------------------------------------------


def test_weights_fit_exactly_or_not_at_all():
    model, other = tiny_net(0), tiny_net(1)
    arrays = arrays_of(other)
    set_weights(model, arrays, source="f")
    assert same(arrays_of(model), arrays)

    bad = {name: array for name, array in arrays.items() if name not in ("0.weight", "1._mean")}
    bad |= {"5.weight": arrays["5.weight"].T, "0.bias": np.zeros(4, int), "extra": np.zeros(1)}
    before = arrays_of(model)
    with pytest.raises(CheckpointError) as caught:
        set_weights(model, bad, source="f.pd")
    message = str(caught.value)
    for part in ("f.pd", "2 missing: 0.weight, 1._mean", "1 unexpected: extra", "2 of another shape or type"):
        assert part in message
    assert "5.weight [7, 36] float32 for [36, 7] float32" in message
    assert same(arrays_of(model), before)


@pytest.mark.parametrize("remove", [False, True])
def test_only_a_head_that_does_not_fit_is_fresh(remove):
    model = tiny_net(0)
    fresh = arrays_of(model)
    arrays, dropped = drop_head(arrays_of(tiny_net(1)), model, remove=remove)
    assert dropped == (["5.weight", "5.bias"] if remove else [])
    wide = tiny_net(2)
    wide[5] = nn.Linear(36, 9)
    arrays, dropped = drop_head(arrays_of(wide), model, remove=remove)
    assert dropped == ["5.weight", "5.bias"]
    set_weights(model, arrays, source="f")
    assert np.array_equal(model[5].weight.numpy(), fresh["5.weight"])
    assert np.array_equal(model[0].weight.numpy(), wide[0].weight.numpy())
    with pytest.raises(CheckpointError, match=r"missing: 0\.weight"):
        set_weights(model, {name: a for name, a in arrays.items() if name != "0.weight"}, source="f")


def test_float16_weights_are_widened():
    model = nn.Linear(2, 2)
    set_weights(model, {"weight": np.ones((2, 2), np.float16), "bias": np.zeros(2, np.float16)}, source="f")
    assert model.weight.dtype == paddle.float32 and model.weight.numpy().sum() == 4
