"""Decoding by Pillow: the one function by which training, evaluation, prediction and serving decode an image."""

import io
import os
import stat

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from common.errors import BadImage

from .shards import is_member, read_member

IMAGE_EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi"),
    *(".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif"),
)

# The content of a file decides, not its name. Pillow would also try EPS (through Ghostscript), PDF, WMF and forty more.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 64_000_000  # checked in the header, before decoding: a PNG of 140 kB can hold 144 million pixels

# A sound PNG may hold megabytes of text, XMP or colour profile; Pillow's own limit is 1 MB each, and 64 MB in all.
PngImagePlugin.MAX_TEXT_CHUNK = 16 * 2**20

_EXIF_ORIENTATION = 0x0112
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # a TIFF tag and its value
UPRIGHT = 1  # EXIF orientation of an image that is not to be rotated
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: str | os.PathLike, exif_orientation: str = "ignore") -> Image.Image:
    """Read and decode the image file at `path` to RGB.

    Raises:
        BadImage: the file cannot be read or decoded; see `decode`.
    """
    return decode(read_bytes(path), os.fspath(path), exif_orientation)


def read_thumbnail(path: str | os.PathLike, side: int, exif_orientation: str = "ignore") -> Image.Image:
    """Read the image file at `path` as RGB with at most `side` pixels a side, to be looked at.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size, in a fraction of the time.

    Raises:
        BadImage: the file cannot be read or decoded; see `decode`.
    """
    image = decode(read_bytes(path), os.fspath(path), exif_orientation, least_side=2 * side)
    image.thumbnail((side, side))
    return image


def read_bytes(path: str | os.PathLike) -> bytes | memoryview:
    """Read the file at `path`, which may be a file in a shard (`datasets.reading.shards`).

    Raises:
        BadImage: `path` is no regular file, is too long, or cannot be read.
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


def decode(
    data: bytes | memoryview, name: str, exif_orientation: str = "ignore", *, least_side: int | None = None
) -> Image.Image:
    """Decode the content of an image file to RGB.

    As in the references, transparency is dropped (hidden colours show), Pillow converts CMYK and palettes, an animation
    gives its first frame, and EXIF orientation is ignored unless `exif_orientation` is "apply" (Pillow rotates TIFF by
    itself). Gray of 16 bits keeps its upper 8 bits, as in Pillow's treatment of colour; Pillow would clip such gray to
    white.

    Args:
        data: content of the file.
        name: path for the message of an error.
        exif_orientation: "ignore", or "apply" to rotate photographs as EXIF says.
        least_side: a JPEG may be decoded at a fraction of its size, if both sides keep this number of pixels.

    Raises:
        BadImage: the format is not one of FORMATS, the data is damaged or cut short, the file or the image is too
            large, or the pixels have no defined range (float and 32-bit TIFF).
    """
    if len(data) > MAX_BYTES:
        raise BadImage(name, _too_long(len(data)))
    try:
        return _decode(data, name, exif_orientation, least_side)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(name, f"not an image of {', '.join(FORMATS)}, or damaged at its start") from None
    except Exception as error:  # damaged data makes Pillow raise some fifteen different types
        raise BadImage(name, f"damaged: {error}") from None


def to_rgb(
    source: str | os.PathLike | bytes | Image.Image | np.ndarray, exif_orientation: str = "ignore"
) -> Image.Image:
    """Convert an image in any form to RGB, as `decode` converts a file.

    Args:
        source: path or content of a file, a PIL image of any mode, or an array [H, W], [H, W, 1], [H, W, 3] or
            [H, W, 4] uint8, or [H, W] uint16.
        exif_orientation: "ignore", or "apply" to rotate photographs as EXIF says; arrays have no EXIF.

    Raises:
        BadImage: the image cannot be read, or has another form.
    """
    if isinstance(source, str | os.PathLike):
        return read_image(source, exif_orientation)
    if isinstance(source, bytes | memoryview):
        return decode(source, "bytes", exif_orientation)
    if isinstance(source, np.ndarray):
        source = _from_array(source)
    if not isinstance(source, Image.Image):
        raise BadImage("image", f"expected a path, bytes, a PIL image or an array, got {type(source).__name__}")
    name = getattr(source, "filename", "") or "image"
    try:
        return _upright_rgb(source, name, exif_orientation)
    except BadImage:
        raise
    except Exception as error:  # a file that Pillow opened lazily may be damaged
        raise BadImage(name, f"damaged: {error}") from None


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    is_grey = array.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    is_colour = array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8
    if not (is_grey or is_colour) or not array.size:
        raise BadImage("image", f"expected an array [H, W, 3] or [H, W] uint8, got {list(array.shape)} {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(array))


def _decode(data: bytes, name: str, exif_orientation: str, least_side: int | None) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise BadImage(name, f"{image.width} x {image.height} pixels; the limit is {MAX_PIXELS:,}")
    if image.format == "PNG":
        Image.open(io.BytesIO(data), formats=("PNG",)).verify()  # Pillow would decode a wrong checksum to black
    if least_side is not None:
        image.draft(None, (least_side, least_side))  # does nothing but for a JPEG
    return _upright_rgb(image, name, exif_orientation)


def _upright_rgb(image: Image.Image, name: str, exif_orientation: str) -> Image.Image:
    image.load()
    transpose = _TRANSPOSE.get(orientation_of(image)) if exif_orientation == "apply" else None
    image = _convert(image, name)
    if transpose is None:
        return image
    image = image.transpose(transpose)
    image.info = {}  # without EXIF, so that nobody rotates it a second time
    return image


def _convert(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise BadImage(name, f"{image.format} of mode {image.mode}: its pixels have no range to scale from; use 8 bits")
    if image.mode.startswith("I"):
        grey = np.asarray(image) >> 8
        if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            grey = 255 - grey  # Pillow inverts such images of 8 bits, not of 16
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    image.info.pop("transparency", None)  # dropped in any case; Pillow would warn of it
    return image.convert("RGB")


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation of an opened image, 1 to 8; UPRIGHT if EXIF is missing, damaged or out of range."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, UPRIGHT)
        return int(value) if value in range(1, 9) else UPRIGHT
    except Exception:  # the pixels are good even if the EXIF block is damaged: viewers do not rotate such a file
        return UPRIGHT


def _too_long(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.0f} MB; the limit is {MAX_BYTES // 2**20} MB"
