"""Loaders for the tests of datasets: images of 16 x 16 pixels, no worker unless a test asks for one."""

import time

from configs.schema import AugmentConfig, LoaderConfig, PreprocessConfig, TrainLoaderConfig
from datasets.augment.random_erasing import create_random_erasing
from datasets.augment.transforms import RandomResizedCrop, build_train_transform
from datasets.loading.loader import EvalLoader, TrainLoader
from datasets.loading.sampler import EvalSampler, TrainSampler
from datasets.preprocess import Preprocess

SIDE = 16
PREPROCESS = Preprocess(SIDE)
AUGMENT = AugmentConfig(aa="rand-m9-mstd0.5-inc1", reprob=0.0)


def open_train_loader(
    images, sampler: TrainSampler, augment=AUGMENT, *, mixup=None, preprocess=PREPROCESS, **flags
) -> TrainLoader:
    """A loader with random interpolation; `flags` are those of TrainLoaderConfig."""
    transform = build_train_transform(augment, PreprocessConfig(preprocess.input_size, "random"))
    config = TrainLoaderConfig(**({"batch_size": sampler.batch_size, "num_workers": 0} | flags))
    erasing = create_random_erasing(augment)
    return TrainLoader(images, transform, preprocess, sampler, config, erasing=erasing, mixup=mixup)


def open_eval_loader(
    images, batch_size: int, *, preprocess=PREPROCESS, rank: int = 0, world: int = 1, **flags
) -> EvalLoader:
    """A loader of the batches of one rank; `flags` are those of LoaderConfig."""
    config = LoaderConfig(**({"batch_size": batch_size, "num_workers": 0} | flags))
    return EvalLoader(images, preprocess, EvalSampler(len(images), batch_size, rank, world), config)


def as_bytes(batches) -> list[tuple[bytes, bytes, bytes]]:
    """Images, labels and indices of each batch."""
    return [
        (batch.images.numpy().tobytes(), batch.labels.numpy().tobytes(), batch.indices.tobytes()) for batch in batches
    ]


def random_crop(side: int, interpolation: str = "bicubic", fit: str = "crop", **flags) -> RandomResizedCrop:
    """The random crop of the training transform; `flags` are those of AugmentConfig."""
    return build_train_transform(AugmentConfig(**flags), PreprocessConfig(side, interpolation, fit=fit)).crop


def wait_until(condition, seconds: float = 20) -> None:
    """Wait until `condition()` is true, and fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
