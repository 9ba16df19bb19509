"""The vocabulary of automatic augmentation: what each operation does to an image, and how strong each level is."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from ..preprocess import IMAGENET_MEAN
from ..reading.crop import RESAMPLING

MAX_LEVEL = 10
FILL = tuple(round(255 * mean) for mean in IMAGENET_MEAN)  # of the corners that a moved image leaves free


class Op(NamedTuple):
    """A drawn operation, ready to apply; only operations that move pixels interpolate."""

    name: str
    value: float | None = None  # degrees, a share of the side, a factor, bits or a gray value
    interpolation: str | None = None


def draw_op(rng: np.random.Generator, name: str, level: float, level_std: float, interpolation: str) -> Op:
    """The operation `name` at about `level`, with level, sign and interpolation drawn where it has them."""
    kind = OPERATIONS[name]
    fraction = draw_level(rng, level, level_std) / MAX_LEVEL
    value = kind.strength(fraction, -1 if rng.random() < 0.5 else 1)
    return Op(name, value, draw_interpolation(rng, interpolation) if kind.moves_pixels else None)


def draw_level(rng: np.random.Generator, level: float, std: float) -> float:
    """`level` with Gaussian noise, within 0 and MAX_LEVEL; an infinite `std` means uniform between 0 and `level`."""
    drawn = rng.uniform(0, level) if math.isinf(std) else rng.normal(level, std)
    return min(MAX_LEVEL, max(0, drawn))


def draw_interpolation(rng: np.random.Generator, interpolation: str) -> str:
    """A name in RESAMPLING: `interpolation` itself unless it is "random"."""
    return ("bilinear", "bicubic")[rng.integers(2)] if interpolation == "random" else interpolation


def apply_op(image: Image.Image, op: Op) -> Image.Image:
    """Carry out `op` on an RGB image."""
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


class Operation(NamedTuple):
    """A row of the table: strength(level / MAX_LEVEL, sign) -> value, and what the value does to an image."""

    strength: Callable[[float, int], float | None]
    effect: Callable[[Image.Image, Op], Image.Image]
    moves_pixels: bool = False


# The strengths are those of PeleeNet-paddle, which took them from timm. Zero bits of Posterize were a black image in
# old Pillow and are an error since Pillow 13: one bit is the least that shows anything.
OPERATIONS = {
    "AutoContrast": Operation(lambda f, sign: None, lambda image, op: ImageOps.autocontrast(image)),
    "Equalize": Operation(lambda f, sign: None, lambda image, op: ImageOps.equalize(image)),
    "Invert": Operation(lambda f, sign: None, lambda image, op: ImageOps.invert(image)),
    "Rotate": Operation(lambda f, sign: sign * 30 * f, _rotate, moves_pixels=True),
    "ShearX": Operation(lambda f, sign: sign * 0.3 * f, _shear_x, moves_pixels=True),
    "ShearY": Operation(lambda f, sign: sign * 0.3 * f, _shear_y, moves_pixels=True),
    "TranslateXRel": Operation(lambda f, sign: sign * 0.45 * f, _translate_x, moves_pixels=True),
    "TranslateYRel": Operation(lambda f, sign: sign * 0.45 * f, _translate_y, moves_pixels=True),
    "TranslateXRelAugMix": Operation(lambda f, sign: sign * 0.3 * f, _translate_x, moves_pixels=True),
    "TranslateYRelAugMix": Operation(lambda f, sign: sign * 0.3 * f, _translate_y, moves_pixels=True),
    "Posterize": Operation(lambda f, sign: max(1, int(4 * f)), _posterize),
    "PosterizeIncreasing": Operation(lambda f, sign: max(1, 4 - int(4 * f)), _posterize),
    "PosterizeOriginal": Operation(lambda f, sign: 4 + int(4 * f), _posterize),
    "Solarize": Operation(lambda f, sign: int(256 * f), _solarize),
    "SolarizeIncreasing": Operation(lambda f, sign: 256 - int(256 * f), _solarize),
    "SolarizeAdd": Operation(lambda f, sign: int(110 * f), _solarize_add),
    "Color": Operation(lambda f, sign: 0.1 + 1.8 * f, _enhance(ImageEnhance.Color)),
    "ColorIncreasing": Operation(lambda f, sign: 1 + sign * 0.9 * f, _enhance(ImageEnhance.Color)),
    "Contrast": Operation(lambda f, sign: 0.1 + 1.8 * f, _enhance(ImageEnhance.Contrast)),
    "ContrastIncreasing": Operation(lambda f, sign: 1 + sign * 0.9 * f, _enhance(ImageEnhance.Contrast)),
    "Brightness": Operation(lambda f, sign: 0.1 + 1.8 * f, _enhance(ImageEnhance.Brightness)),
    "BrightnessIncreasing": Operation(lambda f, sign: 1 + sign * 0.9 * f, _enhance(ImageEnhance.Brightness)),
    "Sharpness": Operation(lambda f, sign: 0.1 + 1.8 * f, _enhance(ImageEnhance.Sharpness)),
    "SharpnessIncreasing": Operation(lambda f, sign: 1 + sign * 0.9 * f, _enhance(ImageEnhance.Sharpness)),
}
