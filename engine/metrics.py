"""What a model made of each image, and the scores that follow: everything is kept by sample, and divided at the end."""

import math
from typing import NamedTuple

import numpy as np
import paddle

from .losses import losses_by_sample


class SampleScores(NamedTuple):
    """One entry for each evaluated image, sorted by index."""

    indices: np.ndarray  # int64 [N], the image's place in the list
    positions: np.ndarray  # int64 [N], 0 if the label has the largest logit, 1 if the second largest, ...
    losses: np.ndarray  # float32 [N]


class Scores(NamedTuple):
    """The result of an evaluation."""

    num_samples: int
    loss: float
    top1_percent: float
    top5_percent: float


def per_sample(logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    """[B, C] and int64 [B] -> float32 [2, B] on the device: position of the label, loss.

    Of equal logits the first class wins, as in argmax: a model that says the same of every class is right by luck only.
    float32 holds positions exactly up to 2^24.
    """
    logits = logits.astype("float32")
    label = labels.reshape([-1, 1])
    own = paddle.take_along_axis(logits, label, axis=1)
    before = paddle.arange(logits.shape[1]).unsqueeze(0) < label
    position = ((logits > own) | ((logits == own) & before)).astype("float32").sum(axis=1)
    return paddle.stack([position, losses_by_sample(logits, labels)])


def score(samples: SampleScores) -> Scores:
    """Exact whatever the order of the images was, and however many ranks shared them."""
    num = len(samples.indices)
    return Scores(
        num_samples=num,
        loss=math.fsum(samples.losses) / num,  # rounded once, so the order of addition cannot show
        top1_percent=100 * int((samples.positions < 1).sum()) / num,
        top5_percent=100 * int((samples.positions < 5).sum()) / num,
    )
