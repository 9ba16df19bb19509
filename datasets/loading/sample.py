"""What a worker does: image files to the rows of a batch, without Paddle."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from common.errors import BadImage, DataError

from ..augment.transforms import TrainTransform, sample_rng
from ..preprocess import Preprocess
from ..reading.backends import open_image
from ..reading.decode import read_bytes


class Task(NamedTuple):
    """A batch to make: which images, by index and path, of which epoch."""

    epoch: int
    indices: np.ndarray
    paths: Sequence[str]


class SampleMaker(Protocol):
    """How an image file becomes a row, [S, S, 3] uint8, which depends on nothing but the arguments of `make`."""

    @property
    def side(self) -> int: ...

    def make(self, path: str, epoch: int, index: int) -> np.ndarray: ...


@dataclass(frozen=True)
class TrainSampleMaker:
    """Decoded and randomly transformed."""

    transform: TrainTransform
    exif_orientation: str
    seed: int
    backend: str = "pil"

    @property
    def side(self) -> int:
        return self.transform.crop.side

    def make(self, path: str, epoch: int, index: int) -> np.ndarray:
        picture = open_image(read_bytes(path), path, self.exif_orientation, self.backend)
        choice = self.transform.draw(sample_rng(self.seed, epoch, index), picture.size)
        return self.transform.apply_to_crop(picture.cut(choice[0], self.side), choice)


@dataclass(frozen=True)
class EvalSampleMaker:
    """Decoded, resized and cropped: the pixels of `Preprocess`."""

    preprocess: Preprocess

    @property
    def side(self) -> int:
        return self.preprocess.input_size

    def make(self, path: str, epoch: int, index: int) -> np.ndarray:
        return self.preprocess.read(path)


class Failure(NamedTuple):
    """Which row of a batch could not be made, and why: BadImage, or a mistake of ours."""

    row: int
    error: DataError


def fill_batch(
    rows: np.ndarray, samples: SampleMaker, task: Task, begin: Callable[[int], None] = lambda row: None
) -> list[Failure]:
    """Make the images of `task` in the first of `rows`; `begin` hears of each before. Bad images leave their row."""
    failures = []
    for row, (index, path) in enumerate(zip(task.indices.tolist(), task.paths, strict=True)):
        begin(row)
        try:
            rows[row] = samples.make(path, task.epoch, index)
        except BadImage as error:
            failures.append(Failure(row, error))
        except Exception:  # a mistake in an operation; its traceback would not survive the way between processes
            mistake = DataError(f"{path}: no sample could be made of it\n{traceback.format_exc()}")
            return [Failure(row, mistake)]
    return failures
