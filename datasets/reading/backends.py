"""How an image file becomes the pixels of a crop: exactly by Pillow, or faster by libraries that decode only enough."""

import importlib.util
import io
import math
import re
import struct
from collections.abc import Callable
from functools import cache
from typing import Protocol

import numpy as np
from PIL import Image

from common.errors import MissingDependencyError

from .crop import MAX_RESIZED_PIXELS, Crop, Middle, cut, cut_middle
from .decode import MAX_BYTES, decode
from .jpeg_header import JpegHeader, ordinary_jpeg
from .jpeg_tiles import Tiles, find_tiles

# backend: the packages that it needs, the fastest first, as `auto` tries them. "cv2" decodes by Pillow, "turbo" by
# libjpeg-turbo without a detour, and both resize by OpenCV.
PACKAGES = {
    "turbo": {"simplejpeg": "simplejpeg", "cv2": "opencv-python-headless"},
    "cv2": {"cv2": "opencv-python-headless"},
    "pil": {},
}
SCALES = (8, 4, 2)  # at which the DCT of libjpeg-turbo is fast; those between cost more than they save
RESTART_INTERVALS = b"\xff\xdd\0\4"
TABLES_BYTES = 2000  # behind the height; they hold the restart interval, or Pillow decodes after a complaint
ROWS_BELOW = 32  # that are decoded too: the colours of a row are blended with those of the next block, of 8 to 32 rows


class LazyImage(Protocol):
    """An image whose size is known, and whose pixels are made when it is known which are wanted."""

    size: tuple[int, int]  # (width, height)

    def cut(self, crop: Crop, side: int) -> Image.Image | np.ndarray: ...

    def cut_middle(self, middle: Middle) -> Image.Image | np.ndarray: ...


def choose_backend(name: str) -> str:
    """`name`, or for "auto" the fastest that is installed. Raises MissingDependencyError, naming what to install."""
    missing = {backend: _missing(packages) for backend, packages in PACKAGES.items()}
    if name == "auto":
        return next(backend for backend, packages in missing.items() if not packages)
    if missing[name]:
        raise MissingDependencyError(
            f"the image backend {name}, of the flags, the checkpoint or the card, needs python -m pip install "
            f"{' '.join(missing[name])}; or take pil: --image_backend for training, --eval_image_backend for all else"
        )
    return name


def _missing(packages: dict[str, str]) -> list[str]:
    return [package for module, package in packages.items() if importlib.util.find_spec(module) is None]


def open_image(data: bytes | memoryview, name: str, exif_orientation: str, backend: str) -> LazyImage:
    """The image in `data`, for `backend`.

    Whatever is not an ordinary JPEG or PPM (other formats, CMYK, photographs that may have to be turned, a damaged
    start) is Pillow's in every backend: so each file is good or bad, and has the same size and draws, in all of them.

    Raises:
        BadImage: as `decode`, here or from `cut`.
    """
    tiles = find_tiles(data)
    if tiles:
        return _Tiled(tiles, name, backend)
    if backend != "pil":
        header = ordinary_jpeg(data, may_turn=exif_orientation == "apply")
        if header:
            return _Jpeg(data, name, header, DECODERS[backend])
        pixels = raw_pixels(data)
        if pixels is not None:
            return _Raw(pixels)
    return _Decoded(decode(data, name, exif_orientation))


class _Decoded:
    def __init__(self, image: Image.Image):
        self.size = image.size
        self._image = image

    def cut(self, crop: Crop, side: int) -> Image.Image:
        return cut(self._image, crop, side)

    def cut_middle(self, middle: Middle) -> Image.Image:
        return cut_middle(self._image, middle)


class _Tiled:
    """A smaller JPEG for each crop, of which the backend then decodes all."""

    def __init__(self, tiles: Tiles, name: str, backend: str):
        self.size = tiles.header.size
        self._tiles = tiles
        self._name = name
        self._backend = backend

    def cut(self, crop: Crop, side: int) -> Image.Image | np.ndarray:
        data, header, left, top = self._tiles.around(crop)
        crop = crop._replace(left=crop.left - left, top=crop.top - top)
        return self._open(data, header).cut(crop, side)

    def cut_middle(self, middle: Middle) -> Image.Image | np.ndarray:
        return self._open(self._tiles.data, self._tiles.header).cut_middle(middle)

    def _open(self, data: bytes | memoryview, header: JpegHeader) -> LazyImage:
        if self._backend == "pil":
            return _Decoded(decode(data, self._name))
        return _Jpeg(data, self._name, header, DECODERS[self._backend])


class _Jpeg:
    """Decoded at 1/8, 1/4 or 1/2 where the crop stays as large as it has to become, and resized by OpenCV.

    OpenCV does not smooth what it shrinks. After the scaled decoding no side shrinks by more than 2, or 8/3 where the
    other bounds it.
    """

    def __init__(self, data: bytes, name: str, header: JpegHeader, decode_rows: Callable):
        self.size = header.size
        self._data = data
        self._name = name
        self._header = header
        self._decode_rows = decode_rows

    def cut(self, crop: Crop, side: int) -> Image.Image | np.ndarray:
        scale = next((scale for scale in SCALES if min(crop.width, crop.height) >= scale * side), 1)
        pixels = self._decode_rows(self._data, self._header, crop.top + crop.height, scale)
        if pixels is None:  # damaged; Pillow says how, or takes it
            return cut(decode(self._data, self._name), crop, side)
        top, left = round(crop.top / scale), round(crop.left / scale)
        bottom, right = round((crop.top + crop.height) / scale), round((crop.left + crop.width) / scale)
        return _resize(pixels[top:bottom, left:right], side, crop.interpolation)

    def cut_middle(self, middle: Middle) -> Image.Image | np.ndarray:
        # Exact size would do, as in training, but is twice as far from Pillow's pixels.
        scale = next((scale for scale in SCALES if min(self.size) >= 1.5 * scale * min(middle[:2])), 1)
        pixels = self._decode_rows(self._data, self._header, self.size[1], scale)
        if pixels is None:
            return cut_middle(decode(self._data, self._name), middle)
        return _resize_middle(pixels, middle)


