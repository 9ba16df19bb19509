"""Learning rate as a pure function of (epoch, step, steps_per_epoch), so a checkpoint needs no state of a schedule."""

import math
from collections.abc import Callable

from configs.schema import ScheduleConfig

LearningRate = Callable[[int, int, int], float]


def peak_lr(config: ScheduleConfig, effective_batch: int) -> float:
    """Compute the highest learning rate: --lr, or --blr scaled from 512 images per step to `effective_batch`."""
    return config.blr * effective_batch / 512 if config.lr is None else config.lr


def warmup_cosine(lr: float, config: ScheduleConfig) -> LearningRate:
    """Create a schedule: linear from `warmup_lr` to `lr` in the warm-up, then half a cosine to `min_lr`, at every step.

    Source: Loshchilov and Hutter, SGDR, 2017. With `t_in_epochs` the value of the first step of an epoch holds for the
    whole epoch. A step is one update of the weights, whatever number of micro-batches it accumulates.
    """

    def learning_rate(epoch: int, step: int, steps_per_epoch: int) -> float:
        t = epoch if config.t_in_epochs else epoch + step / steps_per_epoch
        if t >= config.epochs:
            return config.min_lr
        if t < config.warmup_epochs:
            return config.warmup_lr + (lr - config.warmup_lr) * t / config.warmup_epochs
        progress = (t - config.warmup_epochs) / (config.epochs - config.warmup_epochs)
        return config.min_lr + (lr - config.min_lr) * 0.5 * (1 + math.cos(math.pi * progress))

    return learning_rate


def step_decay(lr: float, config: ScheduleConfig) -> LearningRate:
    """Create a schedule: after a linear warm-up, `lr` times `decay_rate` once per `decay_epochs` epochs."""

    def learning_rate(epoch: int, step: int, steps_per_epoch: int) -> float:
        t = epoch if config.t_in_epochs else epoch + step / steps_per_epoch
        if t < config.warmup_epochs:
            return config.warmup_lr + (lr - config.warmup_lr) * t / config.warmup_epochs
        return lr * config.decay_rate ** (epoch // config.decay_epochs)

    return learning_rate


SCHEDULES: dict[str, Callable[[float, ScheduleConfig], LearningRate]] = {"cosine": warmup_cosine, "step": step_decay}


def create_schedule(config: ScheduleConfig, lr: float) -> LearningRate:
    """Create the schedule that `config.sched` names, with the peak learning rate `lr`."""
    return SCHEDULES[config.sched](lr, config)
