"""Open the images of a training or an evaluation, and compare their classes by name."""

from dataclasses import dataclass, replace

from configs.schema import DataConfig, TrainConfig
from datasets.classes import Classes, choose_classes, compare_splits, compare_with_weights, describe_order
from datasets.reading.dataset import open_dataset

from .trained import TrainedModel


@dataclass(frozen=True)
class TrainingData:
    """The images of a training, their classes, and what is to be said of them."""

    train_set: object
    val_set: object
    classes: Classes
    remarks: tuple[str, ...]


def open_datasets(config: TrainConfig, *, check_files: bool) -> TrainingData:
    """Open the training and the validation images, derive the classes and compare them by name.

    Args:
        config: which folders and lists, --nb_classes and --label_list.
        check_files: check that the files of a list exist; one rank is enough for that.

    Raises:
        DataError: nothing there, a faulty list, or classes that do not agree.
    """
    data = config.data
    train_set = open_dataset(data.data_path, "train", data.cls_label_path_train, check_files=check_files)
    val_set = open_dataset(data.data_path, "val", data.cls_label_path_val, check_files=check_files)
    classes = choose_classes(train_set, given=config.model.nb_classes, label_list=data.label_list)
    remarks = compare_splits(train_set, val_set, classes.number)
    order = describe_order(train_set.class_names or ())
    remarks = [*train_set.remarks, *val_set.remarks, *remarks, *([order] if order else [])]
    return TrainingData(train_set, val_set, classes, tuple(remarks))


def with_classes(config: TrainConfig, classes: Classes) -> TrainConfig:
    """The config with the number of classes that the data has."""
    return replace(config, model=replace(config.model, nb_classes=classes.number))


def open_val_images(data: DataConfig, trained: TrainedModel):
    """Open the validation images and compare their classes with those of the weights.

    Returns:
        The images, and sentences on what cannot be compared, and on what flags replace.

    Raises:
        DataError: nothing there, a faulty list, or classes that do not agree.
    """
    limit = trained.classes.number if data.cls_label_path_val else None  # folders are compared by name below
    images = open_dataset(data.data_path, "val", data.cls_label_path_val, limit)
    return images, [
        *images.remarks,
        *trained.notes,
        *compare_with_weights(images, trained.classes, trained.weights.path),
    ]
