"""Where the packages meet for the scripts: the data sets of a training, and trained models with all that they know."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import models
from common.errors import CheckpointError
from configs.schema import (
    DataConfig,
    LoaderConfig,
    ModelConfig,
    PreprocessConfig,
    ResumeConfig,
    TrainConfig,
    TrainedModelConfig,
    TrainedPreprocessConfig,
    WeightsConfig,
)
from datasets.class_names import IMAGENET_LABEL_LIST, read_class_names
from datasets.classes import (
    NUM_IMAGENET,
    Classes,
    choose_classes,
    compare_names,
    compare_splits,
    compare_with_weights,
    describe_order,
)
from datasets.preprocess import Preprocess
from datasets.reading.dataset import open_dataset
from models.pretrained import download_weights, find_weights

if TYPE_CHECKING:
    from paddle import nn

    from engine.weights import Weights

logger = logging.getLogger("main")


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


# --- Training -------------------------------------------------------------------------------------------------------


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


# --- Public weights -------------------------------------------------------------------------------------------------


def fetch_public(name: str, weights_dir: str, model: str | None) -> tuple[Path, dict]:
    """Return the file that --pretrained means, and what a checkpoint would say of it.

    Args:
        name: value of --pretrained.
        weights_dir: folder of downloaded weights; "" is the default one.
        model: network that the weights must fit; None takes that of the weights, or the default one.

    Returns:
        The path of the checked file, and `info` as a training keeps it: network, classes and preprocessing.

    Raises:
        UsageError: no such weights, or they are of another network.
        DownloadError: the file cannot be downloaded.
        CheckpointError: the file is not what was published.
        DiskError: the folder cannot be written.
    """
    row_name, row = find_weights(name, model, default_model=ModelConfig().name)
    preprocess = Preprocess(row.input_size, row.resize_size, row.interpolation)
    info = {
        "args": {"model": model or row.models[0], "nb_classes": row.num_classes},
        "preprocess": preprocess.to_dict(),
        "class_names": read_class_names(IMAGENET_LABEL_LIST, row.num_classes),
    }
    return download_weights(row_name, weights_dir), info


def with_public_weights(config: TrainConfig, given: frozenset[str]) -> tuple[TrainConfig, dict | None]:
    """Take network and preprocessing from the weights that --pretrained names, where no flag says otherwise.

    Args:
        config: the flags of main.py.
        given: names of the flags that were given.

    Returns:
        The config, and the preprocessing of the weights as a dict; None without --pretrained.

    Raises:
        UsageError: no such weights, or they are of another network.
    """
    flags = config.resume
    if not flags.pretrained:
        return config, None
    chosen = config.model.name if "model" in given else None
    name, row = find_weights(flags.pretrained, chosen, default_model=config.model.name)
    model = config.model if chosen else replace(config.model, name=row.models[0])
    published = {"input_size": row.input_size, "train_interpolation": row.interpolation}
    preprocess = replace(config.preprocess, **{flag: v for flag, v in published.items() if flag not in given})
    config = replace(config, model=model, preprocess=preprocess, resume=replace(flags, pretrained=name))
    return config, Preprocess(row.input_size, row.resize_size, row.interpolation).to_dict()


def choose_start(config: TrainConfig) -> ResumeConfig:
    """Download the weights of --pretrained, and name the file as --finetune does.

    Nothing is downloaded where the run continues a checkpoint: a restart may have no network.

    Raises:
        DownloadError, CheckpointError, DiskError: as `fetch_public`.
    """
    flags = config.resume
    is_continued = flags.resume not in ("", "auto") or (
        flags.resume == "auto" and any(Path(config.output.output_dir).glob("checkpoint-*.pd"))
    )
    if not flags.pretrained or is_continued:
        return replace(flags, pretrained="")
    path, _ = fetch_public(flags.pretrained, flags.weights_dir, config.model.name)
    return replace(flags, pretrained="", finetune=str(path))


# --- Trained models -------------------------------------------------------------------------------------------------


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
        """One sentence for each flag that replaces what the checkpoint says."""
        return [
            f"--{flag} {used} replaces {trained}, the value of {self.weights.path}"
            for flag, (trained, used) in self.overrides.items()
        ]

    def create_model(self) -> "nn.Layer":
        """Create the model and give it the weights.

        Raises:
            CheckpointError: the weights do not fit the model.
        """
        model = models.create_model(self.name, num_classes=self.classes.number)
        self.weights.load_into(model)
        return model

    def card(self, model: "nn.Layer", metrics: dict | None = None):
        """The card of the model: how images are fed and what the outputs mean."""
        from deploy.card import Card

        return Card(
            model=self.name,
            architecture=type(model).__name__,
            num_classes=self.classes.number,
            preprocess=self.preprocess,
            class_names=self.classes.names,
            metrics=metrics or {},
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
            *_changed_preprocessing(info.get("preprocess") or {}, preprocess),
        )
        if then is not None and now is not None and then != now
    }
    return TrainedModel(name, weights, preprocess, classes_of_weights(info, number, label_list), overrides)


def _changed_preprocessing(trained: dict, now: Preprocess) -> list[tuple]:
    flags = {"interpolation": "train_interpolation", "image_backend": "eval_image_backend"}
    return [(flags.get(name, name), trained.get(name), value) for name, value in now.to_dict().items()]


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

    Foreign weights with 1000 outputs are taken for ImageNet's, which is said by `Classes.source`.

    Raises:
        DataError: the label list has another number of names, or names them otherwise than the checkpoint.
    """
    kept, folders = info.get("class_names"), info.get("class_folders")
    folders = tuple(folders) if folders else None
    if label_list:
        names = tuple(read_class_names(label_list, number))
        compare_names(names, folders or kept or (), label_list)
        return Classes(number, names, folders, f"class names of {label_list}")
    if kept:
        return Classes(number, tuple(kept), folders, "class names of the checkpoint")
    if not info and number == NUM_IMAGENET:
        source = "the weights do not name their 1000 classes: ImageNet's names are used; others by --label_list"
        return Classes(number, tuple(read_class_names(IMAGENET_LABEL_LIST)), None, source)
    return Classes(number, None, folders, "no class names: classes are called by their numbers")


