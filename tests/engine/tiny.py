"""A network small enough to train in milliseconds, and random batches for it."""

from typing import NamedTuple

import numpy as np
import paddle
from paddle import nn

NUM_CLASSES = 7
SIDE = 8


class Batch(NamedTuple):
    images: paddle.Tensor
    labels: paddle.Tensor
    indices: np.ndarray
    is_bad: np.ndarray | None = None


def tiny_net(seed: int = 0, dropout: float = 0.3) -> nn.Layer:
    """Create a network of convolution, batch norm, dropout and linear layer."""
    paddle.seed(seed)
    return nn.Sequential(
        nn.Conv2D(3, 4, 3, stride=2),
        nn.BatchNorm2D(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(36, NUM_CLASSES),
    )


def images_and_labels(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num, 3, SIDE, SIDE), np.float32), rng.integers(0, NUM_CLASSES, num)


def batches(num_samples: int, batch_size: int, *, first: int = 0, indices: np.ndarray | None = None) -> list[Batch]:
    """Batches in order, from batch number `first` on; the last may be smaller."""
    images, labels = images_and_labels(num_samples)
    indices = np.arange(num_samples) if indices is None else indices
    parts = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    return [Batch(paddle.to_tensor(images[part]), paddle.to_tensor(labels[part]), part) for part in parts[first:]]


class FakeTrainLoader:
    """TrainLoader that yields micro-batches of random images in order; `path(index)` is "val/<index>.jpg"."""

    def __init__(self, steps_per_epoch: int, batch_size: int, accum_iter: int = 1):
        self.steps_per_epoch, self._batch_size, self._accum_iter = steps_per_epoch, batch_size, accum_iter

    def batches(self, epoch: int, first_step: int = 0) -> list[Batch]:
        num_images = self.steps_per_epoch * self._accum_iter * self._batch_size
        return batches(num_images, self._batch_size, first=first_step * self._accum_iter)

    def path(self, index: int) -> str:
        return f"val/{index}.jpg"

    def waiting_for(self) -> str:
        return ""


class FakeEvalLoader:
    """EvalLoader that yields the given batches."""

    def __init__(self, batches: list[Batch], num_samples: int, batch_size: int):
        self._batches, self.num_samples, self.batch_size = batches, num_samples, batch_size
        self.num_common_batches = 0

    def batches(self) -> list[Batch]:
        return self._batches

    def waiting_for(self) -> str:
        return ""


def eval_loader(num_samples: int, batch_size: int, **changes) -> FakeEvalLoader:
    """Create a loader of all images of an evaluation on one rank."""
    return FakeEvalLoader(batches(num_samples, batch_size, **changes), num_samples, batch_size)


def arrays_of(model: nn.Layer) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    """Whether two sets of arrays are equal bit for bit."""
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)
