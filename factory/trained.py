"""A file of weights with all that it says: its model, its classes, and how its images are fed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import models
from common.errors import CheckpointError
from configs.schema import ModelConfig, PreprocessConfig, TrainedModelConfig, TrainedPreprocessConfig, WeightsConfig
from datasets.class_names import IMAGENET_LABEL_LIST, read_class_names, refuse_other_order
from datasets.classes import NUM_IMAGENET, Classes, compare_names
from datasets.preprocess import Preprocess

from .public_weights import fetch_public

if TYPE_CHECKING:
    from paddle import nn

    from engine.weights import Weights


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
    if config.name is not None and flags.input_size is not None:
        models.check_input_size(config.name, flags.input_size)
    return False


@dataclass(frozen=True)
class TrainedModel:
    """A file of weights with its model's name, its classes, and how its images are fed; Paddle is not needed yet.

    `overrides` says which flags replace what the checkpoint says: `{flag: (value of the checkpoint, value used)}`.
    """

    name: str
    weights: "Weights"
    preprocess: Preprocess
    classes: Classes
    overrides: dict[str, tuple]

    @property
    def notes(self) -> list[str]:
        """One sentence for each flag that replaces what the checkpoint says, and one for names that are missing."""
        replaced = [
            f"--{flag} {used} replaces {trained}, the value of {self.weights.path}"
            for flag, (trained, used) in self.overrides.items()
        ]
        return replaced + [f"{self.weights.path}: {self.classes.remark}"] * bool(self.classes.remark)

    def create_model(self) -> "nn.Layer":
        """Create the model and give it the weights.

        Raises:
            CheckpointError: the weights do not fit the model.
        """
        model = models.create_model(self.name, num_classes=self.classes.number)
        self.weights.load_into(model)
        return model

    def card(self, model: "nn.Layer", metrics: dict | None = None, temperature: float = 1.0):
        """The card of the model: how images are fed and what the outputs mean; `temperature` of the probabilities."""
        from deploy.card import Card

        return Card(
            model=self.name,
            architecture=type(model).__name__,
            num_classes=self.classes.number,
            preprocess=self.preprocess,
            class_names=self.classes.names,
            metrics=metrics or {},
            temperature=temperature,
        )


def read_trained(
    model: TrainedModelConfig, weights_config: WeightsConfig, flags: TrainedPreprocessConfig, label_list: str = ""
) -> TrainedModel:
    """Read a file of weights: name, classes and preprocessing are what the file says, unless a flag is given.

    Args:
        model: name and number of classes; None is what the file says.
        weights_config: the file, or the name of public weights, and whether averaged weights are taken.
        flags: preprocessing; None is what the file says, or was published of it.
        label_list: file of class names; "" takes those of the checkpoint.

    Raises:
        CheckpointError: no such file, damaged, or of another model.
        DownloadError, UsageError, DiskError: as `fetch_public`.
        DataError: the label list has another number of names, or names the classes otherwise.
        ModelError: no such model, or the model cannot take images of this side.
    """
    from engine.weights import load_weights

    default_name = ModelConfig().name
    path, info = weights_config.resume, None
    if weights_config.pretrained and not path:
        path, info = fetch_public(weights_config.pretrained, weights_config.weights_dir, model.name)
    weights = load_weights(path, ema=weights_config.use_ema)
    info = info or weights.meta.get("info", {})
    args = info.get("args", {})
    name = model.name or args.get("model") or default_name
    preprocess = Preprocess.from_config(flags, trained=info.get("preprocess"))
    models.check_input_size(name, preprocess.input_size)
    number = model.nb_classes or args.get("nb_classes") or count_outputs(name, weights)
    overrides = {
        flag: (then, now)
        for flag, then, now in (
            ("model", args.get("model"), model.name),
            ("nb_classes", args.get("nb_classes"), model.nb_classes),
            *_changed_preprocessing(info.get("preprocess"), preprocess),
        )
        if then is not None and now is not None and then != now
    }
    return TrainedModel(name, weights, preprocess, classes_of_weights(info, number, label_list), overrides)


def _changed_preprocessing(trained: dict | None, now: Preprocess) -> list[tuple]:
    """(flag, value of the checkpoint, value now) for every field that a flag can replace."""
    if not trained:
        return []
    then = Preprocess.from_config(TrainedPreprocessConfig(), trained).to_dict()
    flags = {"interpolation": "train_interpolation", "image_backend": "eval_image_backend"}
    follows = {"resize_size", "crop_pct"} if then["fit"] != now.fit else {"resize_size"}  # from the others
    return [(flags.get(name, name), then[name], value) for name, value in now.to_dict().items() if name not in follows]


def count_outputs(name: str, weights: "Weights") -> int:
    """Number of outputs of weights that do not say it: the length of the classifier's bias.

    Raises:
        CheckpointError: the weights have no such tensor.
    """
    from engine.weight_names import find_tensor

    names = [f"{head}.bias" for head in models.heads_of(name)]
    bias = find_tensor(weights.arrays, names)
    if bias is None or bias.ndim != 1:
        shown = ", ".join(list(weights.arrays)[:3])
        raise CheckpointError(
            f"{weights.path} has no tensor {names[0]}, the classifier of {name}: it holds weights of another model, "
            f"which --model names. Its first tensors: {shown}"
        )
    return len(bias)


def classes_of_weights(info: dict, number: int, label_list: str = "") -> Classes:
    """The classes of a file of weights: what its training kept, or the names of a label list.

    Foreign weights with 1000 outputs are taken for ImageNet's, which is said by `Classes.remark`.

    Raises:
        DataError: the label list has another number of names, or names them otherwise than the checkpoint.
    """
    kept, folders = info.get("class_names"), info.get("class_folders")
    folders = tuple(folders) if folders else None
    if label_list:
        names = tuple(read_class_names(label_list, number))
        if folders:
            compare_names(names, folders, label_list, "the checkpoint")
        else:
            refuse_other_order(names, kept or (), label_list)
        return Classes(number, names, folders, f"class names of {label_list}")
    if kept:
        return Classes(number, tuple(kept), folders, "class names of the checkpoint")
    if not info and number == NUM_IMAGENET:
        remark = "the weights do not name their 1000 classes: ImageNet's names are used; others by --label_list"
        return Classes(number, tuple(read_class_names(IMAGENET_LABEL_LIST)), None, "class names of ImageNet", remark)
    remark = "no class names: classes are called by their numbers; predict.py and export_model.py take --label_list"
    return Classes(number, None, folders, "no class names", remark)
