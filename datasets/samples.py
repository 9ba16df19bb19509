"""What a worker does: image files to the rows of a batch, in numpy and Pillow alone."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from .decode import read_image
from .errors import BadImage, DataError
from .preprocess import Preprocess
from .transforms import TrainTransform, sample_rng


class Task(NamedTuple):
    """A batch to make: which images, by index and path, of which epoch."""

    epoch: int
    indices: np.ndarray
    paths: Sequence[str]


class Samples(Protocol):
    """How an image file becomes a row; the row depends on nothing but the arguments of `make`."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> type: ...

    def make(self, path: str, epoch: int, index: int) -> np.ndarray: ...


@dataclass(frozen=True)
class TrainSamples:
    """Decoded and randomly transformed."""

    transform: TrainTransform
    exif_orientation: str
    seed: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.transform.shape

    @property
    def dtype(self) -> type:
        return self.transform.dtype

    def make(self, path: str, epoch: int, index: int) -> np.ndarray:
        image = read_image(path, self.exif_orientation)
        return self.transform.apply(image, self.transform.draw(sample_rng(self.seed, epoch, index), image.size))


@dataclass(frozen=True)
class EvalSamples:
    """Decoded, resized and cropped: the pixels of `Preprocess`."""

    preprocess: Preprocess
    dtype = np.uint8

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.preprocess.input_size, self.preprocess.input_size, 3)

    def make(self, path: str, epoch: int, index: int) -> np.ndarray:
        return self.preprocess.pixels(read_image(path, self.preprocess.exif_orientation))


class Failure(NamedTuple):
    """Which row of a batch could not be made, and why."""

    row: int
    error: DataError


def fill(
    rows: np.ndarray, samples: Samples, task: Task, begin: Callable[[int], None] = lambda row: None
) -> Failure | None:
    """Make the images of `task` in the first of `rows`; stops at the first that fails. `begin` hears of each before."""
    for row, (index, path) in enumerate(zip(task.indices.tolist(), task.paths, strict=True)):
        begin(row)
        try:
            rows[row] = samples.make(path, task.epoch, index)
        except BadImage as error:
            return Failure(row, error)
        except Exception:  # a mistake in an operation; its traceback would not survive the way between processes
            return Failure(row, DataError(f"{path}: no sample could be made of it\n{traceback.format_exc()}"))
    return None
