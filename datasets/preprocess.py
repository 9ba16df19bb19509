"""The one definition of how an image becomes numbers where nothing is random: eval, predict, export, serving."""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common.errors import DataError

from .constants import BACKEND_PACKAGES, IMAGENET_MEAN, IMAGENET_STD, INTERPOLATIONS

if TYPE_CHECKING:
    from configs.schema import PreprocessConfig

CROP_PCT = 0.875


class CenterCrop(NamedTuple):
    """A square in the middle of an image that is first resized to `width` x `height` pixels."""

    width: int
    height: int
    side: int
    interpolation: str

    @property
    def left(self) -> int:
        """First column of the square in the resized image."""
        return round((self.width - self.side) / 2)

    @property
    def top(self) -> int:
        """First row of the square in the resized image."""
        return round((self.height - self.side) / 2)

    def box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The square in pixels of the image before resizing, which has `size`: left, top, right, bottom."""
        across, down = size[0] / self.width, size[1] / self.height
        return self.left * across, self.top * down, (self.left + self.side) * across, (self.top + self.side) * down


@dataclass(frozen=True)
class Preprocess:
    """Resize the short side to `resize_size`, crop the centre, divide by 255, normalise each channel.

    `datasets.reading.pixels` carries out the resizing and the crop; `normalize` does the rest.

    Args:
        input_size: side of the square input of the model in pixels.
        resize_size: short side of the resized image in pixels, at least `input_size`, so that the crop lies inside the
            image; None means int(input_size / 0.875).
        interpolation: name in INTERPOLATIONS. "random" is a setting of training and means bicubic here, as in the
            references.
        mean: mean of each channel, for values from 0 to 1.
        std: standard deviation of each channel.
        exif_orientation: "ignore" leaves photographs as they are stored, "apply" rotates them as EXIF says.
        image_backend: decoder of `datasets.reading.backends`: "pil" as in the references, the others faster, to nearly
            the same pixels.

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
        _require(_is_int(self.input_size) and self.input_size >= 1, "input_size", "a whole number of at least 1", self)
        if self.resize_size is None:
            object.__setattr__(self, "resize_size", int(self.input_size / CROP_PCT))
        least = f"a whole number of at least input_size, {self.input_size}"
        _require(_is_int(self.resize_size) and self.resize_size >= self.input_size, "resize_size", least, self)
        if self.interpolation == "random":
            object.__setattr__(self, "interpolation", "bicubic")
        names = f"one of {', '.join(INTERPOLATIONS)}"
        _require(self.interpolation in INTERPOLATIONS, "interpolation", names, self)
        for name in ("mean", "std"):
            _require(_is_triple(getattr(self, name)), name, "three numbers", self)
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        _require(min(self.std) > 0, "std", "three numbers above 0", self)
        _require(self.exif_orientation in ("ignore", "apply"), "exif_orientation", "ignore or apply", self)
        names = f"one of {', '.join(BACKEND_PACKAGES)}"
        _require(self.image_backend in tuple(BACKEND_PACKAGES), "image_backend", names, self)

    def center_crop(self, size: tuple[int, int]) -> CenterCrop:
        """The resizing and the crop of an image of `size`, (width, height) in pixels."""
        width, height = size
        if width < height:
            resized = self.resize_size, int(self.resize_size * height / width)
        else:
            resized = int(self.resize_size * width / height), self.resize_size
        return CenterCrop(*resized, self.input_size, self.interpolation)

    def scale_and_shift(self) -> tuple[np.ndarray, np.ndarray]:
        """(x / 255 - mean) / std is x * scale + shift; both [3, 1, 1] float32, computed in float64."""
        mean, std = np.array(self.mean).reshape(3, 1, 1), np.array(self.std).reshape(3, 1, 1)
        return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def normalize(self, pixels: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Normalise pixels [..., S, S, 3] uint8 to [..., 3, S, S] float32, in `out` if it is given."""
        scale, shift = self.scale_and_shift()
        planes = np.moveaxis(pixels, -1, -3)
        normalized = np.empty(planes.shape, np.float32) if out is None else out
        for index in np.ndindex(planes.shape[:-3]):  # one image stays in the cache, which takes a third less time
            normalized[index] = planes[index]
            normalized[index] *= scale
            normalized[index] += shift
        return normalized

    @classmethod
    def from_config(cls, config: "PreprocessConfig", trained: dict | None = None) -> "Preprocess":
        """Create the preprocessing that the flags of a script ask for, and where a flag is None, that of `trained`.

        Args:
            config: branch `preprocess` of the config.
            trained: dict form of the preprocessing with which the weights were evaluated; None if they do not tell.

        Raises:
            DataError: a value that cannot be used; the message names the field.
        """
        flags = {
            "input_size": config.input_size,
            "interpolation": config.train_interpolation,
            "exif_orientation": config.exif_orientation,
            "image_backend": config.eval_image_backend,
        }
        fields = dict(trained or {})
        if config.input_size is not None and config.input_size != fields.get("input_size"):
            fields.pop("resize_size", None)  # follows from the size
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        given = {name: value for name, value in flags.items() if value is not None}
        return cls.from_dict(defaults | fields | given)

    def to_dict(self) -> dict:
        """The fields as plain values, for a card or a checkpoint."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: dict) -> "Preprocess":
        """Create the preprocessing from its dict form.

        Raises:
            DataError: a field that is missing, unknown or wrong; the message names the field.
        """
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
