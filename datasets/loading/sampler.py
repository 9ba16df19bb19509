"""Samplers: the order of samples is a pure function of seed and epoch, distributed over the ranks without loss."""

from collections.abc import Iterator

import numpy as np

from common.errors import DataError

from ..rng import generator


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of all samples in `epoch`, [num_samples] int64.

    Sorts the raw output of Philox instead of calling `Generator.permutation`, whose result may change with the version
    of numpy.
    """
    return np.argsort(generator("order", seed, epoch).bit_generator.random_raw(num_samples), kind="stable")


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

    Raises:
        DataError: the data set is smaller than one step.
    """

    def __init__(self, num_samples: int, batch_size: int, accum_iter: int, rank: int, world: int, seed: int):
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.accum_iter = accum_iter
        self.rank = rank
        self.world = world
        self.seed = seed
        self.steps_per_epoch = num_samples // (batch_size * accum_iter * world)
        if self.steps_per_epoch == 0:
            raise DataError(
                f"{num_samples} training images do not fill one step of {batch_size * accum_iter * world} "
                f"(batch_size {batch_size} x accum_iter {accum_iter} x {world} processes); "
                "lower --batch_size or --accum_iter"
            )

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[np.ndarray]:
        """Sample indices of each micro-batch, [batch_size] int64, from optimizer step `first_step` of `epoch` on."""
        order = epoch_order(self.num_samples, self.seed, epoch)
        size = self.batch_size * self.world
        for i in range(first_step * self.accum_iter, self.steps_per_epoch * self.accum_iter):
            yield order[i * size : (i + 1) * size][self.rank :: self.world]


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
