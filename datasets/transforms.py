"""Random operations on a training image: `draw` takes a choice from a generator, `apply` carries the choice out."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from .auto_augment import parse_policy
from .chance import stream
from .crop import Crop, cut
from .image_ops import Op, apply_op, draw_interpolation
from .preprocess import Preprocess

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


class Box(NamedTuple):
    """A rectangle to erase; its noise is that of `noise_seed`, so that a choice stays small."""

    top: int
    left: int
    height: int
    width: int
    noise_seed: int


# what a box is filled with: its shape for numpy's broadcasting, from channels, height and width
NOISE_SHAPES = {
    "rand": lambda height, width: (3, 1, 1),
    "pixel": lambda height, width: (3, height, width),
}


@dataclass(frozen=True)
class RandomErasing:
    """Boxes of a normalised image replaced by zeros ("const") or N(0, 1), per channel ("rand") or everywhere ("pixel").

    Zhong et al., 2020, with the numbers of PeleeNet-paddle: each box covers 0.02 to 1/3 of the image divided by the
    number of boxes, at an aspect ratio of 0.3 to 1/0.3.
    """

    probability: float
    mode: str = "pixel"
    max_count: int = 1

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> tuple[Box, ...]:
        if rng.random() >= self.probability:
            return ()
        count = int(rng.integers(1, self.max_count, endpoint=True))
        boxes = (self._draw_box(rng, size, count) for _ in range(count))
        return tuple(box for box in boxes if box is not None)

    def _draw_box(self, rng: np.random.Generator, size: tuple[int, int], count: int) -> Box | None:
        for _ in range(TRIES):
            area = rng.uniform(0.02, 1 / 3) * size[0] * size[1] / count
            aspect = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if height < size[1] and width < size[0]:
                top, left = rng.integers(0, (size[1] - height + 1, size[0] - width + 1)).tolist()
                return Box(top, left, height, width, int(rng.integers(2**63)))
        return None

    def apply(self, image: np.ndarray, choice: tuple[Box, ...]) -> np.ndarray:
        """`image` [3, H, W] float32 is changed in place."""
        for top, left, height, width, noise_seed in choice:
            fill = 0.0
            if self.mode != "const":
                noise = np.random.Generator(stream("erase", noise_seed))
                fill = noise.standard_normal(NOISE_SHAPES[self.mode](height, width), dtype=np.float32)
            image[:, top : top + height, left : left + width] = fill
        return image


@dataclass(frozen=True)
class TrainTransform:
    """From a decoded image to the pixels of a training sample.

    Without erasing these are [S, S, 3] uint8, and are normalised on the device, where they arrive in a quarter of the
    bytes. Erasing comes after normalising, so with it they are [3, S, S] float32.
    """

    preprocess: Preprocess
    crop: RandomResizedCrop
    operations: tuple[Operation, ...]
    erasing: RandomErasing | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the pixels of a sample."""
        return (self.crop.side, self.crop.side, 3) if self.erasing is None else (3, self.crop.side, self.crop.side)

    @property
    def dtype(self) -> type:
        """Of the pixels of a sample."""
        return np.uint8 if self.erasing is None else np.float32

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> tuple:
        """A choice for every operation; `size` is (width, height) of the decoded image."""
        square = (self.crop.side, self.crop.side)
        later = (*self.operations, self.erasing) if self.erasing else self.operations
        return (self.crop.draw(rng, size), *(operation.draw(rng, square) for operation in later))

    def apply(self, image: Image.Image, choice: tuple) -> np.ndarray:
        """Carry out what `draw` returned."""
        return self.apply_to_crop(self.crop.apply(image, choice[0]), choice)

    def apply_to_crop(self, image: Image.Image | np.ndarray, choice: tuple) -> np.ndarray:
        """As `apply`, where the crop has been cut already: for backends that decode nothing else."""
        for operation, its_choice in zip(self.operations, choice[1:], strict=False):
            if its_choice:  # an empty choice changes nothing
                if isinstance(image, np.ndarray) and not isinstance(operation, HorizontalFlip):
                    image = Image.fromarray(image)
                image = operation.apply(image, its_choice)
        pixels = np.asarray(image)
        return pixels if self.erasing is None else self.erasing.apply(self.preprocess.normalize(pixels), choice[-1])


def build_train_transform(
    preprocess: Preprocess,
    *,
    interpolation: str,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    hflip: float = 0.5,
    aa: str = "",
    color_jitter: float | None = None,
    reprob: float = 0.0,
    remode: str = "pixel",
    recount: int = 1,
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
    crop = RandomResizedCrop(preprocess.input_size, interpolation, scale, ratio)
    erasing = RandomErasing(reprob, remode, recount) if reprob > 0 else None
    return TrainTransform(preprocess, crop, operations, erasing)
