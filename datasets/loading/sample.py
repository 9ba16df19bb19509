"""The work of a worker, without Paddle: image files become the rows of a batch."""

import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np

from common.errors import BadImage, DataError

from ..augment.transforms import TrainTransform, sample_rng
from ..preprocess import Preprocess
from ..reading.pixels import open_file, read_pixels


class Task(NamedTuple):
    """One batch to fill: its images by index and path, and the epoch."""

    epoch: int
    indices: np.ndarray  # [B] int64; the second use of an image in an epoch has another, see `balanced_order`
    paths: Sequence[str]


class SampleMaker(Protocol):
    """Makes one row of pixels from one image file; the row depends on the arguments of `make` alone."""

    @property
    def side(self) -> int:
        """Side S of the square in pixels."""
        ...

    def make(self, path: str, epoch: int, index: int) -> np.ndarray:
        """Read the image at `path` and make its row, [S, S, 3] uint8."""
        ...


@dataclass(frozen=True)
class TrainSampleMaker:
    """Decodes an image and applies the random transform."""

    transform: TrainTransform
    exif_orientation: str
    seed: int
    image_backend: str

    @property
    def side(self) -> int:
        """Side of the random crop in pixels."""
        return self.transform.crop.side

    def make(self, path: str, epoch: int, index: int) -> np.ndarray:
        """Draw the choices of sample `index` in `epoch`, and carry them out: [S, S, 3] uint8."""
        image = open_file(path, self.exif_orientation, self.image_backend)
        choice = self.transform.draw(sample_rng(self.seed, epoch, index), image.size)
        return self.transform.apply_to_crop(self.transform.crop.read(image, choice[0]), choice)


@dataclass(frozen=True)
class EvalSampleMaker:
    """Decodes, resizes and crops an image as `Preprocess` says."""

    preprocess: Preprocess

    @property
    def side(self) -> int:
        """Side of the centre crop in pixels."""
        return self.preprocess.input_size

    def make(self, path: str, epoch: int, index: int) -> np.ndarray:
        """The pixels of the image at `path`: [S, S, 3] uint8."""
        return read_pixels(path, self.preprocess)


class Failure(NamedTuple):
    """A row of a batch that could not be filled, and why: BadImage, or DataError for a fault of the code."""

    row: int
    error: DataError


def fill_batch(
    rows: np.ndarray,
    samples: SampleMaker,
    task: Task,
    begin: Callable[[int], None] = lambda row: None,
    given_up: Mapping[int, str] = MappingProxyType({}),
) -> list[Failure]:
    """Fill the first rows of a slot with the images of `task`; the row of a bad image keeps its old content.

    Args:
        rows: memory of one batch, [batch_size, S, S, 3] uint8.
        samples: makes one row from one image file.
        task: the images.
        begin: is called with the number of each row before the row is filled.
        given_up: reasons by row why an image is not read.
    """
    failures = []
    for row, (index, path) in enumerate(zip(task.indices.tolist(), task.paths, strict=True)):
        begin(row)
        if row in given_up:
            failures.append(Failure(row, BadImage(path, given_up[row])))
            continue
        try:
            rows[row] = samples.make(path, task.epoch, index)
        except BadImage as error:
            failures.append(Failure(row, error))
        except Exception:  # a fault of the code; as text, because a traceback cannot be sent between processes
            fault = DataError(f"{path}: no sample could be made of it\n{traceback.format_exc()}")
            return [Failure(row, fault)]
    return failures


# ------------------------------------------------------------------------------------------- batches ahead of their use

SLOTS_PER_WORKER = 2  # one slot is being filled or waits while the batch of the other is used


class FilledBatch(NamedTuple):
    """The pixels of one task. The memory of `rows` is filled again after the next batch is taken: copy it before."""

    task: Task
    rows: np.ndarray  # [B, S, S, 3] uint8
    failures: list[Failure]  # rows that could not be filled


def batches_in_order(
    tasks: Iterable[Task],
    slots: Sequence[np.ndarray],
    start: Callable[[int, Task], None],
    wait: Callable[[int, Task], list[Failure]],
) -> Iterator[FilledBatch]:
    """Keep all slots busy and yield the filled batches in the order of `tasks`.

    Args:
        tasks: one task per batch.
        slots: memory of one batch each, [batch_size, S, S, 3] uint8.
        start: starts filling slot number i for a task, and returns at once.
        wait: waits until slot number i is filled, and returns the failures.
    """
    tasks = iter(tasks)
    started = deque()
    for slot, task in enumerate(islice(tasks, len(slots))):
        start(slot, task)
        started.append((slot, task))
    while started:
        slot, task = started.popleft()
        failures = wait(slot, task)
        yield FilledBatch(task, slots[slot][: len(task.indices)], failures)
        for task in islice(tasks, 1):
            start(slot, task)
            started.append((slot, task))
