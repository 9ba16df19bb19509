"""Loaders: from sample indices to batches on the device, which are normalised, erased and mixed there."""

import contextlib
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import paddle

from common.cpus import ranks_on_this_machine, usable_cpus
from configs.schema import LoaderConfig, TrainLoaderConfig

from ..augment.mixup import Mixup, MixupDraw
from ..augment.random_erasing import NO_ERASING, ErasedBoxes, RandomErasing
from ..augment.transforms import TrainTransform
from ..preprocess import Preprocess
from ..reading.backends import choose_backend
from ..reading.image_list import ImageList
from ..rng import generator
from .bad_images import BadImages
from .sample import EvalSampleMaker, Failure, SampleMaker, Task, TrainSampleMaker
from .sampler import EvalSampler, TrainSampler
from .worker_pool import WorkerPool, open_pool

MAX_WORKERS = 8
NUM_IDLE_BUFFERS = 2  # one batch is prepared while the batch before it is used


class Batch(NamedTuple):
    """The input of a model and its labels."""

    images: paddle.Tensor  # [B, 3, S, S] float32, normalised, on the device
    labels: paddle.Tensor  # [B] int64, or [B, C] float32 if mixed
    indices: np.ndarray  # [B] int64, of the images in the data set
    is_bad: np.ndarray | None = None  # [B] bool, evaluation only: the image could not be read, its pixels are zeros


class HostBatch(NamedTuple):
    """A batch in the memory of this process, before it is normalised."""

    pixels: np.ndarray  # [B, S, S, 3] uint8
    labels: np.ndarray  # [B] int64
    erased: ErasedBoxes
    indices: np.ndarray  # [B] int64
    rows: np.ndarray  # [B] int64, of the whole batch: all of them unless bad images were skipped
    is_bad: np.ndarray | None = None  # [B] bool, as in Batch


class _Loader:
    """What the loaders of training and evaluation have in common: sample indices become batches on the device."""

    def __init__(
        self,
        images: ImageList,
        samples: SampleMaker,
        preprocess: Preprocess,
        sampler: TrainSampler | EvalSampler,
        config: LoaderConfig,
        bad_images: BadImages,
    ):
        self.batch_size = sampler.batch_size
        self.waiting_for: Callable[[], str] = str  # describes the image that the next batch waits for
        self._images = images
        self._samples = samples
        self._preprocess = preprocess
        self._sampler = sampler
        self._bad_images = bad_images
        self._num_workers = choose_num_workers(config.num_workers)
        self._worker_type = config.worker_type
        self._buffers = BufferPool((sampler.batch_size, 3, samples.side, samples.side))
        self._idle_pools: list[WorkerPool] = []  # the workers of a finished epoch serve the next one

    def _load(self, epoch: int, batches: Iterable[np.ndarray]) -> Iterator[tuple[Batch, np.ndarray]]:
        """Yield (batch, its rows of the whole batch) for the sample indices of each batch."""
        host_batches = self._read(epoch, batches)
        return self._on_cpu(host_batches) if is_on_cpu() else self._on_device(host_batches)

    def _read(self, epoch: int, batches: Iterable[np.ndarray]) -> Iterator[HostBatch]:
        # A sample beyond the length of the data set is the second or a later use of an image in the epoch.
        tasks = (Task(epoch, samples, [self._images.path(i) for i in self._images_of(samples)]) for samples in batches)
        pool = self._idle_pools.pop() if self._idle_pools else self._open_pool()
        self.waiting_for = pool.current_image
        try:
            for task, rows, failures in pool.batches(tasks):
                good, is_bad = self._select_rows(task, rows, failures)
                erased = self._draw_erasing(epoch, task.indices[good])
                indices = self._images_of(task.indices[good])
                numbers = np.arange(len(rows))[good]
                yield HostBatch(rows[good], self._images.labels[indices], erased, indices, numbers, is_bad)
        except BaseException:  # also GeneratorExit, when the caller leaves early
            pool.close()
            raise
        finally:
            self.waiting_for = str
        self._idle_pools.append(pool)

    def _images_of(self, samples: np.ndarray) -> np.ndarray:
        """Indices of the images of samples, see `balanced_order`."""
        return samples % len(self._images)

    def _select_rows(self, task: Task, rows: np.ndarray, failures: Sequence[Failure]) -> tuple:
        """The rows of a batch that are used, and which of those are bad (None: none)."""
        return self._bad_images.good_rows(task, failures), None

    def _open_pool(self) -> WorkerPool:
        how = {"replaces_workers": self._bad_images.are_skipped}
        return open_pool(self._samples, self.batch_size, self._num_workers, self._worker_type, **how)

    def _draw_erasing(self, epoch: int, indices: np.ndarray) -> ErasedBoxes:
        return NO_ERASING

    def _on_cpu(self, host_batches: Iterator[HostBatch]) -> Iterator[tuple[Batch, np.ndarray]]:
        """On a CPU numpy normalises eight times as fast as Paddle, to the same bits; the tensor shares its memory."""
        with contextlib.closing(host_batches):
            for batch in host_batches:
                images = self._preprocess.normalize(batch.pixels, out=self._buffers.take(len(batch.pixels)))
                batch.erased.apply(images)
                images = paddle.from_dlpack(images)
                yield Batch(images, paddle.to_tensor(batch.labels), batch.indices, batch.is_bad), batch.rows

    def _on_device(self, host_batches: Iterator[HostBatch]) -> Iterator[tuple[Batch, np.ndarray]]:
        """Paddle's DataLoader, in a thread of this process, copies batches to the device ahead of their use."""
        stream = _ArrayStream(host_batches)
        arrays_on_device = iter(paddle.io.DataLoader(stream, batch_size=None))
        scale, shift = map(paddle.to_tensor, self._preprocess.scale_and_shift())
        try:
            for pixels, labels, noise in arrays_on_device:
                batch = stream.host_batches.popleft()
                images = normalize_on_device(pixels, scale, shift)
                batch.erased._replace(noise=noise).apply(images)
                yield Batch(images, labels, batch.indices, batch.is_bad), batch.rows
        except BaseException:  # also GeneratorExit; the thread waits for ever unless its queue is read to the end
            stream.is_stopped = True
            for _ in arrays_on_device:
                pass
            raise
        if stream.error is not None:
            raise stream.error


