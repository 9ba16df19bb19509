"""Bytes to pixels: the one function by which training, evaluation, prediction and serving read an image."""

import io
import os
import stat

import numpy as np
from PIL import Image, UnidentifiedImageError

from common.errors import BadImage

from .tar_members import is_member, read_member

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")

# The content decides, not the name. Pillow would also try EPS (through Ghostscript), PDF, WMF and forty more.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 64_000_000  # by the header, before anything is decoded: a PNG of 140 kB can hold 144 million

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: str | os.PathLike, exif_orientation: str = "ignore") -> Image.Image:
    """The RGB image in the file at `path`; rules and errors as in `decode`."""
    return decode(read_bytes(path), os.fspath(path), exif_orientation)


def read_bytes(path: str | os.PathLike) -> bytes | memoryview:
    """The content of the file at `path`, which may be a place in a shard (`datasets.reading.tar_members`).

    Raises BadImage if it is no regular file, too long, or cannot be read.
    """
    path = os.fspath(path)
    try:
        if is_member(path):
            return read_member(path)
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for ever
            raise BadImage(path, "not a regular file")
        if status.st_size > MAX_BYTES:
            raise BadImage(path, _too_long(status.st_size))
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise BadImage(path, getattr(error, "strerror", None) or str(error)) from None


def decode(data: bytes | memoryview, name: str, exif_orientation: str = "ignore") -> Image.Image:
    """The RGB image in `data`; `name` is for the error.

    As in the references, transparency is dropped (hidden colours show), CMYK and palettes are converted by Pillow, an
    animation gives its first frame, and EXIF orientation is ignored unless `exif_orientation` is "apply" (Pillow turns
    TIFF itself). Gray of 16 bits keeps its upper 8, as Pillow does for colour; it would clip gray to white.

    Raises:
        BadImage: the format is not one of FORMATS, the data is damaged or cut short, the file or the image is too
            large, or the pixels have no defined range (float and 32-bit TIFF).
    """
    if len(data) > MAX_BYTES:
        raise BadImage(name, _too_long(len(data)))
    try:
        return _decode(data, name, exif_orientation)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(name, f"not an image of {', '.join(FORMATS)}, or damaged at its start") from None
    except Exception as error:  # damaged data makes Pillow raise some fifteen different types
        raise BadImage(name, f"damaged: {error}") from None


def _decode(data: bytes, name: str, exif_orientation: str) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise BadImage(name, f"{image.width} x {image.height} pixels; the limit is {MAX_PIXELS:,}")
    if image.format == "PNG":
        Image.open(io.BytesIO(data), formats=("PNG",)).verify()  # a wrong checksum would decode to black, silently
    image.load()
    turn = _UPRIGHT.get(_orientation(image)) if exif_orientation == "apply" else None
    image = _to_rgb(image, name)
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise BadImage(name, f"{image.format} of mode {image.mode}: its pixels have no range to scale from; use 8 bits")
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    image.info.pop("transparency", None)  # it is dropped in any case; left in, Pillow warns of it
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # pixels are good even if the EXIF block is not: viewers show such a file unturned
        return 1


def _too_long(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.0f} MB; the limit is {MAX_BYTES // 2**20} MB"
