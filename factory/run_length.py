"""Fit batch size, epochs and learning rates of a training to the number of its images, and say what is too short."""

import os
from dataclasses import replace
from pathlib import Path

from configs.schema import TrainConfig

from .data import TrainingData
from .public_weights import is_continued

MIN_STEPS = 20  # below it a run ends before the moving statistics of its batch norms mean anything
FEW_IMAGES = 10_000


def with_run_length(config: TrainConfig, data: TrainingData) -> tuple[TrainConfig, TrainingData]:
    """Change the flags that the number of images decides; a sentence of `data.notes` or `data.remarks` names each.

    The changed values stand in config.yaml and in the checkpoint, as if they had been given.

    Args:
        config: the flags; --batch_size is lowered to one step of all images, --epochs raised to --min_steps, and
            learning rates of layers are equal where all layers start at random.
        data: the images.
    """
    num_images, optim, schedule = len(data.train_set), config.optim, config.schedule
    num_parts = optim.accum_iter * int(os.environ.get("PADDLE_TRAINERS_NUM", 1))  # of one step
    notes, remarks = list(data.notes), list(data.remarks)
    batch_size, largest = config.loader.batch_size, num_images // num_parts
    if 0 < largest < batch_size:
        remarks.append(
            f"a step of {batch_size * num_parts} images holds more than the {num_images} training images: "
            f"--batch_size is lowered from {batch_size} to {largest}, and an epoch has one step"
        )
        batch_size = largest
    steps_per_epoch = num_images // (batch_size * num_parts)  # 0 is an error of the sampler
    epochs = schedule.epochs
    if steps_per_epoch and epochs * steps_per_epoch < schedule.min_steps:
        epochs = -(-schedule.min_steps // steps_per_epoch)
        notes.append(
            f"--min_steps {schedule.min_steps}: {epochs} epochs of {steps_per_epoch} steps, not {schedule.epochs}; "
            f"--min_steps 0 keeps --epochs {schedule.epochs}"
        )
    if is_continued(config):
        optim, remark = _with_rates_of_start(config)
    elif config.has_weights_to_start:
        remark = []
    else:
        optim, remark = _with_equal_rates(config, num_images)
    remarks += remark
    config = replace(
        config,
        loader=replace(config.loader, batch_size=batch_size),
        optim=optim,
        schedule=replace(schedule, epochs=epochs),
    )
    remarks += _warnings(config, steps_per_epoch)
    return config, replace(data, notes=tuple(notes), remarks=tuple(remarks))


def _with_equal_rates(config: TrainConfig, num_images: int):
    """Learning rates of layers are for trained weights: in a new network all layers have as much to learn."""
    optim = config.optim
    if optim.backbone_lr_mult == 1 and optim.layer_decay is None:
        return optim, []
    flag, value = (
        ("layer_decay", optim.layer_decay) if optim.layer_decay else ("backbone_lr_mult", optim.backbone_lr_mult)
    )
    few = num_images < FEW_IMAGES
    remark = (
        f"no weights to start from: --{flag} {value} is left out, and all layers learn at the same rate"
        + f"; {num_images} images are few for a network that starts at random, and --pretrained needs far fewer" * few
    )
    return replace(optim, backbone_lr_mult=1.0, layer_decay=None), [remark]


def _with_rates_of_start(config: TrainConfig):
    """A run that began at random goes on with equal rates, though its recipe still names those of trained weights."""
    from engine.checkpoint import find_latest, is_checkpoint, read_checkpoint

    optim, resume = config.optim, config.resume.resume
    if optim.backbone_lr_mult == 1 and optim.layer_decay is None:
        return optim, []
    path = find_latest(config.output.output_dir) if resume == "auto" else Path(resume)
    args = (
        read_checkpoint(path).meta.get("info", {}).get("args", {})
        if path and path.is_file() and is_checkpoint(path)
        else {}
    )
    if args.get("backbone_lr_mult") != 1 or args.get("layer_decay") is not None:
        return optim, []
    remark = f"{path} is of a run whose layers all learn at the same rate, and so they go on"
    return replace(optim, backbone_lr_mult=1.0, layer_decay=None), [remark]


def _warnings(config: TrainConfig, steps_per_epoch: int) -> list[str]:
    schedule, found = config.schedule, []
    if schedule.warmup_epochs * 3 > schedule.epochs:
        never = ", and its peak is never reached" * (schedule.warmup_epochs >= schedule.epochs)
        found.append(
            f"the warm-up of the learning rate takes {schedule.warmup_epochs} of {schedule.epochs} epochs, more than a "
            f"third{never}; lower --warmup_epochs to {schedule.epochs // 10}, or raise --epochs"
        )
    num_steps = schedule.epochs * steps_per_epoch
    if 0 < num_steps < MIN_STEPS:
        found.append(
            f"the whole run has {num_steps} steps (updates of the weights): too few to learn from; raise --epochs "
            f"to {-(-MIN_STEPS * 10 // steps_per_epoch)} or more, or lower --batch_size"
        )
    return found