class TrainLoader(_Loader):
    """Yields batches of transformed images; the draws of a sample depend on seed, epoch and index alone.

    So the batches are the same bytes with any number of workers, and from any step on. Mixup draws for each micro-batch
    of each rank. `steps_per_epoch`, `batch_size` and `accum_iter` are those of the sampler, and so is the seed of all
    draws.

    Args:
        images: the data set.
        transform: random transform of one image.
        preprocess: normalisation and the treatment of EXIF orientation.
        sampler: order of the samples.
        config: branch `loader` of the config.
        erasing: random erasing; None erases nothing.
        mixup: mixup and cutmix; None mixes nothing.

    Raises:
        DataError: batches of this size cannot be mixed.
        MissingDependencyError: the image backend is not installed.
    """

    def __init__(
        self,
        images: ImageList,
        transform: TrainTransform,
        preprocess: Preprocess,
        sampler: TrainSampler,
        config: TrainLoaderConfig,
        *,
        erasing: RandomErasing | None = None,
        mixup: Mixup | None = None,
    ):
        if mixup:
            mixup.check_batch_size(sampler.batch_size)
        backend = choose_backend(config.image_backend)
        samples = TrainSampleMaker(transform, preprocess.exif_orientation, sampler.seed, backend)
        bad_images = BadImages(images, config.on_bad_image, config.max_bad_images)
        super().__init__(images, samples, preprocess, sampler, config, bad_images)
        self.steps_per_epoch = sampler.steps_per_epoch
        self.accum_iter = sampler.accum_iter
        self._erasing = erasing
        self._mixup = mixup

    def path(self, index: int) -> str:
        """Path of image `index` of the data set."""
        return self._images.path(index)

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the micro-batches of `epoch` from optimizer step `first_step` on; accum_iter of them make a step.

        Raises:
            BadImage: an image cannot be read and is not to be skipped; names path, reason and the line of the list.
            DataError: too many images cannot be read.
            LostWorker: a worker process died.
            MissingDependencyError: --worker_type process, and no process can be started.
        """
        batches = self._load(epoch, self._sampler.batches(epoch, first_step))
        for micro_step, (batch, rows) in enumerate(batches, start=first_step * self.accum_iter):
            yield self._mixed(batch, rows, epoch, micro_step) if self._mixup else batch

    def _draw_erasing(self, epoch: int, indices: np.ndarray) -> ErasedBoxes:
        if self._erasing is None:
            return NO_ERASING
        return self._erasing.draw(self._sampler.seed, self._samples.side, epoch, indices)

    def _mixed(self, batch: Batch, rows: np.ndarray, epoch: int, micro_step: int) -> Batch:
        rng = generator("mix", self._sampler.seed, epoch, micro_step, self._sampler.rank)
        whole = self._mixup.draw(rng, self.batch_size, *batch.images.shape[2:])
        images, labels = self._mixup.apply(batch.images, batch.labels, MixupDraw(*(part[rows] for part in whole)))
        return Batch(images, labels, batch.indices)


class EvalLoader(_Loader):
    """Yields batches of images as `preprocess` defines them, in the order of the list.

    `num_samples` counts the images of all ranks; every rank has at least `num_common_batches` batches. With
    `on_bad_image` "skip" an image that cannot be read stays in its batch as zeros, marked in `Batch.is_bad`: it counts
    as wrong, and batches keep their size.

    Args:
        images: the data set.
        preprocess: how an image file becomes the input of the model.
        sampler: the batches of this rank.
        config: branch `loader` of the config.

    Raises:
        MissingDependencyError: the image backend of `preprocess` is not installed.
    """

    def __init__(self, images: ImageList, preprocess: Preprocess, sampler: EvalSampler, config: LoaderConfig):
        choose_backend(preprocess.image_backend)
        bad_images = BadImages(images, config.on_bad_image, config.max_bad_images, counts_as_wrong=True)
        super().__init__(images, EvalSampleMaker(preprocess), preprocess, sampler, config, bad_images)
        self.num_samples = sampler.num_samples
        self.num_common_batches = sampler.num_common_batches

    def _select_rows(self, task: Task, rows: np.ndarray, failures: Sequence[Failure]) -> tuple:
        if not failures:
            return slice(None), None
        self._bad_images.check(task, failures)
        is_bad = np.zeros(len(rows), bool)
        is_bad[[failure.row for failure in failures]] = True
        rows[is_bad] = 0
        return slice(None), is_bad

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of this rank.

        Raises:
            BadImage: an image cannot be read; names path, reason and the line of the list.
            LostWorker: a worker process died.
            MissingDependencyError: --worker_type process, and no process can be started.
        """
        for batch, _ in self._load(0, self._sampler.batches()):
            yield batch


