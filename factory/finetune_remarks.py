"""What is to be said where --finetune names a checkpoint of this project: other preprocessing, images it has seen."""

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

from common.errors import DataError
from configs.schema import ResumeConfig, TrainConfig
from datasets.preprocess import Preprocess
from datasets.reading.image_list import read_image_list
from datasets.split.folder_split import read_split

from .data import TrainingData
from .plain_folder import SPLIT
from .public_weights import is_continued

# Fields of the preprocessing, and the flags that set them; another --input_size is usual in a fine-tuning.
FLAGS = {"fit": "fit", "crop_pct": "crop_pct", "interpolation": "train_interpolation",
         "exif_orientation": "exif_orientation"}  # fmt: skip


def with_finetune_remarks(
    data: TrainingData, config: TrainConfig, start: ResumeConfig, preprocess: Preprocess, given: frozenset[str]
) -> TrainingData:
    """Add warnings to `data` where the run begins with a checkpoint of this project.

    Args:
        data: the images of the run.
        config: the flags of main.py.
        start: the file of weights, see `choose_start`.
        preprocess: how the run feeds images in evaluation.
        given: names of the flags that were given.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    from engine.checkpoint import is_checkpoint, read_checkpoint

    if config.resume.pretrained or not start.finetune or is_continued(config) or not is_checkpoint(start.finetune):
        return data
    path = Path(start.finetune)
    info = read_checkpoint(path).meta.get("info", {})
    remarks = [
        *_other_preprocessing(path, info.get("preprocess") or {}, preprocess.to_dict(), given),
        *_seen_images(path, info.get("data") or {}, data.val_set),
    ]
    return replace(data, remarks=(*data.remarks, *remarks))


def _other_preprocessing(path: Path, then: dict, now: dict, given: frozenset[str]) -> list[str]:
    """Name the flags that would feed images as the checkpoint was evaluated, of those that were not given."""
    changed = {field: flag for field, flag in FLAGS.items() if field in then and then[field] != now[field]}
    if then.get("fit", "crop") != "crop":
        changed.pop("crop_pct", None)  # follows from fit
    flags = [f"--{flag} {then[field]}" for field, flag in changed.items() if flag not in given]
    if not flags:
        return []
    return [f"{path} was evaluated with {' '.join(flags)}: give the same, unless this run is to differ"]


def _seen_images(path: Path, known: dict, val_set) -> list[str]:
    """Count the validation images on which the checkpoint was trained, as far as it tells."""
    root, train_list = known.get("data_path"), known.get("cls_label_path_train")
    if not isinstance(root, str):
        return []
    images = [_real_path(val_set.path(i)) for i in range(len(val_set))]
    train_folder = os.path.join(root, "train")
    if not train_list and os.path.isdir(train_folder):
        seen = _inside(images, train_folder)
    else:
        lists = train_list or path.parent / SPLIT
        try:
            files = None if train_list else read_split(lists)
            trained_on = read_image_list(lists, root) if train_list else files and files.images("train", root)
        except DataError:
            trained_on = None
        if trained_on is None:
            return [
                f"{path} was trained on images of {root}, and {lists}, which says on which, is missing: if these are "
                "validation images now, the accuracies are too good"
            ] * bool(_inside(images, root))
        new = set(images)
        seen = [image for i in range(len(trained_on)) if (image := _real_path(trained_on.path(i))) in new]
    if not seen:
        return []
    return [
        f"{len(seen):,} of the {len(images):,} validation images, as {seen[0]}, were training images of {path}: "
        "the accuracies are too good; name the lists of that training, --cls_label_path_train and --cls_label_path_val"
    ]


def _inside(paths: list[str], folder: str) -> list[str]:
    prefix = os.path.join(os.path.realpath(folder), "")
    return [path for path in paths if path.startswith(prefix)]


def _real_path(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(_real_folder(folder), name)


_real_folder = cache(os.path.realpath)  # an image list has many files of one folder
