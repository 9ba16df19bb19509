"""The learning rate as a pure function of (epoch, step, steps_per_epoch): nothing of it needs to survive a restart."""

import math
from collections.abc import Callable

LearningRate = Callable[[int, int, int], float]


def warmup_cosine(
    lr: float,
    epochs: int,
    *,
    warmup_epochs: float = 0,
    warmup_lr: float = 0.0,
    min_lr: float = 0.0,
    t_in_epochs: bool = False,
) -> LearningRate:
    """Linear from `warmup_lr` to `lr` over the warm-up, then half a cosine down to `min_lr`, new at every step.

    `t_in_epochs` holds the value of an epoch's first step for the whole epoch. A step is one update of the weights,
    however many micro-batches it accumulates.
    """

    def learning_rate(epoch: int, step: int, steps_per_epoch: int) -> float:
        t = epoch if t_in_epochs else epoch + step / steps_per_epoch
        if t >= epochs:
            return min_lr
        if t < warmup_epochs:
            return warmup_lr + (lr - warmup_lr) * t / warmup_epochs
        progress = (t - warmup_epochs) / (epochs - warmup_epochs)
        return min_lr + (lr - min_lr) * 0.5 * (1 + math.cos(math.pi * progress))

    return learning_rate


def step_decay(
    lr: float,
    *,
    step_size: int = 30,
    gamma: float = 0.1,
    warmup_epochs: float = 0,
    warmup_lr: float = 0.0,
    t_in_epochs: bool = False,
) -> LearningRate:
    """`lr` times `gamma` for every `step_size` epochs that have passed, after a linear warm-up."""

    def learning_rate(epoch: int, step: int, steps_per_epoch: int) -> float:
        t = epoch if t_in_epochs else epoch + step / steps_per_epoch
        if t < warmup_epochs:
            return warmup_lr + (lr - warmup_lr) * t / warmup_epochs
        return lr * gamma ** (epoch // step_size)

    return learning_rate


def create_schedule(
    name: str,
    lr: float,
    *,
    epochs: int,
    warmup_epochs: float,
    warmup_lr: float,
    min_lr: float,
    t_in_epochs: bool,
    decay_epochs: int,
    decay_rate: float,
) -> LearningRate:
    """The schedule called "cosine" or "step"; each takes what concerns it."""
    warmup = {"warmup_epochs": warmup_epochs, "warmup_lr": warmup_lr, "t_in_epochs": t_in_epochs}
    schedules = {
        "cosine": lambda: warmup_cosine(lr, epochs, min_lr=min_lr, **warmup),
        "step": lambda: step_decay(lr, step_size=decay_epochs, gamma=decay_rate, **warmup),
    }
    return schedules[name]()
