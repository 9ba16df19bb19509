"""A little data set and a trained checkpoint, made once for all tests of the five scripts."""

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.forked_python import run_python, start_ranks

ROOT = Path(__file__).parent.parent.parent
SIDE, NUM_CLASSES = 32, 4
MODEL = f"--model mobilenet_v3_small_x0_35 --nb_classes {NUM_CLASSES} --input_size {SIDE} --num_workers 0".split()
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


class Data(NamedTuple):
    """A folder of images with its lists."""

    root: Path
    train_list: Path
    val_list: Path
    label_list: Path

    @property
    def train_flags(self) -> list[str]:
        return [*self.val_flags, "--cls_label_path_train", str(self.train_list), "--label_list", str(self.label_list)]

    @property
    def val_flags(self) -> list[str]:
        return ["--data_path", str(self.root), "--cls_label_path_val", str(self.val_list)]


def write_split(root: Path, split: str, count: int, seed: int) -> Path:
    """`count` noisy PNG files whose colour tells the class, and their list; a name has a blank in it."""
    rng = np.random.default_rng(seed)
    lines = []
    for i in range(count):
        label = i % NUM_CLASSES
        pixels = rng.integers(0, 120, (40 + i % 5, 44, 3))
        pixels[..., label % 3] += 60 + 60 * (label // 3)
        path = root / split / str(label) / f"image {i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        lines.append(f"{path.relative_to(root).as_posix()} {label}\n")
    list_file = root / f"{split}_list.txt"
    list_file.write_text("".join(lines))
    return list_file


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Data:
    root = tmp_path_factory.mktemp("data set")
    label_list = root / "labels.txt"
    label_list.write_text("0 red\n1 green\n2 blue\n3 bright red, crimson\n")
    return Data(root, write_split(root, "train", 48, seed=0), write_split(root, "val", 33, seed=1), label_list)


def run_script(script: str, *flags: object) -> subprocess.CompletedProcess:
    """Run a script as a user does, in a process of its own."""
    return run_python([ROOT / f"{script}.py", *flags], cwd=ROOT, env=ENVIRONMENT)


def run_ranks(script: str, *flags: object) -> subprocess.CompletedProcess:
    """Run a script in two ranks; returns the words and the stdout of rank 0, the worse exit code and all of stderr."""
    ranks = start_ranks([ROOT / f"{script}.py", *flags], 2, cwd=ROOT, env=ENVIRONMENT)
    first, second = (rank.wait() for rank in ranks)
    worse = first.returncode or second.returncode
    return subprocess.CompletedProcess(first.args, worse, first.stdout, first.stderr + second.stderr)


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory) -> Path:
    """The output folder of one short training."""
    folder = tmp_path_factory.mktemp("trained")
    flags = "--batch_size 8 --epochs 2 --opt momentum --lr 0.05 --aa= --reprob 0 --mixup 0 --cutmix 0".split()
    done = run_script("main", *MODEL, *data.train_flags, *flags, "--output_dir", folder)
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder
