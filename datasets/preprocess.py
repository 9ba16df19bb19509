"""The one definition of how an image becomes numbers wherever nothing is random: eval, predict, export, serving."""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from common.errors import DataError

from .reading.backends import PACKAGES, choose_backend, open_image
from .reading.crop import RESAMPLING, Middle, cut_middle
from .reading.decode import read_bytes

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CROP_PCT = 0.875


@dataclass(frozen=True)
class Preprocess:
    """Short side to `resize_size`, centre crop of `input_size`, divide by 255, normalise each channel.

    `resize_size` None means int(input_size / 0.875). It is never smaller than `input_size`, so the crop always lies
    inside the resized image. Interpolation "random" is a setting of training and means bicubic here, as in the
    references. With `exif_orientation` "ignore" photographs stay as they are stored, "apply" turns them.
    `image_backend` of datasets/reading/backends.py reads the files: "pil" as in the references, the others faster, to
    nearly the same pixels.

    Raises:
        DataError: a value that cannot be used; the message names the field.
    """

    input_size: int = 224
    resize_size: int | None = None
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    exif_orientation: str = "ignore"
    image_backend: str = "pil"

    def __post_init__(self):
        _require(_is_int(self.input_size) and self.input_size >= 1, "input_size", "a whole number from 1", self)
        if self.resize_size is None:
            object.__setattr__(self, "resize_size", int(self.input_size / CROP_PCT))
        least = f"a whole number from input_size, {self.input_size}"
        _require(_is_int(self.resize_size) and self.resize_size >= self.input_size, "resize_size", least, self)
        if self.interpolation == "random":
            object.__setattr__(self, "interpolation", "bicubic")
        _require(self.interpolation in tuple(RESAMPLING), "interpolation", f"one of {', '.join(RESAMPLING)}", self)
        for name in ("mean", "std"):
            _require(_is_triple(getattr(self, name)), name, "three numbers", self)
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        _require(min(self.std) > 0, "std", "three numbers above 0", self)
        _require(self.exif_orientation in ("ignore", "apply"), "exif_orientation", "ignore or apply", self)
        _require(self.image_backend in tuple(PACKAGES), "image_backend", f"one of {', '.join(PACKAGES)}", self)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """The input of a model: an RGB image -> [3, S, S] float32."""
        return self.normalize(self.pixels(image))

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Resize and crop, by Pillow: an RGB image -> [S, S, 3] uint8."""
        return np.asarray(cut_middle(image, self._middle(image.size)))

    def check_backend(self) -> None:
        """Raise MissingDependencyError, naming what to install, where `image_backend` cannot read."""
        choose_backend(self.image_backend)

    def read(self, path: str) -> np.ndarray:
        """The file at `path`, decoded, resized and cropped by `image_backend`: [S, S, 3] uint8.

        Raises:
            BadImage: as `datasets.reading.decode.read_image`.
        """
        picture = open_image(read_bytes(path), path, self.exif_orientation, self.image_backend)
        return np.asarray(picture.cut_middle(self._middle(picture.size)))

    def _middle(self, size: tuple[int, int]) -> Middle:
        width, height = size
        if width < height:
            resized = self.resize_size, int(self.resize_size * height / width)
        else:
            resized = int(self.resize_size * width / height), self.resize_size
        return Middle(*resized, self.input_size, self.interpolation)

    def scale_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        """(x / 255 - mean) / std is x * scale + shift; both [3, 1, 1] float32, computed in float64."""
        mean, std = np.array(self.mean).reshape(3, 1, 1), np.array(self.std).reshape(3, 1, 1)
        return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def normalize(self, pixels: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """[..., S, S, 3] uint8 -> [..., 3, S, S] float32, in `out` if it is given."""
        scale, shift = self.scale_and_shift()
        planes = np.moveaxis(pixels, -1, -3)
        normalized = np.empty(planes.shape, np.float32) if out is None else out
        for index in np.ndindex(planes.shape[:-3]):  # one image stays in the cache, which takes a third less time
            normalized[index] = planes[index]
            normalized[index] *= scale
            normalized[index] += shift
        return normalized

    def to_dict(self) -> dict:
        """Plain values, for a card or a checkpoint."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_flags(
        cls,
        input_size: int,
        train_interpolation: str,
        exif_orientation: str,
        eval_image_backend: str | None,
        trained: dict | None = None,
    ) -> "Preprocess":
        """By the flags of a script; a backend of None is that of `trained`, by which the weights were evaluated."""
        return cls(
            input_size=input_size,
            interpolation=train_interpolation,
            exif_orientation=exif_orientation,
            image_backend=eval_image_backend or (trained or {}).get("image_backend", "pil"),
        )

    @classmethod
    def from_dict(cls, fields: dict) -> "Preprocess":
        """The reverse of `to_dict`. Raises DataError for a field that is missing, unknown or wrong."""
        if not isinstance(fields, dict):
            raise DataError(f"preprocess: expected fields and values, got {fields!r}")
        known = [field.name for field in dataclasses.fields(cls)]
        for name in known:
            if name not in fields:
                raise DataError(f"preprocess.{name} is missing; the fields are {', '.join(known)}")
        for name in fields:
            if name not in known:
                raise DataError(f"preprocess.{name} is unknown; the fields are {', '.join(known)}")
        return cls(**fields)


def _require(condition: bool, name: str, expected: str, preprocess: Preprocess) -> None:
    if not condition:
        raise DataError(f"preprocess.{name}: expected {expected}, got {getattr(preprocess, name)!r}")


def _is_int(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_triple(values) -> bool:
    return (
        isinstance(values, tuple | list)
        and len(values) == 3
        and all(
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
        )
    )
