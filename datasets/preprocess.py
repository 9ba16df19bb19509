"""The one definition of how an image becomes numbers where nothing is random: eval, predict, export, serving."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common.errors import DataError, UsageError

from .constants import BACKEND_PACKAGES, IMAGENET_MEAN, IMAGENET_STD, INTERPOLATIONS

if TYPE_CHECKING:
    from configs.schema import PreprocessConfig

CROP_PCT = 0.875  # of the references: 224 of 256 pixels
LATER_FIELDS = ("fit", "crop_pct")  # older cards and checkpoints lack them: crop by what `resize_size` says
FITS = ("crop", "squash", "letterbox")
MAX_RESIZE_SIZE = 1 << 20
Colour = tuple[int, int, int]  # of a pixel, RGB


class CenterCrop(NamedTuple):
    """A square in the middle of an image that is first resized to `width` x `height` pixels.

    Where the resized image is smaller than the square, which "letterbox" alone does, the rest has the colour `fill`.
    """

    width: int
    height: int
    side: int
    interpolation: str
    fit: str = "crop"
    fill: Colour = (0, 0, 0)

    def shrinks_by(self, size: tuple[int, int]) -> float:
        """How many pixels of an image of `size` become one; where the sides differ, on the side that shrinks less."""
        if self.fit == "letterbox":
            return max(size) / max(self.width, self.height)  # the short side is rounded, at least to 1
        return min(size) / min(self.width, self.height)

    @property
    def left(self) -> int:
        """First column of the square in the resized image; below 0 where the image is smaller."""
        return round((self.width - self.side) / 2)

    @property
    def top(self) -> int:
        """First row of the square in the resized image; below 0 where the image is smaller."""
        return round((self.height - self.side) / 2)

    def box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The square in pixels of the image before resizing, which has `size`: left, top, right, bottom."""
        across, down = size[0] / self.width, size[1] / self.height
        return self.left * across, self.top * down, (self.left + self.side) * across, (self.top + self.side) * down


def letterbox(size: tuple[int, int], side: int, interpolation: str, fill: Colour) -> CenterCrop:
    """An image of `size`, (width, height), in its own shape inside a square: its long side is that of the square.

    Args:
        size: of the image in pixels.
        side: of the square in pixels.
        interpolation: of the resizing.
        fill: colour of the border.
    """
    width, height = (max(1, round(side * length / max(size))) for length in size)
    return CenterCrop(width, height, side, interpolation, "letterbox", fill)


def mean_colour(mean: Sequence[float]) -> Colour:
    """The colour that normalises to about 0: `mean` of values from 0 to 1, in whole bytes; (124, 116, 104) by default.

    Halves are rounded to the even byte.
    """
    return tuple(min(255, max(0, round(255 * value))) for value in mean)


