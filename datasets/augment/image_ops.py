"""The operations of automatic augmentation: the effect of each on an image, and its strength at each level."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from ..constants import IMAGENET_MEAN
from ..reading.crop import RESAMPLING

MAX_LEVEL = 10
FILL = tuple(round(255 * mean) for mean in IMAGENET_MEAN)  # colour of the corners that a moved image does not cover


class Op(NamedTuple):
    """A drawn operation with its parameters; only operations that move pixels interpolate."""

    name: str
    value: float | None = None  # degrees, share of the side, factor, bits or gray value, by operation
    interpolation: str | None = None


def draw_op(rng: np.random.Generator, name: str, level: float, level_std: float, interpolation: str) -> Op:
    """Draw the parameters of one operation.

    Args:
        rng: generator of the draws.
        name: key of OPERATIONS.
        level: mean of the level, 0 to MAX_LEVEL.
        level_std: standard deviation of the level; infinite draws uniformly between 0 and `level`.
        interpolation: key of RESAMPLING, or "random".
    """
    operation = OPERATIONS[name]
    fraction = draw_level(rng, level, level_std) / MAX_LEVEL
    value = operation.strength(fraction, -1 if rng.random() < 0.5 else 1)
    return Op(name, value, draw_interpolation(rng, interpolation) if operation.moves_pixels else None)


def draw_level(rng: np.random.Generator, level: float, std: float) -> float:
    """Draw a level: `level` plus Gaussian noise, clipped to 0..MAX_LEVEL; infinite `std`: uniform in 0..`level`."""
    drawn = rng.uniform(0, level) if math.isinf(std) else rng.normal(level, std)
    return min(MAX_LEVEL, max(0, drawn))


def draw_interpolation(rng: np.random.Generator, interpolation: str) -> str:
    """Draw "bilinear" or "bicubic" if `interpolation` is "random"; else return `interpolation`."""
    return ("bilinear", "bicubic")[rng.integers(2)] if interpolation == "random" else interpolation


def apply_op(image: Image.Image, op: Op) -> Image.Image:
    """Apply `op` to an RGB image."""
    return OPERATIONS[op.name].effect(image, op)


def _enhance(enhancer: type) -> Callable[[Image.Image, Op], Image.Image]:
    return lambda image, op: enhancer(image).enhance(op.value)


def _rotate(image: Image.Image, op: Op) -> Image.Image:
    return image.rotate(op.value, resample=RESAMPLING[op.interpolation], fillcolor=FILL)


def _affine(image: Image.Image, op: Op, matrix: tuple) -> Image.Image:
    resampling = RESAMPLING[op.interpolation]
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=resampling, fillcolor=FILL)


def _shear_x(image: Image.Image, op: Op) -> Image.Image:
    return _affine(image, op, (1, op.value, 0, 0, 1, 0))


def _shear_y(image: Image.Image, op: Op) -> Image.Image:
    return _affine(image, op, (1, 0, 0, op.value, 1, 0))


def _translate_x(image: Image.Image, op: Op) -> Image.Image:
    return _affine(image, op, (1, 0, op.value * image.width, 0, 1, 0))


def _translate_y(image: Image.Image, op: Op) -> Image.Image:
    return _affine(image, op, (1, 0, 0, 0, 1, op.value * image.height))


def _posterize(image: Image.Image, op: Op) -> Image.Image:
    return image if op.value >= 8 else ImageOps.posterize(image, op.value)


def _solarize(image: Image.Image, op: Op) -> Image.Image:
    return ImageOps.solarize(image, op.value)


def _solarize_add(image: Image.Image, op: Op) -> Image.Image:
    return image.point([min(255, value + op.value) if value < 128 else value for value in range(256)] * 3)


class ImageOperation(NamedTuple):
    """A row of OPERATIONS: strength(level / MAX_LEVEL, sign) -> value, and the effect of the value on an image."""

    strength: Callable[[float, int], float | None]
    effect: Callable[[Image.Image, Op], Image.Image]
    moves_pixels: bool = False


# The strengths are those of PeleeNet-paddle, which took them from timm. Posterize keeps at least one bit: zero bits are
# a black image in old Pillow and an error since Pillow 13.
OPERATIONS = {
    "AutoContrast": ImageOperation(lambda f, sign: None, lambda image, op: ImageOps.autocontrast(image)),
    "Equalize": ImageOperation(lambda f, sign: None, lambda image, op: ImageOps.equalize(image)),
    "Invert": ImageOperation(lambda f, sign: None, lambda image, op: ImageOps.invert(image)),
    "Rotate": ImageOperation(lambda f, sign: sign * 30 * f, _rotate, moves_pixels=True),
    "ShearX": ImageOperation(lambda f, sign: sign * 0.3 * f, _shear_x, moves_pixels=True),
    "ShearY": ImageOperation(lambda f, sign: sign * 0.3 * f, _shear_y, moves_pixels=True),
    "TranslateXRel": ImageOperation(lambda f, sign: sign * 0.45 * f, _translate_x, moves_pixels=True),
    "TranslateYRel": ImageOperation(lambda f, sign: sign * 0.45 * f, _translate_y, moves_pixels=True),
    "TranslateXRelAugMix": ImageOperation(lambda f, sign: sign * 0.3 * f, _translate_x, moves_pixels=True),
    "TranslateYRelAugMix": ImageOperation(lambda f, sign: sign * 0.3 * f, _translate_y, moves_pixels=True),
    "Posterize": ImageOperation(lambda f, sign: max(1, int(4 * f)), _posterize),
    "PosterizeIncreasing": ImageOperation(lambda f, sign: max(1, 4 - int(4 * f)), _posterize),
    "PosterizeOriginal": ImageOperation(lambda f, sign: 4 + int(4 * f), _posterize),
    "Solarize": ImageOperation(lambda f, sign: int(256 * f), _solarize),
    "SolarizeIncreasing": ImageOperation(lambda f, sign: 256 - int(256 * f), _solarize),
    "SolarizeAdd": ImageOperation(lambda f, sign: int(110 * f), _solarize_add),
    "Color": ImageOperation(lambda f, sign: 0.1 + 1.8 * f, _enhance(ImageEnhance.Color)),
    "ColorIncreasing": ImageOperation(lambda f, sign: 1 + sign * 0.9 * f, _enhance(ImageEnhance.Color)),
    "Contrast": ImageOperation(lambda f, sign: 0.1 + 1.8 * f, _enhance(ImageEnhance.Contrast)),
    "ContrastIncreasing": ImageOperation(lambda f, sign: 1 + sign * 0.9 * f, _enhance(ImageEnhance.Contrast)),
    "Brightness": ImageOperation(lambda f, sign: 0.1 + 1.8 * f, _enhance(ImageEnhance.Brightness)),
    "BrightnessIncreasing": ImageOperation(lambda f, sign: 1 + sign * 0.9 * f, _enhance(ImageEnhance.Brightness)),
    "Sharpness": ImageOperation(lambda f, sign: 0.1 + 1.8 * f, _enhance(ImageEnhance.Sharpness)),
    "SharpnessIncreasing": ImageOperation(lambda f, sign: 1 + sign * 0.9 * f, _enhance(ImageEnhance.Sharpness)),
}
