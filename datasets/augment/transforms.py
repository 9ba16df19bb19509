"""Random operations on a training image: `draw` takes a choice from a generator, `apply` carries the choice out."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from ..reading.crop import Crop, cut
from ..rng import stream
from .auto_augment import parse_policy
from .image_ops import Op, apply_op, draw_interpolation

TRIES = 10


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of all draws for sample `index` in `epoch`, in whatever worker and order it is read."""
    return np.random.Generator(stream("sample", seed, epoch, index))


class Operation(Protocol):
    """Chance is in `draw`, effect in `apply`; a choice is small, can be printed, and gives the same result again."""

    def draw(self, rng: np.random.Generator, size: tuple[int, int]): ...

    def apply(self, image: Image.Image, choice) -> Image.Image: ...


@dataclass(frozen=True)
class RandomResizedCrop:
    """A rectangle of random area and aspect ratio, resized to a square (Szegedy et al., 2015)."""

    side: int
    interpolation: str = "bicubic"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> Crop:
        interpolation = draw_interpolation(rng, self.interpolation)
        for _ in range(TRIES):
            area = size[0] * size[1] * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < width <= size[0] and 0 < height <= size[1]:
                left, top = rng.integers(0, (size[0] - width + 1, size[1] - height + 1)).tolist()
                return Crop(left, top, width, height, interpolation)
        return self._largest_in_the_middle(size, interpolation)

    def _largest_in_the_middle(self, size: tuple[int, int], interpolation: str) -> Crop:
        width = min(size[0], round(size[1] * self.ratio[1]))
        height = min(size[1], round(size[0] / self.ratio[0]))
        return Crop((size[0] - width) // 2, (size[1] - height) // 2, width, height, interpolation)

    def apply(self, image: Image.Image, choice: Crop) -> Image.Image:
        return cut(image, choice, self.side)


@dataclass(frozen=True)
class HorizontalFlip:
    """Left and right exchanged with a probability."""

    probability: float = 0.5

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> bool:
        return bool(rng.random() < self.probability)

    def apply(self, image: Image.Image | np.ndarray, choice: bool) -> Image.Image | np.ndarray:
        if not choice:
            return image
        if isinstance(image, np.ndarray):  # of a backend that has OpenCV; by Pillow 20 times as slow
            import cv2

            return cv2.flip(image, 1)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


@dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast and saturation, each times a factor within 1 - strength and 1 + strength, in any order."""

    strength: float

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> tuple[Op, ...]:
        names = ("Brightness", "Contrast", "Color")
        factors = rng.uniform(max(0, 1 - self.strength), 1 + self.strength, size=3).tolist()
        return tuple(Op(names[i], factors[i]) for i in rng.permutation(3))

    def apply(self, image: Image.Image, choice: tuple[Op, ...]) -> Image.Image:
        for op in choice:
            image = apply_op(image, op)
        return image


@dataclass(frozen=True)
class TrainTransform:
    """From a decoded image to the pixels of a training sample, [S, S, 3] uint8."""

    crop: RandomResizedCrop
    operations: tuple[Operation, ...]

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> tuple:
        """A choice for every operation; `size` is (width, height) of the decoded image."""
        square = (self.crop.side, self.crop.side)
        return (self.crop.draw(rng, size), *(operation.draw(rng, square) for operation in self.operations))

    def apply(self, image: Image.Image, choice: tuple) -> np.ndarray:
        """Carry out what `draw` returned."""
        return self.apply_to_crop(self.crop.apply(image, choice[0]), choice)

    def apply_to_crop(self, image: Image.Image | np.ndarray, choice: tuple) -> np.ndarray:
        """As `apply`, where the crop has been cut already: for backends that decode nothing else."""
        for operation, its_choice in zip(self.operations, choice[1:], strict=True):
            if its_choice:  # an empty choice changes nothing
                if isinstance(image, np.ndarray) and not isinstance(operation, HorizontalFlip):
                    image = Image.fromarray(image)
                image = operation.apply(image, its_choice)
        return np.asarray(image)


def build_train_transform(
    side: int,
    *,
    interpolation: str,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    hflip: float = 0.5,
    aa: str = "",
    color_jitter: float | None = None,
) -> TrainTransform:
    """The training transform of PeleeNet-paddle, by the flags of main.py; colour jitter only where `aa` is empty.

    Raises:
        PolicyError: `aa` is not a policy.
    """
    operations: tuple[Operation, ...] = (HorizontalFlip(hflip),)
    if aa:
        operations += (parse_policy(aa, interpolation),)
    elif color_jitter:
        operations += (ColorJitter(color_jitter),)
    return TrainTransform(RandomResizedCrop(side, interpolation, scale, ratio), operations)
