"""Random transform of a training image: `draw` takes a choice from a generator, `apply` carries the choice out."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from PIL import Image

from common.errors import UsageError

from ..preprocess import CenterCrop, Colour, Preprocess
from ..reading.backends import LazyImage
from ..reading.crop import Crop, center_crop, crop_and_resize
from ..rng import generator
from .auto_augment import parse_policy
from .image_ops import Op, apply_op, draw_interpolation

if TYPE_CHECKING:  # the schema would take 25 ms of the start of each worker process
    from configs.schema import AugmentConfig, PreprocessConfig

TRIES = 10


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of all draws for sample `index` in `epoch`, whatever worker reads the sample, and whenever."""
    return generator("sample", seed, epoch, index)


class Operation(Protocol):
    """A random operation: chance is in `draw`, effect in `apply`.

    A choice is small and printable, and gives the same result each time it is applied.
    """

    def draw(self, rng: np.random.Generator, size: tuple[int, int]):
        """Draw a choice for an image of `size`, (width, height)."""
        ...

    def apply(self, image: Image.Image, choice) -> Image.Image:
        """Carry out a choice on an RGB image."""
        ...


@dataclass(frozen=True)
class RandomResizedCrop:
    """A rectangle of random area and aspect ratio, resized to a square (Szegedy et al., 2015).

    Where evaluation shows the whole image, the rectangle has about the shape of the image and is fitted into the square
    as the image is there: stretched by "squash", in its shape by "letterbox". So scale (1, 1) and ratio (1, 1) give the
    pixels of the evaluation.

    Args:
        side: side of the square in pixels.
        interpolation: "bilinear", "bicubic", or "random" for either.
        scale: smallest and largest area, as a share of the image.
        ratio: smallest and largest width / height; with "squash" and "letterbox" as a multiple of that of the image.
        fit: how evaluation fits an image into the square: name in datasets.preprocess.FITS.
        fill: colour of the border of "letterbox".
    """

    side: int
    interpolation: str
    scale: tuple[float, float]
    ratio: tuple[float, float]
    fit: str = "crop"
    fill: Colour = (0, 0, 0)

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> Crop:
        """Draw a rectangle of an image of `size`, (width, height)."""
        interpolation = draw_interpolation(rng, self.interpolation)
        how = (interpolation, self.fit, self.fill)
        own_ratio = 1.0 if self.fit == "crop" else size[0] / size[1]
        for _ in range(TRIES):
            area = size[0] * size[1] * rng.uniform(*self.scale)
            ratio = own_ratio * math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < width <= size[0] and 0 < height <= size[1]:
                left, top = rng.integers(0, (size[0] - width + 1, size[1] - height + 1)).tolist()
                return Crop(left, top, width, height, *how)
        return self._largest_at_the_center(size, own_ratio, how)

    def _largest_at_the_center(self, size: tuple[int, int], own_ratio: float, how: tuple) -> Crop:
        width = min(size[0], round(size[1] * self.ratio[1] * own_ratio))
        height = min(size[1], round(size[0] / (self.ratio[0] * own_ratio)))
        return Crop((size[0] - width) // 2, (size[1] - height) // 2, width, height, *how)

    def apply(self, image: Image.Image, choice: Crop) -> Image.Image:
        """Cut out the rectangle and resize it."""
        return crop_and_resize(image, choice, self.side)

    def read(self, image: LazyImage, choice: Crop) -> Image.Image | np.ndarray:
        """Do as `apply` does with an image of which an image backend decodes what the rectangle needs."""
        return image.crop(choice, self.side)


class Shift(NamedTuple):
    """The square of the evaluation, seen through a window of its size that begins at (left, top) pixels of it."""

    center: CenterCrop
    left: int
    top: int

    def apply(self, square: Image.Image | np.ndarray) -> Image.Image | np.ndarray:
        """Move the pixels of a square [S, S, 3]; what lies outside of it has the colour of the border."""
        if isinstance(square, Image.Image):
            moved = Image.new("RGB", square.size, self.center.fill)
            moved.paste(square, (-self.left, -self.top))
            return moved
        moved = np.empty_like(square)
        moved[:] = self.center.fill
        left, top, side = self.left, self.top, len(square)
        kept = square[max(top, 0) : side + top, max(left, 0) : side + left]
        moved[max(-top, 0) :, max(-left, 0) :][: len(kept), : kept.shape[1]] = kept
        return moved


@dataclass(frozen=True)
class PaddedCrop:
    """The image as evaluation feeds it, with a border, of which a random square of the same size is cut out.

    The crop of the CIFAR networks (He et al., 2016, section 4.2), there with a border of 4 pixels. As published the
    border is black before the normalisation; with "letterbox" it continues that of the image.

    Args:
        preprocess: how the images of the evaluation are fed.
        interpolation: of the resizing: "bilinear", "bicubic", or "random" for either.
        padding: width of the border in pixels, less than the side of the square.

    Raises:
        UsageError: the border is as wide as the square.
    """

    preprocess: Preprocess
    interpolation: str
    padding: int

    def __post_init__(self):
        if self.padding >= self.side:
            raise UsageError(
                f"--crop pad{self.padding}: a border of {self.padding} pixels around images of {self.side}; give less, "
                "for example pad4"
            )

    @property
    def side(self) -> int:
        """Side of the square in pixels."""
        return self.preprocess.input_size

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> Shift:
        """Draw the place of the square for an image of `size`, (width, height)."""
        interpolation = draw_interpolation(rng, self.interpolation)
        left, top = rng.integers(-self.padding, self.padding, size=2, endpoint=True).tolist()
        center = self.preprocess.center_crop(size)._replace(interpolation=interpolation)
        return Shift(center, left, top)

    def apply(self, image: Image.Image, choice: Shift) -> Image.Image:
        """Fit the image into the square as for evaluation, and move it."""
        return choice.apply(center_crop(image, choice.center))

    def read(self, image: LazyImage, choice: Shift) -> Image.Image | np.ndarray:
        """Do as `apply` does with an image that an image backend decodes."""
        return choice.apply(image.center_crop(choice.center))


@dataclass(frozen=True)
class HorizontalFlip:
    """Exchanges left and right with a probability."""

    probability: float

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> bool:
        """Draw whether the image is flipped."""
        return bool(rng.random() < self.probability)

    def apply(self, image: Image.Image | np.ndarray, choice: bool) -> Image.Image | np.ndarray:
        """Flip the image if `choice` says so."""
        if not choice:
            return image
        if isinstance(image, np.ndarray):  # of an image backend that needs OpenCV; Pillow is 20 times as slow
            import cv2

            return cv2.flip(image, 1)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


@dataclass(frozen=True)
class ColorJitter:
    """Multiplies brightness, contrast and saturation, in random order, by factors in 1 - strength to 1 + strength."""

    strength: float

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> tuple[Op, ...]:
        """Draw the three factors and their order."""
        names = ("Brightness", "Contrast", "Color")
        factors = rng.uniform(max(0, 1 - self.strength), 1 + self.strength, size=3).tolist()
        return tuple(Op(names[i], factors[i]) for i in rng.permutation(3))

    def apply(self, image: Image.Image, choice: tuple[Op, ...]) -> Image.Image:
        """Apply the three operations."""
        for op in choice:
            image = apply_op(image, op)
        return image


@dataclass(frozen=True)
class TrainTransform:
    """Transforms a decoded image to the pixels of a training sample, [S, S, 3] uint8."""

    crop: RandomResizedCrop | PaddedCrop
    operations: tuple[Operation, ...]

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> tuple:
        """Draw a choice for every operation; `size` is (width, height) of the decoded image."""
        square = (self.crop.side, self.crop.side)
        return (self.crop.draw(rng, size), *(operation.draw(rng, square) for operation in self.operations))

    def apply(self, image: Image.Image, choice: tuple) -> np.ndarray:
        """Carry out the choices of `draw` on a decoded image."""
        return self.apply_to_crop(self.crop.apply(image, choice[0]), choice)

    def apply_to_crop(self, image: Image.Image | np.ndarray, choice: tuple) -> np.ndarray:
        """Carry out the choices on an image that is already cropped, as image backends decode it."""
        for operation, its_choice in zip(self.operations, choice[1:], strict=True):
            if its_choice:  # an empty choice changes nothing
                if isinstance(image, np.ndarray) and not isinstance(operation, HorizontalFlip):
                    image = Image.fromarray(image)
                image = operation.apply(image, its_choice)
        return np.asarray(image)


def build_train_transform(
    config: "AugmentConfig", flags: "PreprocessConfig", preprocess: Preprocess | None = None
) -> TrainTransform:
    """Build the training transform: crop, flip, and automatic augmentation or else colour jitter.

    With the random resized crop this is the transform of PeleeNet-paddle.

    Args:
        config: branch `augment` of the config.
        flags: branch `preprocess` of the config, because `Preprocess` does not keep the interpolation "random".
        preprocess: how the images of the evaluation are fed; default: as `flags` say.

    Raises:
        PolicyError: --aa is not a policy.
        UsageError: the border of --crop is as wide as the image.
    """
    interpolation, preprocess = flags.train_interpolation, preprocess or Preprocess.from_config(flags)
    operations: tuple[Operation, ...] = (HorizontalFlip(config.hflip),)
    if config.aa:
        operations += (parse_policy(config.aa, interpolation),)
    elif config.color_jitter:
        operations += (ColorJitter(config.color_jitter),)
    if config.padding:
        return TrainTransform(PaddedCrop(preprocess, interpolation, config.padding), operations)
    how = (preprocess.fit, preprocess.fill) if preprocess.fit != "crop" else ()
    crop = RandomResizedCrop(preprocess.input_size, interpolation, config.scale, config.ratio, *how)
    return TrainTransform(crop, operations)
