"""Image backends: Pillow decodes exactly; libjpeg-turbo and OpenCV decode only what a crop needs, faster."""

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

from ..constants import BACKEND_PACKAGES
from ..preprocess import CenterCrop
from .crop import MAX_RESIZED_PIXELS, Crop, center_crop, crop_and_resize
from .decode import decode, read_bytes
from .jpeg import JpegHeader, Tiles, find_tiles, read_ordinary_header
from .limits import MAX_BYTES

SCALES = (8, 4, 2)  # scales 1/8, 1/4, 1/2 of libjpeg-turbo's DCT that are fast; others cost more than they save
RESTART_INTERVALS = b"\xff\xdd\0\4"
TABLES_BYTES = 2000  # bytes after the height that are searched for a restart interval
ROWS_BELOW = 32  # rows below the crop that are decoded too: colours are blended with the next block, of 8 to 32 rows


class LazyImage(Protocol):
    """An image whose size is known, and whose pixels are decoded when the crop is known."""

    size: tuple[int, int]  # (width, height)

    def crop(self, crop: Crop, side: int) -> Image.Image | np.ndarray:
        """A rectangle fitted into a square, [side, side, 3]."""
        ...

    def center_crop(self, center: CenterCrop) -> Image.Image | np.ndarray:
        """The centre of the resized image, [side, side, 3]."""
        ...


def choose_backend(name: str) -> str:
    """Return `name`, or for "auto" the fastest image backend that is installed.

    Raises:
        MissingDependencyError: a package of the backend is not installed; the message names the package.
    """
    missing = {backend: _missing(packages) for backend, packages in BACKEND_PACKAGES.items()}
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


def open_file(path: str, exif_orientation: str, backend: str) -> LazyImage:
    """Open the image file at `path`, which may be a file in a shard; see `open_image`."""
    return open_image(read_bytes(path), path, exif_orientation, backend)


def open_image(data: bytes | memoryview, name: str, exif_orientation: str, backend: str) -> LazyImage:
    """Open an image file that is in memory.

    Every backend leaves to Pillow what is no ordinary JPEG or PPM: other formats, CMYK, photographs that EXIF may
    rotate, files that are damaged at the start. So each file is good or bad, has the same size, and gives the same
    draws in all backends.

    Args:
        data: content of the file.
        name: path for the message of an error.
        exif_orientation: "ignore", or "apply" to rotate photographs as EXIF says.
        backend: key of BACKEND_PACKAGES.

    Raises:
        BadImage: the file cannot be decoded; some backends notice this only when the crop is asked for.
    """
    tiles = find_tiles(data)
    if tiles:
        return _TiledImage(tiles, name, backend)
    if backend != "pil":
        header = read_ordinary_header(data, refuse_exif=exif_orientation == "apply")
        if header:
            return _JpegImage(data, name, header, DECODERS[backend])
        pixels = raw_pixels(data)
        if pixels is not None:
            return _RawImage(pixels)
    return _DecodedImage(decode(data, name, exif_orientation))


class _DecodedImage:
    """An image that Pillow has decoded whole."""

    def __init__(self, image: Image.Image):
        self.size = image.size
        self._image = image

    def crop(self, crop: Crop, side: int) -> Image.Image:
        return crop_and_resize(self._image, crop, side)

    def center_crop(self, center: CenterCrop) -> Image.Image:
        return center_crop(self._image, center)


class _TiledImage:
    """A JPEG of tiles: the tiles of a crop make a smaller JPEG, which the backend decodes whole."""

    def __init__(self, tiles: Tiles, name: str, backend: str):
        self.size = tiles.header.size
        self._tiles = tiles
        self._name = name
        self._backend = backend

    def crop(self, crop: Crop, side: int) -> Image.Image | np.ndarray:
        data, header, left, top = self._tiles.around(crop)
        crop = crop._replace(left=crop.left - left, top=crop.top - top)
        return self._open(data, header).crop(crop, side)

    def center_crop(self, center: CenterCrop) -> Image.Image | np.ndarray:
        return self._open(self._tiles.data, self._tiles.header).center_crop(center)

    def _open(self, data: bytes | memoryview, header: JpegHeader) -> LazyImage:
        if self._backend == "pil":
            return _DecodedImage(decode(data, self._name))
        return _JpegImage(data, self._name, header, DECODERS[self._backend])