def trained_configs(config: TrainConfig, given: frozenset[str]) -> tuple[TrainedModelConfig, TrainedPreprocessConfig]:
    """For main.py --eval: the flags that were given; the others are what the checkpoint says, as in eval.py."""
    model, flags = config.model, config.preprocess
    names = ("input_size", "train_interpolation", "exif_orientation", "eval_image_backend")
    return (
        TrainedModelConfig(
            name=model.name if "model" in given else None,
            nb_classes=model.nb_classes if "nb_classes" in given else None,
        ),
        TrainedPreprocessConfig(**{name: getattr(flags, name) for name in names if name in given}),
    )


def weights_to_evaluate(config: TrainConfig) -> WeightsConfig:
    """The weights that main.py --eval means: those of --resume, else of --finetune, else of --pretrained.

    Raises:
        CheckpointError: --resume auto finds no good checkpoint.
    """
    from engine.resume import find_checkpoint

    flags = config.resume
    path = find_checkpoint(flags.resume or flags.finetune, config.output.output_dir, is_required=True)
    return WeightsConfig(str(path or ""), pretrained=flags.pretrained, weights_dir=flags.weights_dir)


def evaluate_trained(trained: TrainedModel, images, loader_config: LoaderConfig, run, precision=None):
    """Evaluate a trained model on images, after their classes were compared; logs and returns the scores.

    Args:
        trained: what `read_trained` returned.
        images: the validation images.
        loader_config: batch size and workers.
        run: engine.run.Run, this process among the ranks.
        precision: engine.amp.Precision of the forward pass; None is float32.

    Raises:
        CheckpointError: the weights do not fit the model.
        DataError: an image cannot be read.
        NonFiniteLossError: a loss is not a finite number.
    """
    from datasets.loading.loader import EvalLoader
    from datasets.loading.sampler import EvalSampler
    from engine.amp import FLOAT32
    from engine.evaluate import evaluate
    from models.complexity import count_parameters

    model = trained.create_model()
    logger.info(f"number of params: {count_parameters(model) / 1e6} M")
    logger.info(f"images are fed as {trained.preprocess}")
    logger.info(f"{trained.classes.number} classes: {trained.classes.source}")
    sampler = EvalSampler(len(images), loader_config.batch_size, *run.ranks)
    loader = EvalLoader(images, trained.preprocess, sampler, loader_config)
    scores = evaluate(model, loader, run, precision or FLOAT32)
    logger.info(f"Accuracy of the network on the {scores.num_samples} test images: {scores.top1_percent:.1f}%")
    return scores


def open_val_images(data: DataConfig, trained: TrainedModel):
    """Open the validation images and compare their classes with those of the weights.

    Returns:
        The images, and sentences on what cannot be compared, and on what flags replace.

    Raises:
        DataError: nothing there, a faulty list, or classes that do not agree.
    """
    images = open_dataset(data.data_path, "val", data.cls_label_path_val)
    return images, [
        *images.remarks,
        *trained.notes,
        *compare_with_weights(images, trained.classes, trained.weights.path),
    ]
