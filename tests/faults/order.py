"""R3: images of each step and their order, on any number of workers and processes."""

import random

import numpy as np

from configs.schema import AugmentConfig, PreprocessConfig, TrainLoaderConfig
from datasets.augment.random_erasing import create_random_erasing
from datasets.augment.transforms import build_train_transform
from datasets.loading.sampler import TrainSampler
from datasets.preprocess import Preprocess
from datasets.reading.image_list import read_image_list

from .job import data_folder

GLOBAL_BATCH = 8


def steps_of(num: int, seed: int, world: int, accum: int, epoch: int, first_step: int) -> list[list[int]]:
    """Collect the images of each step in their global order from the micro-batches of all ranks.

    Args:
        num: number of training images.
        seed: seed of the run.
        world: number of ranks.
        accum: micro-batches per step.
        epoch: number of the epoch.
        first_step: step from which the epoch is continued.
    """
    samplers = [TrainSampler(num, GLOBAL_BATCH // world // accum, accum, r, world, seed) for r in range(world)]
    ranks = [list(sampler.batches(epoch, first_step)) for sampler in samplers]
    micro = [np.stack(parts, axis=1).reshape(-1) for parts in zip(*ranks, strict=True)]
    return [np.concatenate(micro[i : i + accum]).tolist() for i in range(0, len(micro), accum)]


def r3(cases: int, seed: int) -> dict:
    """Resume at random places with another number of processes, 4, 2 and 4; compare the bytes of 0, 1 and 2 workers."""
    rng, broken, num = random.Random(seed), 0, 1003
    for _ in range(cases):
        epoch = rng.randrange(100)
        whole = steps_of(num, seed, 1, 1, epoch, 0)
        first, second = sorted(rng.sample(range(1, len(whole)), 2))
        parts = [
            *steps_of(num, seed, 4, 1, epoch, 0)[:first],
            *steps_of(num, seed, 2, 2, epoch, first)[: second - first],
            *steps_of(num, seed, 4, 1, epoch, second),
        ]
        indices = [index for step in parts for index in step]
        broken += parts != whole or len(set(indices)) != len(whole) * GLOBAL_BATCH
    differing = sum(bytes_with(workers, seed) != bytes_with(0, seed) for workers in (1, 2))
    return {"cases": cases, "broken": broken + differing, "num_workers": [0, 1, 2], "processes": [1, 2, 4]}


def bytes_with(num_workers: int, seed: int) -> list[bytes]:
    """Read an epoch; returns the bytes of indices and pixels of each batch."""
    from datasets.loading.loader import TrainLoader

    folder, preprocess = data_folder(), Preprocess(input_size=32)
    images = read_image_list(folder / "train.txt", folder)
    augment = AugmentConfig(aa="rand-m9-mstd0.5-inc1", reprob=0.25)
    loader = TrainLoader(
        images,
        build_train_transform(augment, PreprocessConfig(input_size=32)),
        preprocess,
        TrainSampler(len(images), 8, 1, 0, 1, seed),
        TrainLoaderConfig(batch_size=8, num_workers=num_workers),
        erasing=create_random_erasing(augment),
    )
    return [part for batch in loader.batches(3) for part in (batch.indices.tobytes(), batch.images.numpy().tobytes())]
