"""The weights that --pretrained names: where they replace flags, and where a training or an evaluation takes them."""

from dataclasses import replace
from pathlib import Path

from common.errors import UsageError
from configs.schema import ModelConfig, ResumeConfig, TrainConfig
from datasets.class_names import IMAGENET_LABEL_LIST, read_class_names
from datasets.preprocess import Preprocess
from models.pretrained import download_weights, find_weights


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
        UsageError: --freeze with --resume auto, and there is neither a checkpoint nor a file of weights.
    """
    flags, continues = config.resume, is_continued(config)
    if config.optim.freeze and not continues and not config.has_weights_to_start:
        raise UsageError(
            f"--freeze needs weights to start from, and {config.output.output_dir} has no checkpoint to continue; give "
            "--pretrained or --finetune too, which are read at the first start alone"
        )
    if not flags.pretrained or continues:
        return replace(flags, pretrained="")
    path, _ = fetch_public(flags.pretrained, flags.weights_dir, config.model.name)
    return replace(flags, pretrained="", finetune=str(path))


def is_continued(config: TrainConfig) -> bool:
    """Whether --resume names a file, or finds checkpoints: --finetune and --pretrained are then not read."""
    flags = config.resume
    if flags.resume == "auto":
        return any(Path(config.output.output_dir).glob("checkpoint-*.pd"))
    return bool(flags.resume)