@dataclass(frozen=True)
class Preprocess:
    """Fit an image into a square, divide by 255, normalise each channel.

    The image is fitted in one of three ways. "crop": its short side is resized to `resize_size`, and the centre is cut
    out; what lies outside is lost. "squash": it is stretched to the square. "letterbox": it keeps its shape, its long
    side is resized to that of the square, and the border has the colour `fill`.

    `datasets.reading.pixels` carries out the resizing and the crop; `normalize` does the rest.

    Args:
        input_size: side of the square input of the model in pixels.
        resize_size: short side of the resized image in pixels, at least `input_size`, so that the crop lies inside the
            image; None means int(input_size / crop_pct). It is `input_size` unless `fit` is "crop".
        interpolation: name in INTERPOLATIONS. "random" is a setting of training and means bicubic here, as in the
            references.
        mean: mean of each channel, for values from 0 to 1.
        std: standard deviation of each channel.
        exif_orientation: "ignore" leaves photographs as they are stored, "apply" rotates them as EXIF says.
        image_backend: decoder of `datasets.reading.backends`: "pil" as in the references, the others faster, to nearly
            the same pixels.
        fit: name in FITS.
        crop_pct: side of the square as a share of the short side of the resized image, above 0 and at most 1; None
            means what `resize_size` says, else 0.875. It is 1 unless `fit` is "crop".

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
    fit: str = "crop"
    crop_pct: float | None = None

    def __post_init__(self):
        _require(_is_int(self.input_size) and self.input_size >= 1, "input_size", "a whole number of at least 1", self)
        _require(self.fit in FITS, "fit", f"one of {', '.join(FITS)}", self)
        self._settle_sizes()
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

    def _settle_sizes(self) -> None:
        """Set `resize_size` and `crop_pct` where they are None; each follows from the other."""
        side, fit = self.input_size, self.fit
        if self.crop_pct is not None:
            is_share = _is_number(self.crop_pct) and 0 < self.crop_pct <= 1
            _require(is_share, "crop_pct", "a number above 0 and at most 1", self)
        if self.resize_size is not None:
            sizes = f"a whole number from input_size, {side}, to {MAX_RESIZE_SIZE}"
            is_size = _is_int(self.resize_size) and side <= self.resize_size <= MAX_RESIZE_SIZE
            _require(is_size, "resize_size", sizes, self)
        if fit != "crop":
            why = f"with fit {fit}, which shows the whole image"
            _require(self.crop_pct in (None, 1), "crop_pct", f"1 {why}", self)
            _require(self.resize_size in (None, side), "resize_size", f"input_size, {side}, {why}", self)
            object.__setattr__(self, "crop_pct", 1.0)
            object.__setattr__(self, "resize_size", side)
            return
        if self.crop_pct is None:
            is_published = self.resize_size in (None, int(side / CROP_PCT))
            object.__setattr__(self, "crop_pct", CROP_PCT if is_published else side / self.resize_size)
        if self.resize_size is None:
            resize_size = side / self.crop_pct
            _require(resize_size <= MAX_RESIZE_SIZE, "crop_pct", f"at least input_size / {MAX_RESIZE_SIZE}", self)
            object.__setattr__(self, "resize_size", int(resize_size))
        agrees = self.resize_size == int(side / self.crop_pct) or self.crop_pct == side / self.resize_size
        _require(agrees, "crop_pct", f"input_size / resize_size, {side} / {self.resize_size}", self)
        object.__setattr__(self, "crop_pct", float(self.crop_pct))

    @property
    def fill(self) -> Colour:
        """Colour of the border of "letterbox"."""
        return mean_colour(self.mean)

    def center_crop(self, size: tuple[int, int]) -> CenterCrop:
        """The resizing and the crop of an image of `size`, (width, height) in pixels."""
        if self.fit == "squash":
            return CenterCrop(self.input_size, self.input_size, self.input_size, self.interpolation, "squash")
        if self.fit == "letterbox":
            return letterbox(size, self.input_size, self.interpolation, self.fill)
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
            UsageError: --crop_pct is given for weights that are fed with whole images.
        """
        flags = {
            "input_size": config.input_size,
            "interpolation": config.train_interpolation,
            "exif_orientation": config.exif_orientation,
            "image_backend": config.eval_image_backend,
            "fit": config.fit,
            "crop_pct": config.crop_pct,
        }
        fields = dict(trained or {})
        fit = config.fit or fields.get("fit", "crop")
        if fit != "crop" and config.crop_pct not in (None, 1):
            raise UsageError(
                f"--crop_pct {config.crop_pct} is for --fit crop; the images of these weights are fitted by {fit}, "
                "which cuts nothing off: leave it out, or give --fit crop too"
            )
        if fit != fields.get("fit", "crop"):
            fields.pop("crop_pct", None)
            fields.pop("resize_size", None)
        for name in ("input_size", "crop_pct"):
            if flags[name] is not None and flags[name] != fields.get(name):
                fields.pop("resize_size", None)  # follows from the two
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
            if name not in fields and name not in LATER_FIELDS:
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


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_triple(values) -> bool:
    return isinstance(values, tuple | list) and len(values) == 3 and all(map(_is_number, values))
