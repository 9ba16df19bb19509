"""Samplers: the order of samples is a pure function of seed and epoch, distributed over the ranks without loss."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from common.errors import DataError
from configs.schema import TrainLoaderConfig

from ..rng import generator


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of all samples in `epoch`, [num_samples] int64.

    Sorts the raw output of Philox instead of calling `Generator.permutation`, whose result may change with the version
    of numpy.
    """
    return np.argsort(generator("order", seed, epoch).bit_generator.random_raw(num_samples), kind="stable")


def balanced_order(labels: np.ndarray, num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """The samples of `epoch` with every class equally often, [num_samples] int64; a pure function of its arguments.

    A class goes through its images in one random order after another and continues in the next epoch where it stopped:
    so all images of a class are used equally often, and those of a rare class several times in one epoch. Sample s is
    the image s % num_samples; s // num_samples counts its earlier uses in the epoch, so that each use draws other
    random changes. Classes share the epoch equally; the rest of that division goes to other classes in each epoch.

    Args:
        labels: class of each image, [num_samples] int64; classes without images take no part.
        num_samples: length of the data set, and of an epoch.
        seed: seed of the run.
        epoch: number of the epoch.
    """
    classes, starts = np.unique(np.sort(labels), return_index=True)
    images_by_class = np.split(np.argsort(labels, kind="stable"), starts[1:])
    share, rest = divmod(num_samples, len(classes))
    drawn = []
    for position, (label, images) in enumerate(zip(classes.tolist(), images_by_class, strict=True)):
        # Of the (epoch * rest) additional samples before this epoch, every len(classes)-th was one of this class.
        before, after = (-(-(e * rest - position) // len(classes)) for e in (epoch, epoch + 1))
        drawn.append(_cycle(images, epoch * share + before, (epoch + 1) * share + after, seed, label))
    order = np.concatenate(drawn)[epoch_order(num_samples, seed, epoch)]
    return order + num_samples * _earlier_uses(order)


def _cycle(images: np.ndarray, start: int, stop: int, seed: int, label: int) -> np.ndarray:
    """Elements `start` to `stop` of the endless sequence of random orders of the images of one class."""
    rounds = range(start // len(images), -(-stop // len(images)))
    keys = [generator("balance", seed, label, turn).bit_generator.random_raw(len(images)) for turn in rounds]
    sequence = np.concatenate([images[np.argsort(key, kind="stable")] for key in keys] or [images[:0]])
    first = rounds.start * len(images)
    return sequence[start - first : stop - first]


def _earlier_uses(order: np.ndarray) -> np.ndarray:
    """For each element, how many elements before it are equal to it."""
    by_value = np.argsort(order, kind="stable")
    starts = np.flatnonzero(np.diff(order[by_value], prepend=-1))
    uses = np.empty_like(order)
    uses[by_value] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return uses


class TrainSampler:
    """Yields the micro-batches of one rank, as sample indices.

    Global micro-batch i of an epoch is order[i*B*W : (i+1)*B*W], of which each of the W ranks takes every W-th sample:
    so the samples of a step do not depend on the number of ranks. Samples that do not fill a whole step of
    B*accum_iter*W are left out of the epoch and never read; each epoch leaves out others.

    Args:
        num_samples: length of the data set.
        batch_size: samples of one micro-batch of one rank (B).
        accum_iter: micro-batches of one optimizer step.
        rank: number of this process.
        world: number of processes (W).
        seed: seed of the order.
        order: the samples of an epoch, of (num_samples, seed, epoch); `epoch_order`, or `balanced_order` of labels.

    Raises:
        DataError: the data set is smaller than one step.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        accum_iter: int,
        rank: int,
        world: int,
        seed: int,
        order: Callable[[int, int, int], np.ndarray] = epoch_order,
    ):
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.accum_iter = accum_iter
        self.rank = rank
        self.world = world
        self.seed = seed
        self._order = order
        self.steps_per_epoch = num_samples // (batch_size * accum_iter * world)
        if self.steps_per_epoch == 0:
            raise DataError(
                f"{num_samples} training images do not fill one step of {batch_size * accum_iter * world} "
                f"(batch_size {batch_size} x accum_iter {accum_iter} x {world} processes); "
                "lower --batch_size or --accum_iter"
            )

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[np.ndarray]:
        """Sample indices of each micro-batch, [batch_size] int64, from optimizer step `first_step` of `epoch` on."""
        order = self._order(self.num_samples, self.seed, epoch)
        size = self.batch_size * self.world
        for i in range(first_step * self.accum_iter, self.steps_per_epoch * self.accum_iter):
            yield order[i * size : (i + 1) * size][self.rank :: self.world]


def create_train_sampler(
    labels: np.ndarray, config: TrainLoaderConfig, accum_iter: int, ranks: tuple[int, int], seed: int
) -> TrainSampler:
    """Create the sampler of a training: every image once in an epoch, or with --balanced_sampling every class equally.

    Args:
        labels: class of each image.
        config: branch `loader` of the config.
        accum_iter: micro-batches of one optimizer step.
        ranks: number of this process, and number of all processes.
        seed: seed of the run.

    Raises:
        DataError: the data set is smaller than one step.
    """
    order = partial(balanced_order, labels) if config.balanced_sampling else epoch_order
    return TrainSampler(len(labels), config.batch_size, accum_iter, *ranks, seed=seed, order=order)


class EvalSampler:
    """Yields the batches of one rank in the order of the list: every sample is in exactly one batch of one rank.

    Nothing is padded. Whole batches are distributed, so that the batches are the same for any number of ranks: the last
    bits of a logit depend on the size of the batch and on the row. Only the last batch of all may be smaller, and a
    rank may have one batch fewer than another rank.

    Args:
        num_samples: length of the data set.
        batch_size: samples of one batch.
        rank: number of this process.
        world: number of processes.
    """

    def __init__(self, num_samples: int, batch_size: int, rank: int = 0, world: int = 1):
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.rank = rank
        self.world = world
        self.num_common_batches = -(-num_samples // batch_size) // world  # every rank has at least this number

    def batches(self) -> Iterator[np.ndarray]:
        """Sample indices of each batch, [at most batch_size] int64."""
        for start in range(self.rank * self.batch_size, self.num_samples, self.world * self.batch_size):
            yield np.arange(start, min(start + self.batch_size, self.num_samples))
