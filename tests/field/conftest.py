"""What the tests of this folder share: the inputs, two small trainings, an exported folder, and files of weights."""

import importlib
import pickle
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import models
from common.cli import run
from engine.checkpoint import read_checkpoint, write_checkpoint
from tests.engine.torch_writer import Call, Name, tensor, zip_form
from tests.field.material import make

SIDE = 48
TINY = {"block_config": [1, 1, 1, 1]}  # the name peleenet stands for a smaller network here
MODULES = {"datasets.check": "datasets.check.__main__"}  # programs whose main function lies elsewhere

TRAIN = (
    f"--input_size {SIDE} --train_interpolation bilinear --exif_orientation apply --num_workers 0 --batch_size 4 "
    "--epochs 1 --lr 0.05 --opt momentum --warmup_epochs 0 --smoothing 0 --mixup 0 --cutmix 0 --reprob 0 --aa="
)


class Result(NamedTuple):
    """The end of a program: its exit code, and what stands on stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


Program = Callable[..., Result]


@contextmanager
def patched_network() -> Iterator[None]:
    """Let the name peleenet stand for a network with one layer in each block, and draw no curves, which take longer."""
    with pytest.MonkeyPatch.context() as patch:
        create_model = models.create_model

        def create_small(name: str, **arguments):
            return create_model(name, **arguments, **(TINY if name == "peleenet" else {}))

        patch.setattr("models.create_model", create_small)
        patch.setattr("engine.watchdog.Watchdog.start", lambda watchdog: watchdog)  # it would outlive its test
        patch.setattr("engine.progress.plots.plot_curves", lambda *files: None)
        yield


@pytest.fixture(scope="module")
def small_network():
    with patched_network():
        yield


def run_program(program: str, arguments: list[str]) -> int:
    """Run the main function of a program as its `__main__` does, in this process; returns the exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [program, *arguments])
        with pytest.raises(SystemExit) as end:
            run(importlib.import_module(MODULES.get(program, program)).main)
    return end.value.code or 0


@pytest.fixture
def program(small_network, capfd) -> Program:
    """A function that runs a program, `program("eval", "--resume x")`, and returns its end."""

    def call(name: str, command: str) -> Result:
        capfd.readouterr()
        code = run_program(name, shlex.split(command))
        return Result(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def material(tmp_path_factory) -> Path:
    """The folder of the inputs; see material.py."""
    return make(tmp_path_factory.mktemp("field"))


@pytest.fixture(scope="session")
def places(material, tmp_path_factory) -> dict[str, str]:
    """The placeholders of the command lines: {m} inputs, {run} and {listed} trainings, {exported}, {weights}, ..."""
    root = tmp_path_factory.mktemp("trained")
    folder_run, list_run, exported, packed, weights = (
        root / name for name in ("run", "listed", "exported", "packed", "weights")
    )
    lists = f"--cls_label_path_train {material}/train_flat.txt --cls_label_path_val {material}/val_flat.txt"
    for name, command in (
        ("main", f"{TRAIN} --epochs 2 --data_path {material}/turned --output_dir {folder_run}"),
        ("main", f"{TRAIN} --data_path {material}/cls3 {lists} --output_dir {list_run}"),
        ("main", f"{TRAIN} --data_path {material}/gbk --output_dir {root}/gbk"),
        ("export_model", f"--resume {folder_run}/checkpoint-latest.pd --output_dir {exported} --format paddle"),
        *(
            ("datasets.pack", f"--data_path {material}/cls3 --split {s} --output_dir {packed} --num_workers 1")
            for s in ("train", "val")
        ),
    ):
        with patched_network():
            assert run_program(name, shlex.split(command)) == 0, f"{name} {command}"
    write_weights(weights, folder_run / "checkpoint-latest.pd")
    cut = shutil.copytree(packed, root / "cut_shards")
    [shard] = (cut / "val").glob("*.tar")
    shard.write_bytes(shard.read_bytes()[:-20_000])
    places = {"m": material, "run": folder_run, "listed": list_run / "checkpoint-latest.pd", "exported": exported}
    places |= {"best": folder_run / "checkpoint-latest.pd", "packed": packed, "cut_shards": cut, "weights": weights}
    places["gbk_run"] = root / "gbk" / "checkpoint-latest.pd"
    data = {name: f"--data_path {material / name}" for name in ("cls3", "cls3b", "renamed", "sub", "more")}
    return {**{name: str(path) for name, path in places.items()}, **data, "T": TRAIN}


def write_weights(folder: Path, checkpoint: Path) -> None:
    """Write the weights of a checkpoint as other tools keep them, and damaged."""
    folder.mkdir()
    data, (_, tensors, meta) = checkpoint.read_bytes(), read_checkpoint(checkpoint)
    model = {name.removeprefix("model/"): array for name, array in tensors.items() if name.startswith("model/")}
    variance = next(name for name in model if name.endswith("_variance"))
    poisoned = {**model, variance: np.full_like(model[variance], np.nan)}
    write_checkpoint(folder / "nan.pd", {**tensors, f"model/{variance}": poisoned[variance]}, meta)
    (folder / "nan.pdparams").write_bytes(pickle.dumps(poisoned, protocol=4))
    (folder / "bare.pdparams").write_bytes(pickle.dumps(model, protocol=4))
    wide = {
        name: np.resize(array, (*array.shape[:-1], 1000)) if array.shape[-1:] == (3,) and array.ndim < 3 else array
        for name, array in model.items()
    }
    (folder / "thousand.pdparams").write_bytes(pickle.dumps(wide, protocol=4))
    theirs = {
        name.replace("_mean", "running_mean").replace("_variance", "running_var"): array.T if array.ndim == 2 else array
        for name, array in model.items()
    }
    content = {
        "state_dict": {name: tensor(array, str(key)) for key, (name, array) in enumerate(theirs.items())},
        "args": Call(Name("argparse", "Namespace"), state={"lr": 0.1}),
    }
    (folder / "namespace.pth").write_bytes(zip_form(content))
    (folder / "cut.pd").write_bytes(data[: len(data) // 2])
    (folder / "flipped.pd").write_bytes(data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:])