class _JpegImage:
    """A JPEG that is decoded at 1/8, 1/4 or 1/2 where the crop stays large enough, and resized by OpenCV.

    OpenCV does not smooth what it shrinks. After the scaled decoding no side shrinks by more than 2, or 8/3 where the
    other side limits the scale.
    """

    def __init__(self, data: bytes, name: str, header: JpegHeader, decode_rows: Callable):
        self.size = header.size
        self._data = data
        self._name = name
        self._header = header
        self._decode_rows = decode_rows

    def crop(self, crop: Crop, side: int) -> Image.Image | np.ndarray:
        scale = next((scale for scale in SCALES if _is_large_enough(crop, scale * side, scale)), 1)
        pixels = self._decode_rows(self._data, self._header, crop.top + crop.height, scale)
        if pixels is None:  # damaged: Pillow raises BadImage with the reason, or decodes the file
            return crop_and_resize(decode(self._data, self._name), crop, side)
        top, left = round(crop.top / scale), round(crop.left / scale)
        bottom, right = round((crop.top + crop.height) / scale), round((crop.left + crop.width) / scale)
        return _resize(pixels[top:bottom, left:right], crop, side)

    def center_crop(self, center: CenterCrop) -> Image.Image | np.ndarray:
        # The exact size would do, as in training, but doubles the distance from Pillow's pixels.
        scale = next((scale for scale in SCALES if center.shrinks_by(self.size) >= 1.5 * scale), 1)
        pixels = self._decode_rows(self._data, self._header, self.size[1], scale)
        if pixels is None:
            return center_crop(decode(self._data, self._name), center)
        return _resize_and_crop_center(pixels, center)


def raw_pixels(data: bytes | memoryview) -> np.ndarray | None:
    """The pixels [H, W, 3] uint8 of a PPM as `datasets.pack` writes it, not copied; None for any other data."""
    header = re.match(rb"P6\n(\d{1,5}) (\d{1,5})\n255\n", bytes(data[:20]))
    if header is None:
        return None
    width, height = map(int, header.groups())
    if len(data) > MAX_BYTES or len(data) != header.end() + 3 * width * height or not width * height:
        return None
    return np.frombuffer(data, np.uint8, offset=header.end()).reshape(height, width, 3)


class _RawImage:
    """Raw pixels, which nothing decodes; only the pages of the file that hold the crop are read."""

    def __init__(self, pixels: np.ndarray):
        self.size = pixels.shape[1::-1]
        self._pixels = pixels

    def crop(self, crop: Crop, side: int) -> np.ndarray:
        inside = self._pixels[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        return _resize(inside, crop, side, smooth=_is_large_enough(crop, 2 * side, 1))

    def center_crop(self, center: CenterCrop) -> np.ndarray:
        return _resize_and_crop_center(self._pixels, center)


def _is_large_enough(crop: Crop, pixels: int, scale: int) -> bool:
    """Whether the crop can lose pixels before it is fitted: the side that shrinks least has at least `pixels`.

    That is the long side of a letterbox, whose short side is to keep a pixel at 1/`scale`.
    """
    if crop.fit == "letterbox":
        return max(crop.width, crop.height) >= pixels and min(crop.width, crop.height) >= 2 * scale
    return min(crop.width, crop.height) >= pixels


def _resize(pixels: np.ndarray, crop: Crop, side: int, *, smooth: bool = False) -> np.ndarray:
    """Fit the pixels of a crop into a square; `smooth` averages what is shrunk, as Pillow does, in four times the time.

    A rectangle that is squashed to half of its other side or less is smoothed too.
    """
    boxed = crop.letterbox(side)
    if crop.fit == "squash":
        height, width, _ = pixels.shape
        smooth = smooth or (min(width, height) >= side and max(width, height) >= 2 * side)
    cv2 = _opencv()
    method = cv2.INTER_CUBIC if crop.interpolation == "bicubic" else cv2.INTER_LINEAR
    size = (boxed.width, boxed.height) if boxed else (side, side)
    resized = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if smooth else method)
    return _with_border(resized, boxed) if boxed else resized


