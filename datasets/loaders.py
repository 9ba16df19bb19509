"""From indices to batches on the device: worker processes decode and transform, the device normalises and mixes."""

import os
import shutil
import traceback
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import paddle

from .chance import stream
from .decode import read_image
from .errors import BadImage, DataError
from .image_list import ImageList
from .mix import Mixer
from .preprocess import Preprocess
from .sampler import EvalSampler, TrainSampler
from .transforms import TrainTransform, sample_rng

MAX_WORKERS = 8
PREFETCHED = 2  # batches ready for each worker: hides a slow image, costs memory


class Batch(NamedTuple):
    """What a model is fed."""

    images: paddle.Tensor  # [B, 3, S, S] float32, normalised, on the device
    labels: paddle.Tensor  # [B] int64, or [B, C] float32 if mixed
    indices: np.ndarray  # [B] int64: which images of the list


class _Loader:
    def __init__(self, samples: "_Samples", preprocess: Preprocess, batch_size: int, num_workers: int):
        self._samples = samples
        self._preprocess = preprocess
        self._num_workers = num_workers
        self._shared_memory = _fits_shared_memory(batch_size, preprocess.input_size, num_workers)

    def _load(self, epoch: int, batches: Iterable[np.ndarray]) -> Iterator[Batch]:
        loader = paddle.io.DataLoader(
            self._samples,
            batch_sampler=([(epoch, index) for index in indices.tolist()] for indices in batches),
            collate_fn=_collate,
            num_workers=self._num_workers,
            prefetch_factor=PREFETCHED,
            use_shared_memory=self._shared_memory,
        )
        scale, shift = map(paddle.to_tensor, self._preprocess.scale_and_shift())
        for error, pixels, labels, indices in loader:
            if error is not None:
                raise error
            images = normalize_on_device(pixels, scale, shift) if pixels.dtype == paddle.uint8 else pixels
            yield Batch(images, labels, np.frombuffer(indices, dtype=np.int64))


class TrainLoader(_Loader):
    """Batches of transformed images; the draws of a sample depend on seed, epoch and index alone.

    So the batches are the same bytes with any number of workers, from any step on. `mixer` draws for each micro-batch
    of each rank.
    """

    def __init__(
        self,
        images: ImageList,
        transform: TrainTransform,
        preprocess: Preprocess,
        sampler: TrainSampler,
        *,
        num_workers: int,
        seed: int,
        mixer: Mixer | None = None,
    ):
        if mixer:
            mixer.check_batch_size(sampler.batch_size)
        samples = _TrainSamples(images, transform, preprocess.exif_orientation, seed)
        super().__init__(samples, preprocess, sampler.batch_size, num_workers)
        self.steps_per_epoch = sampler.steps_per_epoch
        self._sampler = sampler
        self._seed = seed
        self._mixer = mixer

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Micro-batches of `epoch` from optimizer step `first_step` on; accum_iter of them make a step.

        Raises BadImage, naming path, reason and the line of the list, for an image that cannot be read.
        """
        batches = self._load(epoch, self._sampler.batches(epoch, first_step))
        for micro_step, batch in enumerate(batches, start=first_step * self._sampler.accum_iter):
            yield self._mixed(batch, epoch, micro_step) if self._mixer else batch

    def _mixed(self, batch: Batch, epoch: int, micro_step: int) -> Batch:
        rng = np.random.Generator(stream("mix", self._seed, epoch, micro_step, self._sampler.rank))
        size, _, height, width = batch.images.shape
        images, labels = self._mixer.apply(batch.images, batch.labels, self._mixer.draw(rng, size, height, width))
        return Batch(images, labels, batch.indices)


class EvalLoader(_Loader):
    """Batches of images as `preprocess` defines them, in order; `num_samples` counts those of all ranks."""

    def __init__(self, images: ImageList, preprocess: Preprocess, sampler: EvalSampler, *, num_workers: int):
        super().__init__(_EvalSamples(images, preprocess), preprocess, sampler.batch_size, num_workers)
        self.num_samples = sampler.num_samples
        self._sampler = sampler

    def batches(self) -> Iterator[Batch]:
        """The batches of this rank. Raises BadImage, naming path, reason and the line of the list."""
        return self._load(0, self._sampler.batches())


def default_num_workers(ranks_on_this_machine: int = 1) -> int:
    """Worker processes for each rank: the processors this process may use, shared out, at most MAX_WORKERS."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_WORKERS, usable // ranks_on_this_machine)


def normalize_on_device(pixels: paddle.Tensor, scale: paddle.Tensor, shift: paddle.Tensor) -> paddle.Tensor:
    """`Preprocess.normalize` in Paddle: [B, S, S, 3] uint8 -> [B, 3, S, S] float32, the same bits on a CPU."""
    return pixels.transpose([0, 3, 1, 2]).astype("float32") * scale + shift


# ---------------------------------------------------------------------------------------------------- in the workers


class _Samples(paddle.io.Dataset):
    """Samples by (epoch, index), so that a worker needs no state.

    What goes wrong is returned, not raised: Paddle would turn it into a SystemError about a blocking queue.
    """

    def __init__(self, images: ImageList):
        self.images = images

    def make(self, epoch: int, index: int) -> np.ndarray:
        raise NotImplementedError

    def __getitem__(self, key: tuple[int, int]):
        epoch, index = key
        path = self.images.path(index)
        try:
            return self.make(epoch, index), self.images.label(index), index
        except BadImage as error:
            return BadImage(path, f"{error.reason} (named by {self.images.place(index)})")
        except Exception:  # a mistake in an operation; its traceback would not survive the way between processes
            return DataError(f"{path}: no sample could be made of it\n{traceback.format_exc()}")


class _TrainSamples(_Samples):
    def __init__(self, images: ImageList, transform: TrainTransform, exif_orientation: str, seed: int):
        super().__init__(images)
        self.transform = transform
        self.exif_orientation = exif_orientation
        self.seed = seed

    def make(self, epoch: int, index: int) -> np.ndarray:
        image = read_image(self.images.path(index), self.exif_orientation)
        return self.transform.apply(image, self.transform.draw(sample_rng(self.seed, epoch, index), image.size))


class _EvalSamples(_Samples):
    def __init__(self, images: ImageList, preprocess: Preprocess):
        super().__init__(images)
        self.preprocess = preprocess

    def make(self, epoch: int, index: int) -> np.ndarray:
        return self.preprocess.pixels(read_image(self.images.path(index), self.preprocess.exif_orientation))


def _collate(samples: list):
    """(error or None, pixels, labels, indices as bytes): Paddle moves arrays to the device and leaves the rest."""
    for sample in samples:
        if isinstance(sample, DataError):
            nothing = np.zeros(1, dtype=np.int64)
            return sample, nothing, nothing, b""
    pixels, labels, indices = zip(*samples, strict=True)
    return None, np.stack(pixels), np.array(labels, dtype=np.int64), np.array(indices, dtype=np.int64).tobytes()


# ---------------------------------------------------------------------------------------------------- in this process


def _fits_shared_memory(batch_size: int, side: int, num_workers: int) -> bool:
    """Containers often have 64 MB of it, and a worker that writes beyond dies of a bus error; pipes are slower."""
    needed = num_workers * (PREFETCHED + 1) * batch_size * 3 * side * side * 4
    return os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > needed
