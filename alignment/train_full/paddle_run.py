"""The training of the port: main.py in a process of its own, which continues where it was stopped."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.errors import CheckpointError, ProjectError
from common.files import write_atomically
from common.regular_files import read_regular

from ..rules import Arrays
from .settings import FullTraining

ROOT = Path(__file__).parents[2]


@dataclass
class Trained:
    """What one training has given.

    Attributes:
        seed: of the training.
        top1_percent: accuracy after each epoch.
        losses: (number of the step, mean loss of the last Meter.WINDOW steps of its epoch).
        first_loss: loss of the first step.
        seconds: of the whole training; None if a start that was killed is not counted.
    """

    seed: int
    top1_percent: list[float]
    losses: list[tuple[int, float]] = field(default_factory=list)
    first_loss: float = 0.0
    seconds: float | None = None


def initial_weights(recipe: FullTraining, seed: int) -> Arrays:
    """The weights with which main.py starts by this seed, {name in the port: array}."""
    import paddle

    from models import create_model

    paddle.seed(seed)
    model = create_model(recipe.case.port, num_classes=recipe.num_classes)
    return {name: np.array(value.numpy()) for name, value in model.state_dict().items()}


def train_port(recipe: FullTraining, seed: int, weights: Arrays, folder: Path) -> Trained:
    """Train to the end from the given weights, or read the results of a training that is finished.

    Args:
        recipe: the training.
        seed: of the training.
        weights: at the start.
        folder: output folder of main.py.

    Raises:
        CheckpointError: the folder holds a training with other settings.
        ProjectError: main.py failed; the message has the last lines of its log, `exit_code` is that of main.py.
    """
    from engine.safetensors_io import encode

    folder.mkdir(parents=True, exist_ok=True)
    initial, done, settings = folder / "initial.safetensors", folder / "seconds.json", folder / "settings.sha256"
    fingerprint, is_first = recipe.fingerprint(seed, weights), not settings.exists()
    if is_first:
        write_atomically(initial, encode(weights, {"format": "pd"}))
        write_atomically(settings, fingerprint)
    elif read_regular(settings).decode() != fingerprint:
        raise CheckpointError(f"{folder} holds a training with other settings; give another --output_dir, or remove it")
    if not done.exists():
        flags = [*recipe.command(seed), "--finetune", str(initial), "--output_dir", str(folder), "--resume", "auto"]
        log = folder / "main.log"
        with log.open("a", encoding="utf-8") as stream:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            started = time.perf_counter()
            process = subprocess.run(
                [sys.executable, "main.py", *flags], cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT
            )
        if process.returncode:
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            error = ProjectError(f"main.py ended with code {process.returncode}; its log is {log}\n{tail}")
            error.exit_code = max(1, process.returncode)
            raise error
        write_atomically(done, json.dumps(round(time.perf_counter() - started) if is_first else None))
    return _read_logs(seed, folder, json.loads(read_regular(done)))


def _read_logs(seed: int, folder: Path, seconds: float | None) -> Trained:
    epochs = [json.loads(line) for line in (folder / "log.txt").read_text(encoding="utf-8").splitlines()]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "step" in line]
    per_epoch = 1 + max(line["step"] for line in steps)
    losses = [(line["epoch"] * per_epoch + line["step"], line["loss"]) for line in steps]
    return Trained(seed, [epoch["test_acc1"] for epoch in epochs], losses, losses[0][1], seconds)
