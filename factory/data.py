"""Open the images of a training or an evaluation, and compare their classes by name."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.errors import DataError
from configs.schema import DataConfig, EvalDataConfig, TrainConfig, TrainDataConfig
from datasets.class_weights import choose_class_weights, describe_class_weights
from datasets.classes import Classes, choose_classes, compare_splits, compare_with_weights, describe_order
from datasets.reading.dataset import open_dataset
from datasets.reading.image_list import check_files_exist
from datasets.split.folder_split import read_split
from datasets.split.plain_folder import is_plain_folder

from .plain_folder import SPLIT, open_plain_folder, uses_plain_folder
from .trained import TrainedModel


@dataclass(frozen=True)
class TrainingData:
    """The images of a training, their classes, and what is to be said of them.

    Attributes:
        train_set: the training images.
        val_set: the validation images.
        classes: number and names of the classes.
        class_weights: weight of each class in the loss, [C] float32; None weighs all images equally.
        notes: sentences for the log.
        remarks: warnings.
    """

    train_set: object
    val_set: object
    classes: Classes
    class_weights: np.ndarray | None
    notes: tuple[str, ...]
    remarks: tuple[str, ...]
    split_source: Path | None = None  # where the split of a plain folder lies

    def describe(self, data: TrainDataConfig) -> dict:
        """What a checkpoint keeps of the data, by which eval.py finds the validation images again."""
        listed, train_list = data.cls_label_path_val, data.cls_label_path_train
        return {
            "data_path": os.path.abspath(data.data_path),
            "cls_label_path_train": os.path.abspath(train_list) if train_list else None,
            "cls_label_path_val": os.path.abspath(listed) if listed else None,
            "val_images": self.val_set.fingerprint()[:16],
        }


def open_datasets(config: TrainConfig, rank: int = 0) -> TrainingData:
    """Open the training and the validation images, derive the classes and compare them by name.

    Args:
        config: which folders and lists, --nb_classes, --label_list and --class_weights.
        rank: number of this process; rank 0 alone splits a plain folder, and checks that the files of a list exist.

    Raises:
        DataError: nothing there, a faulty list, classes that do not agree, or as `open_plain_folder`.
    """
    data = config.data
    split = open_plain_folder(config, rank) if uses_plain_folder(config) else None
    if split:
        train_set, val_set = split.train_set, split.val_set
    else:
        train_set = open_dataset(data.data_path, "train", data.cls_label_path_train, check_files=rank == 0)
        val_set = open_dataset(data.data_path, "val", data.cls_label_path_val, check_files=rank == 0)
    classes = choose_classes(train_set, given=config.model.nb_classes, label_list=data.label_list)
    remarks = compare_splits(train_set, val_set, classes.number)
    order = describe_order(train_set.class_names or ())
    remarks = [*train_set.remarks, *val_set.remarks, *remarks, *([order] if order else [])]
    for images in (train_set, val_set):
        remarks += _other_orientation(images, config.preprocess.exif_orientation)
    if split:
        counts = f"{len(train_set):,} training and {len(val_set):,} validation images"
        classes = replace(classes, source=f"{classes.source}; {counts}, {split.where}")
        remarks += split.remarks
    weights = choose_class_weights(config.loss, classes, train_set.labels, is_balanced=config.loader.balanced_sampling)
    notes = [classes.source, *([] if weights is None else [describe_class_weights(weights, classes)])]
    return TrainingData(
        train_set, val_set, classes, weights, tuple(notes), tuple(remarks), split.source if split else None
    )


def with_classes(config: TrainConfig, classes: Classes) -> TrainConfig:
    """The config with the number of classes that the data has."""
    return replace(config, model=replace(config.model, nb_classes=classes.number))


def open_val_images(data: DataConfig | EvalDataConfig, trained: TrainedModel):
    """Open the validation images and compare their classes with those of the weights.

    Without --data_path they are those of the training, which the checkpoint knows.

    Returns:
        The images, and sentences on what cannot be compared, on what flags replace, and where the images are from.

    Raises:
        DataError: nothing there, a faulty list, classes that do not agree, or a split that is not there.
    """
    known = trained.weights.meta.get("info", {}).get("data", {})
    root, listed, remarks = data.data_path, data.cls_label_path_val, []
    if root is None:
        root = known.get("data_path") or DataConfig().data_path
        listed = listed or known.get("cls_label_path_val")
        if known:
            remarks.append(
                f"data of the checkpoint: --data_path {root}" + f" --cls_label_path_val {listed}" * bool(listed)
            )
    if not listed and is_plain_folder(root):
        images, remark = _open_kept_split(root, known, trained)
        remarks.append(remark)
    else:
        limit = trained.classes.number if listed else None  # folders are compared by name below
        images = open_dataset(root, "val", listed, limit)
    return images, [
        *remarks,
        *images.remarks,
        *_other_orientation(images, trained.preprocess.exif_orientation),
        *trained.notes,
        *compare_with_weights(images, trained.classes, trained.weights.path),
    ]


def _other_orientation(images, wanted: str) -> list[str]:
    """A sentence where shards hold pixels that were turned by EXIF, or not, otherwise than a run feeds images."""
    stored = getattr(images, "exif_orientation", None)
    if stored in (None, wanted):
        return []
    return [
        f"{images.root} was packed with --exif_orientation {stored}, and this run has {wanted}: its photographs stay "
        f"as they were packed, which may be on their side; pack them again with --exif_orientation {wanted}"
    ]


def _open_kept_split(root: str, known: dict, trained: TrainedModel):
    """The validation images of the split that lies beside the checkpoint, and a sentence on it."""
    folder = Path(trained.weights.path).parent / SPLIT
    files = read_split(folder)
    if files is None:
        raise DataError(
            f"{root} has neither train/ nor val/, and {folder}, which would say what was not trained on, is missing; "
            "copy that folder of the training beside the checkpoint, name the images by --cls_label_path_val, or put "
            "the class folders of a test set into a folder val below --data_path"
        )
    images = files.images("val", root)
    if known.get("val_images") not in (None, images.fingerprint()[:16]):
        raise DataError(
            f"{folder}: not the split of {trained.weights.path}, which was validated on other images; copy the folder "
            f"{SPLIT} of its training beside it, or name the images by --cls_label_path_val"
        )
    check_files_exist(images)
    return images, f"validation images: the {len(images):,} of {folder}/val_list.txt, which were not trained on"


def open_train_images(data: EvalDataConfig, train_list: str | None, trained: TrainedModel):
    """Open the images that weights were trained on, and compare their classes with those of the weights.

    Without --data_path they are those that the checkpoint knows; of a plain folder those of the split beside it.

    Args:
        data: root of the data.
        train_list: list file of the training images; None takes the folder or the shards `train`.
        trained: the weights.

    Returns:
        The images; None if there is neither a list nor a folder nor a split.

    Raises:
        DataError: a faulty list or folder, or classes that do not agree.
    """
    known = trained.weights.meta.get("info", {}).get("data", {})
    root = data.data_path or known.get("data_path") or DataConfig().data_path
    if os.path.abspath(root) == known.get("data_path"):
        train_list = train_list or known.get("cls_label_path_train")
    if not train_list and not os.path.isdir(os.path.join(root, "train")):
        files = read_split(Path(trained.weights.path).parent / SPLIT) if is_plain_folder(root) else None
        if files is None:
            return None
        images = files.images("train", root)
        check_files_exist(images)
    else:
        images = open_dataset(root, "train", train_list, trained.classes.number if train_list else None)
    compare_with_weights(images, trained.classes, trained.weights.path)
    return images