def _with_border(pixels: np.ndarray, center: CenterCrop) -> np.ndarray:
    """Put an image that is smaller than the square into its middle."""
    square = np.empty((center.side, center.side, 3), np.uint8)
    square[:] = center.fill
    square[-center.top :, -center.left :][: center.height, : center.width] = pixels
    return square


def _resize_and_crop_center(pixels: np.ndarray, center: CenterCrop) -> np.ndarray:
    """Resize to a whole multiple of the wanted size, crop the centre, and average it down.

    On photographs the result is 0.7 of 255 from Pillow's antialiasing; INTER_AREA alone is 1.0 from it, in three times
    the time. Pillow itself resizes an image that is so long that its multiple would fill the memory, and applies the
    interpolations that OpenCV does not have.
    """
    height, width, _ = pixels.shape
    across = down = _times(center.shrinks_by((width, height)))
    if center.fit == "squash":
        across, down = _times(width / center.width), _times(height / center.height)
    is_too_large = across * down * center.width * center.height > MAX_RESIZED_PIXELS
    if is_too_large or center.interpolation not in ("bilinear", "bicubic"):
        return np.asarray(center_crop(Image.fromarray(pixels), center))
    cv2 = _opencv()
    method = cv2.INTER_CUBIC if center.interpolation == "bicubic" else cv2.INTER_LINEAR
    resized = cv2.resize(pixels, (across * center.width, down * center.height), interpolation=method)
    is_boxed = center.width < center.side or center.height < center.side
    size = (center.width, center.height) if is_boxed else (center.side, center.side)
    top, left = (0, 0) if is_boxed else (down * center.top, across * center.left)
    kept = resized[top : top + down * size[1], left : left + across * size[0]]
    averaged = cv2.resize(kept, size, interpolation=cv2.INTER_AREA) if across * down > 1 else kept
    return _with_border(averaged, center) if is_boxed else averaged


def _times(shrinks_by: float) -> int:
    """The whole multiple of the wanted size to which a side that shrinks by this factor is resized first."""
    return 2 * math.ceil(shrinks_by / 2) if shrinks_by > 1 else 1


def _decode_with_turbo(data: bytes, header: JpegHeader, bottom: int, scale: int) -> np.ndarray | None:
    """Decode at least the rows above `bottom`; None for a file that Pillow calls damaged, wherever the damage is."""
    import simplejpeg

    data, num_rows = _without_rows_below(data, header, bottom)
    pixels = np.empty((-(-num_rows // scale), -(-header.size[0] // scale), 3), np.uint8)
    height, width, _ = pixels.shape
    try:
        simplejpeg.decode_jpeg(data, min_height=height, min_width=width, min_factor=scale, buffer=pixels)
    except ValueError as complaint:
        # The decoder reads to the end of the file; this is its only complaint if the omitted rows are not damaged.
        is_as_expected = str(complaint).endswith("extraneous bytes before marker 0xd9")
        return pixels if num_rows < header.size[1] and is_as_expected else None
    return pixels


def _without_rows_below(data: bytes | memoryview, header: JpegHeader, bottom: int) -> tuple[bytes | bytearray, int]:
    """Change the height in the header so that a decoder stops below row `bottom`, an eighth faster.

    Returns the data and the height. The data is unchanged where a smaller height could hide damage: every pass of a
    progressive JPEG covers the whole image, omitted restart intervals look like damaged ones, and a file that was cut
    short has no end marker.
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
    """Decode all rows; None for a damaged file.

    OpenCV's own decoder is a third faster, but fills damaged parts with gray and reports nothing: of 1,500 files
    damaged at random it accepted 169 that Pillow and simplejpeg refuse.
    """
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

    cv2.setNumThreads(1)  # a worker has one processor
    return cv2
