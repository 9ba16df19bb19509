"""A run that is killed in the middle of an epoch and resumed ends as the uninterrupted one, to the last bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint import read_checkpoint
from tests.forked_python import Python, start_ranks
from tests.scripts.conftest import ENVIRONMENT, MODEL, ROOT, run_ranks, run_script

# Everything that could remember: dropout (in the model), averages, mixing, accumulation, momentum, random erasing; and
# what fine-tuning adds: frozen layers, rates of layers, balanced classes, weights of classes, focal loss, patience.
FLAGS = (
    "--epochs 2 --opt momentum --lr 0.05 --warmup_epochs 1 --accum_iter 2 --batch_size {batch} --model_ema "
    "--model_ema_decay 0.9 --model_ema_eval --mixup 0.8 --cutmix 1.0 --reprob 0.5 --log_every 1 --save_steps 2 "
    "--freeze 3 --layer_decay 0.9 --balanced_sampling --focal_gamma 1 --patience 9"
)


class Threads:
    """main.py with two threads for Paddle, which reads their number at its import: a new Python."""

    def __init__(self, words: list[object]):
        environment = {**ENVIRONMENT, "OMP_WAIT_POLICY": "passive"}  # threads that wait leave the core to other runs
        how = {"cwd": ROOT, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([sys.executable, *map(str, words)], **how)
        self.pid = self._process.pid

    def wait(self) -> subprocess.CompletedProcess:
        texts = self._process.communicate(timeout=120)
        return subprocess.CompletedProcess(self._process.args, self._process.returncode, *texts)


def start_training(flags: list[object], processes: int) -> list[Python | Threads]:
    words = [ROOT / "main.py", *flags]
    return start_ranks(words, 2, cwd=ROOT, env=ENVIRONMENT) if processes == 2 else [Threads(words)]


def kill_in_the_second_epoch(processes: list[Python | Threads], folder: Path) -> tuple[int, int]:
    """Kill every process of a training without warning; returns where its checkpoint stands."""
    end, latest, before = time.monotonic() + 120, folder / "checkpoint-latest.pd", None
    while stands_at(folder) < (1, 2):
        while (written := latest.stat().st_mtime_ns if latest.exists() else None) == before:
            assert time.monotonic() < end
            time.sleep(0.01)
        before = written
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    assert [process.wait().returncode for process in processes] == [-signal.SIGKILL] * len(processes)
    return stands_at(folder)


def end_well(processes: list[Python | Threads]) -> subprocess.CompletedProcess:
    """Wait for the end of all processes; returns that of rank 0."""
    done = [process.wait() for process in processes]
    assert [each.returncode for each in done] == [0] * len(done), [each.stdout + each.stderr for each in done]
    return done[0]


def stands_at(folder: Path) -> tuple[int, int]:
    path = folder / "checkpoint-latest.pd"
    if not path.exists():
        return 0, 0
    meta = read_checkpoint(path).meta
    return meta["next_epoch"], meta["next_step"]


def end_of(folder):
    """All that a run leaves: weights, averages, optimizer, numbers, and the lines of log.txt."""
    checkpoint = read_checkpoint(folder / "checkpoint-latest.pd")
    meta = {name: value for name, value in checkpoint.meta.items() if name not in ("info", "environment")}
    return checkpoint.tensors, meta, (folder / "log.txt").read_text()


@pytest.mark.parametrize(("processes", "threads"), [(1, 2), (2, 1)])
def test_killed_and_resumed_equals_uninterrupted(processes, threads, data, trained, tmp_path):
    (tmp_path / "weights.txt").write_text("0 1\n1 2\n2 3\n3 4\n")
    start = ["--finetune", trained / "checkpoint-best.pd", "--class_weights", tmp_path / "weights.txt"]
    flags = [*MODEL, *data.train_flags, *FLAGS.format(batch=4 // processes).split(), *start]
    flags += ["--cpu_threads", threads, "--output_dir"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    uninterrupted = start_training([*flags, whole], processes)
    epoch, step = kill_in_the_second_epoch(start_training([*flags, parts], processes), parts)
    assert epoch == 1 and 0 < step < 6
    end_well(uninterrupted)
    done = end_well(start_training([*flags, parts, "--resume", "auto"], processes))
    assert f"CPU threads: {threads} (" in done.stdout and "the last bits may differ" not in done.stdout
    assert f"Epoch: [1]  [{step}/6]" in done.stdout and f"Epoch: [1]  [{step - 1}/6]" not in done.stdout

    (tensors, meta, log), (tensors_2, meta_2, log_2) = end_of(whole), end_of(parts)
    assert {name.split("/")[0] for name in tensors} == {"model", "model_ema", "optimizer"}
    assert tensors.keys() == tensors_2.keys()
    different = [name for name in tensors if not np.array_equal(tensors[name], tensors_2[name])]
    assert different == []
    assert meta == meta_2
    assert log == log_2


def test_two_processes_evaluate_as_one(data, trained, tmp_path):
    flags = [*MODEL, *data.val_flags, "--resume", trained / "checkpoint-best.pd", "--batch_size", "8"]
    alone, together = run_script("eval", *flags), run_ranks("eval", *flags)
    assert alone.returncode == together.returncode == 0, together.stdout + together.stderr
    lines = [
        [line.split("] ")[1] for line in done.stdout.splitlines() if "* Acc@1" in line] for done in (alone, together)
    ]
    assert lines[0] == lines[1] != []


def test_resuming_without_a_checkpoint_starts_and_with_only_damaged_ones_stops(data, tmp_path):
    flags = [
        *MODEL,
        *data.train_flags,
        "--epochs",
        "1",
        "--batch_size",
        "8",
        "--resume",
        "auto",
        "--output_dir",
        tmp_path,
    ]
    (tmp_path / "checkpoint-latest.pd").write_bytes(b"")
    done = run_script("main", *flags)
    assert done.returncode == 4
    assert "none of the 1 checkpoints in" in done.stderr
    (tmp_path / "checkpoint-latest.pd").unlink()
    done = run_script("main", *flags)
    assert done.returncode == 0, done.stderr
    assert "starting from the beginning" in done.stdout
