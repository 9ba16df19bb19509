"""A run that is killed in the middle of an epoch and resumed ends as the uninterrupted one, to the last bit."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint import read_checkpoint
from tests.scripts.conftest import ENVIRONMENT, MODEL, ROOT, run_script

# Everything that could remember: dropout (in the model), averages, mixing, accumulation, momentum, random erasing; and
# what fine-tuning adds: frozen layers, rates of layers, balanced classes, weights of classes, focal loss, patience.
FLAGS = (
    "--epochs 2 --opt momentum --lr 0.05 --warmup_epochs 1 --accum_iter 2 --batch_size {batch} --model_ema "
    "--model_ema_decay 0.9 --model_ema_eval --mixup 0.8 --cutmix 1.0 --reprob 0.5 --log_every 1 --save_steps 2 "
    "--freeze 3 --layer_decay 0.9 --balanced_sampling --focal_gamma 1 --patience 9"
)


def start_and_kill(flags: list[str], folder: Path, processes: int, log_dir: Path) -> tuple[int, int]:
    """Start the training, kill every process of it without warning in the second epoch; where its checkpoint stands."""
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", str(log_dir)]
    command = [sys.executable, *(launcher if processes == 2 else []), str(ROOT / "main.py"), *map(str, flags)]
    with subprocess.Popen(
        [*command, str(folder)], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while stands_at(folder) < (1, 2):
            assert process.poll() is None, f"the run ended by itself with {process.returncode}"
            time.sleep(0.01)
        kill_all(str(folder))
    return stands_at(folder)


def kill_all(argument: str) -> None:
    """Kill every process with this argument on its command line: the launcher puts its ranks out of its own group."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if argument in (process / "cmdline").read_bytes().decode().split("\0"):
                os.kill(int(process.name), signal.SIGKILL)


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
    with ThreadPoolExecutor(1) as beside:
        uninterrupted = beside.submit(run_script, "main", *flags, whole, processes=processes, log_dir=tmp_path / "log0")
        epoch, step = start_and_kill(flags, parts, processes, tmp_path / "log1")
    done = uninterrupted.result()
    assert done.returncode == 0, done.stdout + done.stderr
    assert epoch == 1 and 0 < step < 6
    done = run_script("main", *flags, parts, "--resume", "auto", processes=processes, log_dir=tmp_path / "log2")
    assert done.returncode == 0, done.stdout + done.stderr
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
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(run_script, "eval", *flags)
        together = run_script("eval", *flags, processes=2, log_dir=tmp_path / "log")
    alone = running.result()
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
