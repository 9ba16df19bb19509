"""The order of samples: a pure function of seed and epoch, dealt out to ranks without loss or repetition."""

from collections.abc import Iterator

import numpy as np

from common.errors import DataError

from ..rng import stream


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of all samples in `epoch`, [num_samples] int64.

    Sorts raw Philox output instead of calling `Generator.permutation`, whose result may change with numpy's version.
    """
    return np.argsort(stream("order", seed, epoch).random_raw(num_samples), kind="stable")


class TrainSampler:
    """Micro-batches of one rank.

    Global micro-batch i of an epoch is order[i*B*W : (i+1)*B*W], of which each of the W ranks takes every W-th: the
    samples of a step do not depend on how many ranks share them. What does not fill a whole step of B*accum_iter*W is
    left out of the epoch and never read; the next epoch leaves out others.
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
    """Batches of one rank, in order: every sample is in exactly one batch of one rank, and nothing is padded.

    Whole batches are dealt out, so that the batches are the same however many ranks share them: the last bits of a
    logit depend on the size of its batch and its row. Only the last batch of all may be smaller, and a rank may have
    one batch fewer than another.
    """

    def __init__(self, num_samples: int, batch_size: int, rank: int = 0, world: int = 1):
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.rank = rank
        self.world = world
        self.num_common_batches = -(-num_samples // batch_size) // world  # that every rank has at least

    def batches(self) -> Iterator[np.ndarray]:
        """Sample indices of each batch, [at most batch_size] int64."""
        for start in range(self.rank * self.batch_size, self.num_samples, self.world * self.batch_size):
            yield np.arange(start, min(start + self.batch_size, self.num_samples))
