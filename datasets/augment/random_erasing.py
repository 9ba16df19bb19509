"""Random erasing: boxes of a normalised batch replaced by noise, on the device, so that workers hand over bytes."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..rng import stream

TRIES = 10

# what a box is filled with: the shape of its noise, from its height and width
NOISE_SHAPES = {
    "const": lambda height, width: (1, 1, 1),
    "rand": lambda height, width: (3, 1, 1),
    "pixel": lambda height, width: (3, height, width),
}


class Box(NamedTuple):
    """A rectangle of an image."""

    top: int
    left: int
    height: int
    width: int


class ErasedBoxes(NamedTuple):
    """What is erased in a batch; as two arrays, which go the way of its pixels."""

    places: np.ndarray  # int64 [P * 8], of each box: row of the batch, box, shape of its noise
    noise: np.ndarray  # float32, an element that stands for nothing, then the noise of one box behind that of another

    def apply(self, images) -> None:
        """Change `images` [B, 3, S, S] in place, a numpy array or a Paddle tensor as the noise is one."""
        start = 1
        for row, top, left, height, width, *shape in self.places.reshape(-1, 8).tolist():
            end = start + math.prod(shape)
            images[row, :, top : top + height, left : left + width] = self.noise[start:end].reshape(shape)
            start = end


NO_ERASING = ErasedBoxes(np.zeros(0, np.int64), np.zeros(1, np.float32))  # Paddle moves no array without elements


@dataclass(frozen=True)
class RandomErasing:
    """Boxes become zeros ("const") or N(0, 1), the same in a channel of a box ("rand") or anew everywhere ("pixel").

    Zhong et al., 2020, with the numbers of PeleeNet-paddle: each box covers 0.02 to 1/3 of the image divided by the
    number of boxes, at an aspect ratio of 0.3 to 1/0.3.
    """

    probability: float
    mode: str = "pixel"
    max_count: int = 1

    def draw(self, seed: int, side: int, epoch: int, indices: Iterable[int]) -> ErasedBoxes:
        """For the images `indices` of a batch, `side` x `side` pixels each; an image is treated alike in any batch."""
        places, noise = [], [NO_ERASING.noise]
        for row, index in enumerate(indices):
            rng = np.random.Generator(stream("erase", seed, epoch, index))
            for box in self.draw_boxes(rng, side):
                shape = NOISE_SHAPES[self.mode](box.height, box.width)
                places.append((row, *box, *shape))
                noise.append(np.zeros(1) if self.mode == "const" else rng.standard_normal(math.prod(shape), np.float32))
        return ErasedBoxes(np.array(places, np.int64).ravel(), np.concatenate(noise, dtype=np.float32))

    def draw_boxes(self, rng: np.random.Generator, side: int) -> tuple[Box, ...]:
        """Those of one image."""
        if rng.random() >= self.probability:
            return ()
        count = int(rng.integers(1, self.max_count, endpoint=True))
        boxes = (self._draw_box(rng, side, count) for _ in range(count))
        return tuple(box for box in boxes if box is not None)

    def _draw_box(self, rng: np.random.Generator, side: int, count: int) -> Box | None:
        for _ in range(TRIES):
            area = rng.uniform(0.02, 1 / 3) * side**2 / count
            aspect = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if height < side and width < side:
                top, left = rng.integers(0, (side - height + 1, side - width + 1)).tolist()
                return Box(top, left, height, width)
        return None