def choose_num_workers(asked: int | None) -> int:
    """Number of workers of one rank: `asked`, or an equal share of the processors, at most MAX_WORKERS."""
    if asked is not None:
        return asked
    return min(MAX_WORKERS, usable_cpus() // ranks_on_this_machine())


def is_on_cpu() -> bool:
    """Whether batches stay in the memory of this process."""
    return paddle.get_device() == "cpu"


def normalize_on_device(pixels: paddle.Tensor, scale: paddle.Tensor, shift: paddle.Tensor) -> paddle.Tensor:
    """`Preprocess.normalize` in Paddle: [B, S, S, 3] uint8 -> [B, 3, S, S] float32, the same bits on a CPU."""
    return pixels.transpose([0, 3, 1, 2]).astype("float32") * scale + shift


class BufferPool:
    """Arrays of `shape` float32 for batches on a CPU; an array is used again when nothing refers to the batch in it.

    The system clears new memory, which takes as long as filling the batch does.
    """

    def __init__(self, shape: tuple[int, ...]):
        self._shape = shape
        self._idle: deque[np.ndarray] = deque(maxlen=NUM_IDLE_BUFFERS)

    def take(self, count: int) -> np.ndarray:
        """Take the first `count` rows of a free array; their content is undefined.

        The array is free again when the returned view is deleted. A tensor that DLPack makes of the view keeps the view
        alive, and so does every tensor that shares its memory. A numpy view of the view does not.
        """
        array = self._idle.pop() if self._idle else np.empty(self._shape, np.float32)
        view = array[:count]
        weakref.finalize(view, self._idle.append, array).atexit = False
        return view


class _ArrayStream(paddle.io.IterableDataset):
    """The arrays of each batch that Paddle's DataLoader copies to the device: pixels, labels, noise of erasing.

    The other parts of a batch wait in `host_batches`, because the DataLoader keeps the order. An error ends the stream
    and waits in `error`, because the DataLoader would turn it into a SystemError about a blocking queue.
    """

    def __init__(self, batches: Iterator[HostBatch]):
        self.host_batches: deque[HostBatch] = deque()
        self.error: Exception | None = None
        self.is_stopped = False
        self._batches = batches

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        try:
            for batch in self._batches:
                self.host_batches.append(batch)
                yield batch.pixels, batch.labels, batch.erased.noise
                if self.is_stopped:
                    self._batches.close()  # ends the workers; Paddle keeps this object alive
        except Exception as error:
            self.error = error
