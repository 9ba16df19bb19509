"""Weights of an own checkpoint say where the run differs, and which validation images they were trained on."""

from pathlib import Path

import numpy as np
import pytest

import factory
from configs.loader import given_flags, parse
from configs.schema import TrainConfig
from datasets.preprocess import Preprocess
from engine.checkpoint import write_checkpoint
from tests.datasets.fake_images import fake_image


@pytest.fixture
def folder(tmp_path):
    """A plain folder of two classes with ten pictures each."""
    for seed in range(20):
        path = tmp_path / "pictures" / "ab"[seed % 2] / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        fake_image(40, 40, seed=seed).save(path)
    return tmp_path / "pictures"


def remarks_of(*flags: str) -> list[str]:
    """What is added to the remarks of the data."""
    argv = list(map(str, flags))
    config = parse(TrainConfig, argv, prog="main.py")
    data = factory.open_datasets(config)
    preprocess = Preprocess.from_config(config.preprocess)
    given = given_flags(TrainConfig, argv, prog="main.py")
    more = factory.with_finetune_remarks(data, config, factory.choose_start(config), preprocess, given)
    return list(more.remarks[len(data.remarks) :])


def train(folder: Path, out: Path, *flags: str) -> Path:
    """Leave a checkpoint with what a training would say of its data and preprocessing."""
    config = parse(TrainConfig, [f"--data_path={folder}", f"--output_dir={out}", *flags], prog="main.py")
    data = factory.open_datasets(config)
    if data.split_source:
        factory.keep_split(data.split_source, out)
    info = {"data": data.describe(config.data), "preprocess": Preprocess.from_config(config.preprocess).to_dict()}
    out.mkdir(exist_ok=True)
    write_checkpoint(out / "checkpoint-best.pd", {"model/a": np.zeros(1, np.float32)}, {"info": info})
    return out / "checkpoint-best.pd"


def test_validation_images_that_were_trained_on_are_counted(folder, tmp_path):
    weights = train(folder, tmp_path / "first")
    new = (f"--data_path={folder}", f"--output_dir={tmp_path}/second", f"--finetune={weights}")
    assert remarks_of(*new) == [], "the same seed gives the same split"
    [remark] = remarks_of(*new, "--seed=3")
    assert " of the 4 validation images, as " in remark
    assert f"were training images of {weights}: the accuracies are too good; name the lists of that" in remark
    (tmp_path / "first/split/split.json").unlink()
    [remark] = remarks_of(*new)
    assert f"{tmp_path}/first/split, which says on which, is missing: if these are" in remark
    assert remarks_of(*new[:2]) == [] and remarks_of(*new[:2], f"--resume={weights}") == []


@pytest.mark.parametrize("is_listed", [True, False])
def test_images_of_lists_and_of_train_folders_are_counted_too(folder, tmp_path, is_listed):
    root = tmp_path / "data"
    (root / "val").mkdir(parents=True)
    (root / "train").symlink_to(folder)
    for label in "ab":
        (root / "val" / label).symlink_to(folder / label)
    flags = []
    if is_listed:
        (root / "l.txt").write_text("".join(f"train/{'ab'[i % 2]}/{i}.png {i % 2}\n" for i in range(5)))
        flags = [f"--cls_label_path_{part}={root}/l.txt" for part in ("train", "val")]
    weights = train(root, tmp_path / "first", *flags)
    [remark] = remarks_of(f"--data_path={root}", f"--finetune={weights}", *flags)
    assert remark.startswith("5 of the 5 " if is_listed else "20 of the 20 ")


def test_another_preprocessing_is_said_unless_it_was_asked_for(folder, tmp_path):
    weights = train(folder, tmp_path / "first", "--fit=letterbox", "--train_interpolation=bilinear")
    new = (f"--data_path={folder}", f"--finetune={weights}")
    [remark] = remarks_of(*new)
    flags = "--fit letterbox --train_interpolation bilinear"
    assert remark == f"{weights} was evaluated with {flags}: give the same, unless this run is to differ"
    [remark] = remarks_of(*new, "--fit=crop")
    assert "with --train_interpolation bilinear: give" in remark
    assert remarks_of(*new, "--fit=letterbox", "--train_interpolation=bilinear") == []
    weights = train(folder, tmp_path / "second", "--crop_pct=0.95")
    [remark] = remarks_of(f"--data_path={folder}", f"--finetune={weights}")
    assert "with --crop_pct 0.95: give" in remark
    weights = train(folder, tmp_path / "third", "--exif_orientation=apply")
    [remark] = remarks_of(f"--data_path={folder}", f"--finetune={weights}")
    assert "with --exif_orientation apply: give" in remark


def test_other_files_and_checkpoints_that_say_nothing_are_no_reason(folder, tmp_path):
    (tmp_path / "weights.pdparams").write_bytes(b"\x80\x02}q\x00.")
    assert remarks_of(f"--data_path={folder}", f"--finetune={tmp_path}/weights.pdparams") == []
    write_checkpoint(tmp_path / "a.pd", {"model/a": np.zeros(1, np.float32)}, {})
    assert remarks_of(f"--data_path={folder}", f"--finetune={tmp_path}/a.pd") == []
