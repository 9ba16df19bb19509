"""What the checks share: the folder, drawn pictures, and the scripts run as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
SIDE, NUM_CLASSES = 64, 4
NUM_PICTURES = {"train": 512, "val": 128}
SECONDS = 900  # that one script may take
# Four steps of every kind in each of two epochs, with a learning rate at which the drawn classes are learned.
TRAINING = (
    f"--input_size {SIDE} --epochs 2 --batch_size 64 --opt momentum --lr 0.05 --warmup_epochs 0 --aa= --reprob 0 "
    "--mixup 0 --cutmix 0 --smoothing 0 --log_every 1 --model peleenet"
).split()


class CheckFailed(Exception):
    """The outcome is not the expected one; the message says what it was."""


class NotPossible(Exception):
    """This machine lacks what the check needs; the message names it."""


class Workplace(NamedTuple):
    """Where the checks run: an output folder, and the device, `gpu` but for a rehearsal."""

    folder: Path
    device: str

    @property
    def pictures(self) -> Path:
        """Folder of the drawn pictures, `train/<class>/` and `val/<class>/`."""
        return self.folder / "pictures"

    @property
    def runs(self) -> Path:
        """Folder of the trainings of one check."""
        return self.folder / "runs"

    def run(self, script: str, *flags: str, launcher: tuple[str, ...] = ()) -> str:
        """Run a script of the project, and return what it printed on stdout.

        Args:
            script: its name without `.py`.
            flags: its command line.
            launcher: flags of Paddle's launcher; empty starts one process without it.

        Raises:
            NotPossible: exit code 7, a missing package or device.
            CheckFailed: any other exit code but 0; the message ends with the last lines of stderr.
        """
        start = ["-m", "paddle.distributed.launch", "--log_dir", str(self.runs / "launch"), *launcher]
        command = [sys.executable, *(start if launcher else []), str(ROOT / f"{script}.py"), *map(str, flags)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
        print("$", *command[1:], done.stdout, done.stderr, sep="\n", flush=True)  # into the log of the check
        if done.returncode:
            last = "\n".join(done.stderr.strip().splitlines()[-3:])
            kind = NotPossible if done.returncode == 7 else CheckFailed
            raise kind(f"{script}.py ended with exit code {done.returncode}: {last}")
        return done.stdout

    def train(self, name: str, *flags: str, launcher: tuple[str, ...] = ()) -> Path:
        """Train PeleeNet on the drawn pictures into the folder `name`, and return the folder."""
        folder = self.runs / name
        data = ["--data_path", str(self.pictures), "--output_dir", str(folder), "--device", self.device]
        self.run("main", *TRAINING, *data, *flags, launcher=launcher)
        return folder


def draw_pictures(folder: Path) -> None:
    """Draw small JPEG files of NUM_CLASSES classes, which differ in colour, into `folder`/train and /val."""
    rng = np.random.default_rng(0)
    for split, count in NUM_PICTURES.items():
        for index in range(count):
            label = index % NUM_CLASSES
            pixels = rng.integers(0, 120, (96, 112, 3))
            pixels[..., label % 3] += 60 + 60 * (label // 3)
            path = folder / split / str(label) / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path, quality=92)


def steps_of(folder: Path) -> list[dict]:
    """The lines of metrics.jsonl that one step wrote: loss, images_per_second, waiting_share."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "step" in line]


def last_epoch_of(folder: Path) -> dict:
    """The numbers of the last epoch, from log.txt."""
    return json.loads((folder / "log.txt").read_text().splitlines()[-1])
