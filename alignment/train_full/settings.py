"""The settings of a whole training as both sides need them, its images, batches and learning rates."""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from common.errors import UsageError
from configs.loader import changed, parse
from configs.schema import TrainConfig
from datasets.augment.mixup import create_mixup
from datasets.augment.random_erasing import create_random_erasing
from datasets.augment.transforms import build_train_transform
from datasets.classes import choose_classes, compare_splits
from datasets.preprocess import Preprocess
from datasets.reading.dataset import open_dataset

from ..case import Case
from ..case_settings import OPTIMIZERS
from ..rules import Arrays

# Settings that the training of the reference has. Any other setting that differs from its default is refused: without
# it the two trainings would not be the same.
SHARED = {
    "model", "nb_classes", "input_size", "train_interpolation", "exif_orientation", "eval_image_backend", "fit",
    "crop_pct", "data_path", "cls_label_path_train", "cls_label_path_val", "label_list", "batch_size", "num_workers",
    "worker_type", "image_backend", "balanced_sampling", "crop", "scale", "ratio", "hflip", "aa", "color_jitter",
    "reprob", "remode", "recount", "smoothing", "mixup", "cutmix", "cutmix_minmax", "mixup_prob", "mixup_switch_prob",
    "mixup_mode", "opt", "momentum", "weight_decay", "sched", "epochs", "lr", "blr", "warmup_epochs", "warmup_lr",
    "min_lr", "t_in_epochs", "decay_epochs", "decay_rate", "seed", "log_every", "save_freq", "stall_seconds", "device",
    "cpu_threads",
}  # fmt: skip
# Of them, those that decide no number.
IGNORED = {
    "data_path",
    "cpu_threads",
    "num_workers",
    "worker_type",
    "log_every",
    "save_freq",
    "stall_seconds",
    "device",
    "label_list",
}


@dataclass(frozen=True)
class FullTraining:
    """A whole training: a recipe with its data.

    Args:
        case: the pair of models, whose port is a name of models/.
        config_file: the recipe.
        data_path: folder with train/ and val/.
        flags: further flags of main.py.

    Raises:
        UsageError: the recipe has a setting that the training of the reference lacks, or names another model.
    """

    case: Case
    config_file: Path
    data_path: Path
    flags: tuple[str, ...] = ()

    def __post_init__(self):
        if ":" in self.case.port:
            raise UsageError(
                f"the case {self.case.name}: port: {self.case.port}: main.py trains the networks of models/ alone; "
                "name one of them"
            )
        config = self.common_config
        unknown = [name for name in changed(config) if name not in SHARED]
        if unknown:
            flags = ", ".join(f"--{name}" for name in unknown)
            raise UsageError(
                f"{self.config_file}: the training of the reference has no {flags}; set it back to its default"
            )
        if config.optim.opt not in OPTIMIZERS:
            raise UsageError(f"--opt {config.optim.opt}: the training of the reference has {', '.join(OPTIMIZERS)}")
        if config.model.name != self.case.port:
            raise UsageError(
                f"{self.config_file} trains {config.model.name}, and the case {self.case.name} compares "
                f"{self.case.port}; give --config with a recipe of that network, or --model {self.case.port}"
            )

    def command(self, seed: int) -> list[str]:
        """The flags of main.py for a training with a seed, without the files that it writes."""
        own = ["--config", str(self.config_file), *self.flags]
        return [*own, "--data_path", str(self.data_path), "--seed", str(seed)]

    def config(self, seed: int) -> TrainConfig:
        """The settings of a training with a seed."""
        return parse(TrainConfig, self.command(seed), prog="main.py")

    @cached_property
    def common_config(self) -> TrainConfig:
        """The settings that all seeds share, from one reading of the recipe."""
        return self.config(0)

    def fingerprint(self, seed: int, weights: Arrays) -> str:
        """SHA-256 of what decides a training: its settings, its images, its initial weights."""
        config = self.config(seed)
        settings = {name: value for name, value in changed(config).items() if name not in IGNORED}
        digest = hashlib.sha256(json.dumps([settings, [images.fingerprint() for images in self.images[:2]]]).encode())
        for name in sorted(weights):
            digest.update(name.encode() + np.ascontiguousarray(weights[name]).tobytes())
        return digest.hexdigest()

    @cached_property
    def images(self) -> tuple:
        """(training images, validation images, their classes).

        Raises:
            DataError: nothing there, a faulty list, or classes that do not agree.
        """
        config = self.common_config
        train_set = open_dataset(config.data.data_path, "train", config.data.cls_label_path_train)
        val_set = open_dataset(config.data.data_path, "val", config.data.cls_label_path_val)
        classes = choose_classes(train_set, given=config.model.nb_classes, label_list=config.data.label_list)
        compare_splits(train_set, val_set, classes.number)
        return train_set, val_set, classes

    @property
    def num_classes(self) -> int:
        """Number of classes of the data."""
        return self.images[2].number

    def train_loader(self, seed: int):
        """The loader of main.py: the same batches in the same order."""
        from datasets.loading.loader import TrainLoader
        from datasets.loading.sampler import create_train_sampler

        config, (train_set, _, classes) = self.config(seed), self.images
        preprocess = Preprocess.from_config(config.preprocess)
        return TrainLoader(
            train_set,
            build_train_transform(config.augment, config.preprocess, preprocess),
            preprocess,
            create_train_sampler(train_set.labels, config.loader, 1, (0, 1), seed),
            config.loader,
            erasing=create_random_erasing(config.augment),
            mixup=create_mixup(config.mix, classes.number),
        )

    def eval_loader(self):
        """The loader of the evaluation of main.py."""
        from datasets.loading.loader import EvalLoader
        from datasets.loading.sampler import EvalSampler

        config, val_set = self.common_config, self.images[1]
        sampler = EvalSampler(len(val_set), config.loader.batch_size)
        return EvalLoader(val_set, Preprocess.from_config(config.preprocess), sampler, config.loader)

    def rates(self, steps_per_epoch: int) -> list[float]:
        """The learning rate of every step."""
        from engine.schedule import create_schedule, peak_lr

        config = self.common_config
        rate = create_schedule(config.schedule, peak_lr(config.schedule, config.loader.batch_size))
        steps = range(config.schedule.epochs * steps_per_epoch)
        return [rate(step // steps_per_epoch, step % steps_per_epoch, steps_per_epoch) for step in steps]

    def optimizer(self) -> dict:
        """Name and settings of the optimizer, for the reference."""
        optim = self.common_config.optim
        settings = {"name": optim.opt, "weight_decay": optim.weight_decay}
        return settings | ({"momentum": optim.momentum} if optim.opt == "momentum" else {})

    def steps_of_parts(self, max_bytes: int = 64 << 20) -> int:
        """How many steps are sent to the reference at once, so that their images take at most `max_bytes`."""
        config = self.common_config
        return max(1, max_bytes // (config.loader.batch_size * 3 * config.preprocess.input_size**2 * 4))

    @property
    def num_epochs(self) -> int:
        """Number of epochs."""
        return self.common_config.schedule.epochs

    def one_picture_percent(self) -> float:
        """What one validation image is of the accuracy."""
        return 100 / max(1, len(self.images[1]))

    def seed_of_dropout(self, seed: int, step: int) -> int:
        """Seed of the dropout of the reference from `step` on; the two sides draw other masks."""
        return (seed * 1_000_003 + step) % math.floor(2**31)
