"""From indices to batches on the device: workers decode and transform, the device normalises, erases and mixes."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import paddle

from common.cpus import usable_cpus
from common.errors import DataError

from ..augment.mixup import Mixup, MixupDraw
from ..augment.random_erasing import NO_ERASING, ErasedBoxes, RandomErasing
from ..augment.transforms import TrainTransform
from ..preprocess import Preprocess
from ..reading.image_list import ImageList
from ..rng import stream
from .bad_images import BadImages
from .buffers import BufferPool
from .sample import EvalSampleMaker, Failure, SampleMaker, Task, TrainSampleMaker, fill_batch
from .sampler import EvalSampler, TrainSampler
from .worker_pool import WorkerPool, open_pool

MAX_WORKERS = 8


class Batch(NamedTuple):
    """What a model is fed."""

    images: paddle.Tensor  # [B, 3, S, S] float32, normalised, on the device
    labels: paddle.Tensor  # [B] int64, or [B, C] float32 if mixed
    indices: np.ndarray  # [B] int64: which images of the list


EMPTY = np.zeros(1)  # Paddle moves no array without elements


class _Made(NamedTuple):
    """A batch before a device has it, or an error. Paddle moves the arrays there, and passes the rest on as it is."""

    error: DataError | None = None
    pixels: np.ndarray = EMPTY  # [B, S, S, 3] uint8
    labels: np.ndarray = EMPTY  # [B] int64
    noise: np.ndarray = EMPTY  # of `Erased`
    places: bytes = b""  # of `Erased`
    indices: bytes = b""  # int64 [B]
    kept: bytes = b""  # int64 [B], the rows that this batch has of the whole one

    def erased(self) -> ErasedBoxes:
        return ErasedBoxes(np.frombuffer(self.places, np.int64), self.noise)

    def batch(self, images: paddle.Tensor, labels: paddle.Tensor) -> tuple[Batch, np.ndarray]:
        """With what the device made of the pixels, and the kept rows."""
        return Batch(images, labels, np.frombuffer(self.indices, np.int64)), np.frombuffer(self.kept, np.int64)


class _Loader:
    def __init__(
        self,
        images: ImageList,
        samples: SampleMaker,
        preprocess: Preprocess,
        batch_size: int,
        num_workers: int,
        worker_type: str,
        bad_images: BadImages,
    ):
        self._images = images
        self._samples = samples
        self._bad_images = bad_images
        self._preprocess = preprocess
        self._batch_size = batch_size
        self._num_workers = num_workers
        self._memory = BufferPool((batch_size, 3, samples.side, samples.side))
        self._start_crew = partial(open_pool, samples, batch_size, num_workers, worker_type)
        self._idle: list[WorkerPool] = []  # those of an epoch that was read to its end wait for the next
        self.waiting_for: Callable[[], str] = str  # which image does not come; for a message

    def _load(self, epoch: int, batches: Iterable[np.ndarray]) -> Iterator[tuple[Batch, np.ndarray]]:
        """Batches, and which rows they have of the whole ones: all, but for images that were skipped."""
        source = self._read(epoch, batches)
        return self._on_cpu(source) if is_on_cpu() else self._on_device(source)

    def _on_cpu(self, source: Iterator[_Made]) -> Iterator[tuple[Batch, np.ndarray]]:
        """On a CPU numpy normalises eight times as fast as Paddle, to the same bits; the tensor is its memory."""
        with contextlib.closing(source):
            for made in source:
                if made.error is not None:
                    raise made.error
                images = self._preprocess.normalize(made.pixels, out=self._memory.take(len(made.pixels)))
                made.erased().apply(images)
                images = paddle.from_dlpack(images)
                yield made.batch(images, paddle.to_tensor(made.labels))

    def _on_device(self, source: Iterator[_Made]) -> Iterator[tuple[Batch, np.ndarray]]:
        """Paddle's DataLoader, in a thread of this process, copies batches to the device ahead of their use."""
        source = _Stream(source)
        on_device = iter(paddle.io.DataLoader(source, batch_size=None, collate_fn=_as_it_is))
        scale, shift = map(paddle.to_tensor, self._preprocess.scale_and_shift())
        try:
            for made in itertools.starmap(_Made, on_device):
                if made.error is not None:
                    raise made.error
                images = normalize_on_device(made.pixels, scale, shift)
                made.erased().apply(images)
                yield made.batch(images, made.labels)
        except BaseException:  # also the caller's leaving early: Paddle's thread would wait for ever to be read
            source.is_stopped = True
            for _ in on_device:
                pass
            raise

    def _read(self, epoch: int, batches: Iterable[np.ndarray]) -> Iterator[_Made]:
        """An error is passed on, not raised: Paddle's thread would make it a SystemError about a blocking queue."""
        tasks = (Task(epoch, indices, [self._images.path(index) for index in indices]) for indices in batches)
        try:
            for task, rows, failures in self._fill(tasks):
                kept = self._bad_images.kept_rows(task, failures)
                indices, numbers = task.indices[kept], np.arange(len(rows))[kept]
                places, noise = self._draw_erased(epoch, indices)
                labels = self._images.labels[indices]
                yield _Made(None, rows[kept], labels, noise, places.tobytes(), indices.tobytes(), numbers.tobytes())
        except DataError as error:
            yield _Made(error)

    def _draw_erased(self, epoch: int, indices: np.ndarray) -> ErasedBoxes:
        return NO_ERASING

    def _fill(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, np.ndarray, list[Failure]]]:
        if self._num_workers == 0:
            rows = np.empty((self._batch_size, self._samples.side, self._samples.side, 3), np.uint8)
            for task in tasks:
                row = [0]
                self.waiting_for = lambda task=task, row=row: task.paths[row[0]]
                yield (
                    task,
                    rows[: len(task.indices)],
                    fill_batch(rows, self._samples, task, partial(row.__setitem__, 0)),
                )
            return
        crew = self._idle.pop() if self._idle else self._start_crew()
        self.waiting_for = crew.awaited_image
        try:
            yield from crew.fill(tasks)
        except BaseException:  # also the caller's leaving early
            crew.close()
            raise
        finally:
            self.waiting_for = str
        self._idle.append(crew)


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
        erasing: RandomErasing | None = None,
        mixer: Mixup | None = None,
        backend: str = "pil",
        worker_type: str = "auto",
        bad_images: BadImages | None = None,
    ):
        if mixer:
            mixer.check_batch_size(sampler.batch_size)
        samples = TrainSampleMaker(transform, preprocess.exif_orientation, seed, backend)
        bad_images = bad_images or BadImages(images)
        super().__init__(images, samples, preprocess, sampler.batch_size, num_workers, worker_type, bad_images)
        self.steps_per_epoch = sampler.steps_per_epoch
        self._sampler = sampler
        self._seed = seed
        self._erasing = erasing
        self._mixer = mixer

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Micro-batches of `epoch` from optimizer step `first_step` on; accum_iter of them make a step.

        Raises BadImage, naming path, reason and the line of the list, for an image that `bad_images` does not skip.
        """
        batches = self._load(epoch, self._sampler.batches(epoch, first_step))
        for micro_step, (batch, kept) in enumerate(batches, start=first_step * self._sampler.accum_iter):
            yield self._mixed(batch, kept, epoch, micro_step) if self._mixer else batch

    def _draw_erased(self, epoch: int, indices: np.ndarray) -> ErasedBoxes:
        return self._erasing.draw(self._seed, self._samples.side, epoch, indices) if self._erasing else NO_ERASING

    def _mixed(self, batch: Batch, kept: np.ndarray, epoch: int, micro_step: int) -> Batch:
        rng = np.random.Generator(stream("mix", self._seed, epoch, micro_step, self._sampler.rank))
        choice = self._mixer.draw(rng, self._sampler.batch_size, *batch.images.shape[2:])
        images, labels = self._mixer.apply(batch.images, batch.labels, MixupDraw(*(part[kept] for part in choice)))
        return Batch(images, labels, batch.indices)


class EvalLoader(_Loader):
    """Batches of images as `preprocess` defines them, in order; `num_samples` counts those of all ranks."""

    def __init__(
        self,
        images: ImageList,
        preprocess: Preprocess,
        sampler: EvalSampler,
        *,
        num_workers: int,
        worker_type: str = "auto",
    ):
        preprocess.check_backend()
        samples, bad_images = EvalSampleMaker(preprocess), BadImages(images)
        super().__init__(images, samples, preprocess, sampler.batch_size, num_workers, worker_type, bad_images)
        self.num_samples = sampler.num_samples
        self._sampler = sampler

    def batches(self) -> Iterator[Batch]:
        """The batches of this rank. Raises BadImage, naming path, reason and the line of the list."""
        for batch, _ in self._load(0, self._sampler.batches()):
            yield batch


def choose_num_workers(asked: int | None, ranks_on_this_machine: int) -> int:
    """For each rank: what was asked for, or the processors this process may use, shared out, at most MAX_WORKERS."""
    if asked is not None:
        return asked
    return min(MAX_WORKERS, usable_cpus() // ranks_on_this_machine)


def is_on_cpu() -> bool:
    """Whether batches stay in the memory of this process."""
    return paddle.get_device() == "cpu"


def normalize_on_device(pixels: paddle.Tensor, scale: paddle.Tensor, shift: paddle.Tensor) -> paddle.Tensor:
    """`Preprocess.normalize` in Paddle: [B, S, S, 3] uint8 -> [B, 3, S, S] float32, the same bits on a CPU."""
    return pixels.transpose([0, 3, 1, 2]).astype("float32") * scale + shift


class _Stream(paddle.io.IterableDataset):
    """Batches as Paddle takes them; ends early when told so."""

    def __init__(self, batches: Iterator[tuple]):
        self.is_stopped = False
        self._batches = batches

    def __iter__(self) -> Iterator[tuple]:
        for batch in self._batches:
            yield batch
            if self.is_stopped:
                self._batches.close()  # lets go of the workers; Paddle keeps this object


def _as_it_is(batch: tuple) -> tuple:
    return batch
