"""Where the packages meet for the scripts: the data sets of a training, and trained models with all that they know."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import models
from common.errors import DataError
from configs.schema import ModelConfig, PreprocessConfig, TrainConfig, WeightsConfig
from datasets.preprocess import Preprocess
from datasets.reading.dataset import choose_class_names, open_dataset
from datasets.reading.image_folder import check_same_classes

if TYPE_CHECKING:
    from paddle import nn

    from engine.checkpoint import Weights


def open_datasets(config: TrainConfig, *, check_files: bool):
    """Open the training and the validation images and compare their classes.

    Args:
        config: which folders and lists.
        check_files: look whether the files of a list exist; one rank is enough for that.

    Raises:
        DataError: nothing there, a faulty list, or classes that do not agree.
    """
    data, num_classes = config.data, config.model.nb_classes
    train_set = open_dataset(data.data_path, "train", data.cls_label_path_train, num_classes, check_files=check_files)
    val_set = open_dataset(data.data_path, "val", data.cls_label_path_val, num_classes, check_files=check_files)
    check_same_classes(train_set, val_set)
    names = train_set.class_names
    if names and len(names) < num_classes:  # the others would be outputs without a name
        raise DataError(
            f"{data.data_path}: {len(names)} class folders, but --nb_classes is {num_classes}; "
            f"set --nb_classes {len(names)}"
        )
    return train_set, val_set


def list_models_or_check(config: ModelConfig, flags: PreprocessConfig) -> bool:
    """Print all model names if --list_models asks for it; else check name and image side, without Paddle.

    Returns:
        Whether the names were printed, and the script is done.

    Raises:
        ModelError: no such model, or a side that the model cannot take.
    """
    if config.list_models:
        print(*models.list_models(), sep="\n")
        return True
    models.check_input_size(config.name, flags.input_size)
    return False


@dataclass(frozen=True)
class TrainedModel:
    """A model with the weights of a file, and how its images are fed."""

    name: str
    num_classes: int
    model: "nn.Layer"
    weights: "Weights"
    preprocess: Preprocess
    class_names: tuple[str, ...] | None

    @property
    def note(self) -> str:
        """What to say where images are fed otherwise than when the training evaluated the model; "" if alike."""
        return self.weights.other_preprocessing(self.preprocess.to_dict())

    @property
    def info(self) -> dict:
        """What the training kept with the weights; empty for foreign weights."""
        return self.weights.meta.get("info", {})

    def card(self, metrics: dict | None = None):
        """The card of the model: how images are fed and what the outputs mean."""
        from deploy.card import Card

        return Card(
            model=self.name,
            architecture=type(self.model).__name__,
            num_classes=self.num_classes,
            preprocess=self.preprocess,
            class_names=self.class_names,
            metrics=metrics or {},
        )


def load_trained(
    model_config: ModelConfig, weights_config: WeightsConfig, flags: PreprocessConfig, label_list: str = ""
) -> TrainedModel:
    """Create the model, load the weights, and choose preprocessing and class names.

    Args:
        model_config: name and number of classes.
        weights_config: the file, and whether its averaged weights are taken.
        flags: preprocessing by the flags of the script.
        label_list: file of class names; "" takes those of the checkpoint, or ImageNet's for 1000 classes.

    Raises:
        CheckpointError: no such file, damaged, or of another model.
        DataError: the label list has other numbers of names.
    """
    from engine.checkpoint import load_weights, set_weights

    weights = load_weights(weights_config.resume, ema=weights_config.use_ema, model_name=model_config.name)
    info = weights.meta.get("info", {})
    model = models.create_model(model_config.name, num_classes=model_config.nb_classes)
    set_weights(model, weights.arrays, source=weights.path, trained_with=weights.trained_with)
    preprocess = Preprocess.from_config(flags, trained=info.get("preprocess"))
    class_names = choose_class_names(model_config.nb_classes, label_list, info.get("class_names"))
    return TrainedModel(model_config.name, model_config.nb_classes, model, weights, preprocess, class_names)
