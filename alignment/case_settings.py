"""Settings of a case that its stages take: of the training, and the largest errors that pass."""

import math
from dataclasses import dataclass

from common.errors import CaseError

from .typed_yaml import unknown

OPTIMIZERS = ("momentum", "adamw")


def check_shape(key: str, shape: tuple[int, ...]) -> None:
    """Check that a batch of a shape has numbers.

    Raises:
        CaseError: the shape is empty, or one of its lengths is not positive.
    """
    if not shape or min(shape) < 1:
        raise CaseError(f"{key}: expected the lengths of a batch, each at least 1; got {list(shape)}")


@dataclass(frozen=True)
class Training:
    """Settings of the stages backward and train.

    The default numbers are exact in float32, the type in which Paddle keeps momentum and weight decay. So both sides
    compute with the same numbers, and 20 steps in float64 agree to 1e-10. With 0.9 and 1e-4 the two sides would differ
    by 1e-8 before the first step.

    Attributes:
        shape: of one batch of images.
        steps: number of training steps.
        optimizer: momentum or adamw.
        lr: highest learning rate of the cosine schedule.
        momentum: of the optimizer momentum, in both frameworks' convention (share of the old step).
        weight_decay: of the optimizer.
        smoothing: label smoothing of the loss.
        curve_side: height and width in pixels to which the digits of 8 x 8 pixels are scaled for the two loss curves; 0
            leaves the curves out.
        curve_lr: highest learning rate of the loss curves.
    """

    shape: tuple[int, ...] = (8, 3, 64, 64)
    steps: int = 20
    optimizer: str = "momentum"
    lr: float = 2**-6
    momentum: float = 0.875
    weight_decay: float = 2**-13
    smoothing: float = 0.125
    curve_side: int = 32
    curve_lr: float = 0.02

    def __post_init__(self):
        check_shape("train: shape", self.shape)
        if self.optimizer not in OPTIMIZERS:
            raise CaseError(f"train: {unknown('optimizer', self.optimizer, OPTIMIZERS)}")
        if self.steps < 1 or self.curve_side < 0 or self.curve_side % 8:
            raise CaseError(
                "train: steps must be at least 1 and curve_side a multiple of 8; "
                f"got {self.steps} and {self.curve_side}"
            )


@dataclass(frozen=True)
class Tolerances:
    """Largest errors that pass, relative to the largest element of the reference's array (docs/alignment.md).

    Attributes:
        float64: of values in float64.
        rounding: of values, gradients and training steps in float32, as a multiple of the reference's own rounding
            (stages/rounding.py).
        float32: error in float32 that passes whatever the reference's rounding is.
        gradient: of gradients in float64.
        initialisation: largest quotient of the standard deviations of the fresh weights of a tensor; by default any
            distribution passes with a remark (stages/initialisation.py).
        step: of losses, states and weights during training in float64.
        curve: of a loss curve, as a multiple of the distance between two runs of the reference (stages/train.py).
        absolute: error that is subtracted before the division; only `auto_diff` sets it.
        amplification: how much an error of an operation that rounds to float32 may grow on the way to the logits.
    """

    float64: float = 1e-10
    rounding: float = 6.0
    float32: float = 0.0
    initialisation: float = math.inf
    gradient: float = 1e-7
    step: float = 1e-6
    curve: float = 3.0
    absolute: float = 0.0
    amplification: float = 30.0
