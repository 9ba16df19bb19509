"""A small training as a process of its own, and its results: checkpoints, log.txt, run_state.json, orphans."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from engine.checkpoint import read_checkpoint
from engine.run_state import read_run_state

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "program.py"
NUM_TRAIN, NUM_VAL, BATCH, EPOCHS = 40, 16, 4, 4
STEPS = NUM_TRAIN // BATCH  # per epoch; equal with two ranks of half the batch


@cache
def data_folder() -> Path:
    """Write images of noise and their lists, once in each process."""
    folder = Path(tempfile.mkdtemp(prefix="faults-data-"))
    rng = np.random.default_rng(0)
    for i in range(NUM_TRAIN + NUM_VAL):
        Image.fromarray(rng.integers(0, 255, (36, 36, 3), np.uint8)).save(folder / f"{i}.png")
    lines = [f"{i}.png {i % 4}\n" for i in range(NUM_TRAIN + NUM_VAL)]
    (folder / "train.txt").write_text("".join(lines[:NUM_TRAIN]))
    (folder / "val.txt").write_text("".join(lines[NUM_TRAIN:]))
    return folder


def arguments(output_dir: Path, *, ranks: int = 1, **changes: object) -> list[str]:
    """Flags of main.py for a run in which everything with a state is on (EMA, dropout, mixup, AdamW)."""
    data = data_folder()
    values = {
        "model": "mobilenet_v3_small_x0_35",
        "input_size": 32,
        "nb_classes": 4,
        "data_path": data,
        "cls_label_path_train": data / "train.txt",
        "cls_label_path_val": data / "val.txt",
        "batch_size": BATCH // ranks,
        "num_workers": 0,
        "epochs": EPOCHS,
        "blr": 0.05,
        "model_ema_decay": 0.9,
        "log_every": 1,
        "save_freq": 1,
        "output_dir": output_dir,
        "resume": "auto",
    } | changes
    flags = [f"--{name}={value}" for name, value in values.items() if value is not None]
    return [*flags, "--model_ema", "--model_ema_eval"]


class Job:
    """A training that was started; a tag in the environment of its processes identifies orphans.

    Args:
        folder: output folder; the log is beside it.
        ranks: number of processes on this machine; more than one start under Paddle's launcher.
        supervised: start under engine.supervise.
        launcher_flags: further flags of the launcher.
        fault: see program.py.
        changes: flags of main.py that differ from `arguments`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ranks: int = 1,
        supervised: bool = False,
        launcher_flags: Sequence[str] = (),
        fault: dict | None = None,
        **changes,
    ):
        self.folder, self.log = folder, folder.with_name(f"{folder.name}.log")
        self.tag = f"{folder.name}-{time.monotonic_ns()}"
        command = [sys.executable, str(PROGRAM)]
        if ranks > 1 or launcher_flags:
            launch = [
                "-m",
                "paddle.distributed.launch",
                "--nproc_per_node",
                str(ranks),
                "--log_dir",
                f"{folder}-launch",
            ]
            command = [sys.executable, *launch, *launcher_flags, str(PROGRAM)]
        command += arguments(folder, ranks=ranks, **changes)
        if supervised:
            command = [sys.executable, "-m", "engine.supervise", "--backoff", "0.2", "--", *command]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PADDLE_") and k != "CUDA_VISIBLE_DEVICES"}
        environment = {**clean, "OMP_NUM_THREADS": "1", "FAULT": json.dumps(fault or {}), "FAULT_TAG": self.tag}
        self.started = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait(self, timeout: float = 300) -> int:
        """Wait for the end of the process that was started; returns its exit code."""
        return self.process.wait(timeout)

    def processes(self) -> list[int]:
        """Process ids of all living processes of the job, workers and orphans included."""
        pids = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                alive = f"FAULT_TAG={self.tag}".encode() in path.read_bytes().split(b"\0")
            except OSError:
                continue
            if alive:
                pids.append(int(path.parent.name))
        return sorted(pids)

    def ranks(self) -> dict[int, int]:
        """Process id of each rank."""
        pids = {}
        for pid in self.processes():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(PROGRAM).encode() in words and b"paddle.distributed.launch" not in words and b"--" not in words:
                rank = [int(v.partition(b"=")[2]) for v in variables if v.startswith(b"PADDLE_TRAINER_ID=")]
                pids[rank[0] if rank else 0] = pid
        return pids

    def seconds_until_empty(self, limit: float) -> float | None:
        """Wait until no process is left; returns the seconds, or kills the rest after `limit` seconds (None)."""
        start = time.monotonic()
        while remaining := self.processes():
            if time.monotonic() - start > limit:
                for pid in remaining:
                    os.kill(pid, signal.SIGKILL)
                return None
            time.sleep(0.05)
            self.process.poll()
        return time.monotonic() - start

    def wait_for(self, path: Path, timeout: float = 60) -> None:
        """Wait until the file exists."""
        end = time.monotonic() + timeout
        while not path.exists():
            assert time.monotonic() < end and self.process.poll() is None, f"no {path}; see {self.log}"
            time.sleep(0.02)

    def text(self) -> str:
        """All logs of the job."""
        logs = [self.log, *Path(f"{self.folder}-launch").glob("workerlog.*")]
        return "\n".join(path.read_text(errors="replace") for path in logs if path.exists())

    @property
    def state(self) -> dict:
        """Content of run_state.json."""
        return read_run_state(self.folder)


def run_forked(folder: Path, *, fault: dict | None = None, **changes: object) -> int:
    """Run a training in a fork of this process, which has imported Paddle already; returns the exit code."""
    import paddle  # noqa: F401

    import main  # noqa: F401 (and the modules that it imports)

    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            log = os.open(folder.with_name(f"{folder.name}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.argv = [str(PROGRAM), *arguments(folder, **changes)]
            code = _in_child(fault or {})
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _in_child(fault: dict) -> int:
    import traceback

    import main
    from common.cli import run

    from .program import install

    os.environ["FAULT"] = json.dumps(fault)
    install(fault)
    try:
        run(main.main)
    except SystemExit as error:
        return error.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def result(folder: Path) -> dict[str, str]:
    """Read what two runs are compared by: a checksum of every tensor, the numbers of the state, and log.txt."""
    checkpoint = read_checkpoint(folder / "checkpoint-latest.pd")
    values = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in checkpoint.tensors.items()}
    numbers = ("next_epoch", "next_step", "best_top1_percent", "best_top1_ema_percent", "lr_meter", "loss_meter")
    values |= {name: json.dumps(checkpoint.meta[name]) for name in numbers}
    return values | {"log.txt": (folder / "log.txt").read_text()}


def num_different(a: dict[str, str], b: dict[str, str]) -> int:
    """Number of entries in which two results differ."""
    return sum(a.get(name) != b.get(name) for name in a.keys() | b.keys())
