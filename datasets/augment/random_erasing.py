"""Random erasing: boxes of a normalised batch become zeros or noise, on the device, so that workers send bytes."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from configs.schema import AugmentConfig

from ..rng import generator

TRIES = 10

# mode: shape of the noise of a box, from its height and width
NOISE_SHAPES = {
    "const": lambda height, width: (1, 1, 1),
    "rand": lambda height, width: (3, 1, 1),
    "pixel": lambda height, width: (3, height, width),
}


class Box(NamedTuple):
    """A rectangle of an image in pixels."""

    top: int
    left: int
    height: int
    width: int


class ErasedBoxes(NamedTuple):
    """The erased boxes of a batch."""

    places: np.ndarray  # int64 [P * 8]: for each box the row in the batch, the box, the shape of its noise
    noise: np.ndarray  # float32: one element without meaning, then the noise of one box after another

    def apply(self, images) -> None:
        """Erase the boxes of `images` [B, 3, S, S] in place: a Paddle tensor if the noise is one, else an array."""
        start = 1
        for row, top, left, height, width, *shape in self.places.reshape(-1, 8).tolist():
            end = start + math.prod(shape)
            images[row, :, top : top + height, left : left + width] = self.noise[start:end].reshape(shape)
            start = end


# The noise has one element, because Paddle copies no empty array to a device.
NO_ERASING = ErasedBoxes(np.zeros(0, np.int64), np.zeros(1, np.float32))


@dataclass(frozen=True)
class RandomErasing:
    """Erases boxes with zeros ("const") or N(0, 1): one number per channel ("rand") or per pixel ("pixel").

    Zhong et al., 2020, with the numbers of PeleeNet-paddle: each box covers 0.02 to 1/3 of the image divided by the
    number of boxes, at an aspect ratio of 0.3 to 1/0.3.

    Args:
        probability: probability that an image is erased.
        mode: key of NOISE_SHAPES.
        max_count: largest number of boxes of an image.
    """

    probability: float
    mode: str
    max_count: int

    def draw(self, seed: int, side: int, epoch: int, indices: Iterable[int]) -> ErasedBoxes:
        """Draw the boxes of a batch; those of an image do not depend on the other images.

        Args:
            seed: seed of the training.
            side: side of the images in pixels.
            epoch: number of the epoch.
            indices: indices of the images in the data set.
        """
        places, noise = [], [NO_ERASING.noise]
        for row, index in enumerate(indices):
            rng = generator("erase", seed, epoch, index)
            for box in self.draw_boxes(rng, side):
                shape = NOISE_SHAPES[self.mode](box.height, box.width)
                places.append((row, *box, *shape))
                noise.append(np.zeros(1) if self.mode == "const" else rng.standard_normal(math.prod(shape), np.float32))
        return ErasedBoxes(np.array(places, np.int64).ravel(), np.concatenate(noise, dtype=np.float32))

    def draw_boxes(self, rng: np.random.Generator, side: int) -> tuple[Box, ...]:
        """Draw the boxes of one image of `side` x `side` pixels."""
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


def create_random_erasing(config: AugmentConfig) -> RandomErasing | None:
    """Create random erasing by the flags --reprob, --remode and --recount; None if the probability is 0."""
    return RandomErasing(config.reprob, config.remode, config.recount) if config.reprob else None
