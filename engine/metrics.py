"""Loss and position of the label for each image, and the scores of an evaluation as exact counts over all images."""

import math
from typing import NamedTuple

import numpy as np
import paddle

from .losses import losses_by_sample


class SampleScores(NamedTuple):
    """Results by image, sorted by index."""

    indices: np.ndarray  # int64 [N], places of the images in their list
    positions: np.ndarray  # int64 [N], 0 if the label has the largest logit, 1 if the second largest, ...
    losses: np.ndarray  # float32 [N]
    logits: np.ndarray | None = None  # float32 [N, C], on rank 0 and only where they were asked for


UNREADABLE = 2**24 - 1
"""Position of an image that could not be read: wrong for every k. Its loss is left out of the mean."""


class Scores(NamedTuple):
    """Result of an evaluation; the loss is the mean over all images that could be read."""

    num_samples: int
    loss: float
    top1_percent: float
    top5_percent: float
    num_unreadable: int = 0


def per_sample(logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    """Compute position of the label and loss: logits [B, C], labels int64 [B] -> float32 [2, B] on the device.

    Among equal logits the first class comes first, as in argmax: a model with equal logits for all classes gets only
    the score of chance. float32 holds positions exactly up to 2^24.
    """
    logits = logits.astype("float32")
    label = labels.reshape([-1, 1])
    own = paddle.take_along_axis(logits, label, axis=1)
    before = paddle.arange(logits.shape[1]).unsqueeze(0) < label
    position = ((logits > own) | ((logits == own) & before)).astype("float32").sum(axis=1)
    return paddle.stack([position, losses_by_sample(logits, labels)])


def score(samples: SampleScores) -> Scores:
    """Compute the scores of an evaluation; neither the order of the images nor the number of ranks changes them."""
    num, is_readable = len(samples.indices), samples.positions != UNREADABLE
    losses = samples.losses[is_readable]
    return Scores(
        num_samples=num,
        loss=math.fsum(losses) / max(1, len(losses)),  # rounded once, so the order of addition changes nothing
        top1_percent=100 * int((samples.positions < 1).sum()) / num,
        top5_percent=100 * int((samples.positions < 5).sum()) / num,
        num_unreadable=int((~is_readable).sum()),
    )