def raw_pixels(data: bytes | memoryview) -> np.ndarray | None:
    """The pixels [H, W, 3] of a PPM as `datasets.pack` writes it, not copied; None for any other data."""
    header = re.match(rb"P6\n(\d{1,5}) (\d{1,5})\n255\n", bytes(data[:20]))
    if header is None:
        return None
    width, height = map(int, header.groups())
    if len(data) > MAX_BYTES or len(data) != header.end() + 3 * width * height or not width * height:
        return None
    return np.frombuffer(data, np.uint8, offset=header.end()).reshape(height, width, 3)


class _Raw:
    """Not decoded at all; of the file only the pages that hold the crop are read."""

    def __init__(self, pixels: np.ndarray):
        self.size = pixels.shape[1::-1]
        self._pixels = pixels

    def cut(self, crop: Crop, side: int) -> np.ndarray:
        inside = self._pixels[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        return _resize(inside, side, crop.interpolation, smooth=min(crop.width, crop.height) >= 2 * side)

    def cut_middle(self, middle: Middle) -> np.ndarray:
        return _resize_middle(self._pixels, middle)


def _resize(pixels: np.ndarray, side: int, interpolation: str, *, smooth: bool = False) -> np.ndarray:
    """`smooth` averages what is shrunk, as Pillow always does; it takes four times the time."""
    cv2 = _opencv()
    method = cv2.INTER_CUBIC if interpolation == "bicubic" else cv2.INTER_LINEAR
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA if smooth else method)


def _resize_middle(pixels: np.ndarray, middle: Middle) -> np.ndarray:
    """What is shrunk is made a whole number of times too large, and averaged.

    On photographs that is 0.7 of 255 from Pillow's antialiasing, INTER_AREA at once 1.0 and in three times the time.
    Pillow itself makes the middle of a ribbon, of which the rest would fill the memory, and has the other filters.
    """
    shrinks_by = min(pixels.shape[:2]) / min(middle.width, middle.height)
    times = 2 * math.ceil(shrinks_by / 2) if shrinks_by > 1 else 1
    is_ribbon = times**2 * middle.width * middle.height > MAX_RESIZED_PIXELS
    if is_ribbon or middle.interpolation not in ("bilinear", "bicubic"):
        return np.asarray(cut_middle(Image.fromarray(pixels), middle))
    cv2 = _opencv()
    method = cv2.INTER_CUBIC if middle.interpolation == "bicubic" else cv2.INTER_LINEAR
    large = cv2.resize(pixels, (times * middle.width, times * middle.height), interpolation=method)
    top, left, side = times * middle.top, times * middle.left, times * middle.side
    square = large[top : top + side, left : left + side]
    return cv2.resize(square, (middle.side, middle.side), interpolation=cv2.INTER_AREA) if times > 1 else square


def _decode_with_turbo(data: bytes, header: JpegHeader, bottom: int, scale: int) -> np.ndarray | None:
    """At least the rows above `bottom`; None for a damaged file, as Pillow finds it, wherever the damage is."""
    import simplejpeg

    data, num_rows = _without_rows_below(data, header, bottom)
    pixels = np.empty((-(-num_rows // scale), -(-header.size[0] // scale), 3), np.uint8)
    height, width, _ = pixels.shape
    try:
        simplejpeg.decode_jpeg(data, min_height=height, min_width=width, min_factor=scale, buffer=pixels)
    except ValueError as complaint:
        # It goes on to the end of the file, and this is all it says if what it left out is as it should be.
        is_as_expected = str(complaint).endswith("extraneous bytes before marker 0xd9")
        return pixels if num_rows < header.size[1] and is_as_expected else None
    return pixels


def _without_rows_below(data: bytes | memoryview, header: JpegHeader, bottom: int) -> tuple[bytes | bytearray, int]:
    """`data` with a height that makes a decoder stop below `bottom`, and that height; saves an eighth of its time.

    Not where that could hide damage: each pass of a progressive JPEG goes over the whole picture, restart intervals
    that are left out look like damaged ones, and a file that was cut short has no end to go on to.
    """
    num_rows = bottom + ROWS_BELOW
    if num_rows >= header.size[1] or header.is_progressive or data[-2:] != b"\xff\xd9":
        return data, header.size[1]
    if RESTART_INTERVALS in bytes(data[header.height_at : header.height_at + TABLES_BYTES]):
        return data, header.size[1]
    shorter = bytearray(data)
    struct.pack_into(">H", shorter, header.height_at, num_rows)
    return shorter, num_rows


def _decode_with_pillow(data: bytes, header: JpegHeader, bottom: int, scale: int) -> np.ndarray | None:
    """OpenCV's own decoder would be a third faster, and leaves gray what is damaged, without a word: of 1,500 files
    damaged at random it took 169 that Pillow and simplejpeg refuse."""
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        if scale > 1:
            image.draft("RGB", (header.size[0] // scale, header.size[1] // scale))
        return np.asarray(image.convert("RGB"))
    except Exception:  # as many types as in `decode`
        return None


DECODERS = {"turbo": _decode_with_turbo, "cv2": _decode_with_pillow}


@cache
def _opencv():
    import cv2

    cv2.setNumThreads(1)  # a worker has one core
    return cv2
