"""Decoding by Pillow: the one function by which training, evaluation, prediction and serving decode an image."""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from common.errors import BadImage

from .headers import check_header
from .jpeg import read_header
from .limits import MAX_BYTES, MAX_PIXELS, MAX_TEXT_BYTES, Header, check_costs
from .shards import is_member, read_member

IMAGE_EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi"),
    *(".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif"),
)

AnyImage = str | os.PathLike | bytes | Image.Image | np.ndarray  # what `to_rgb` takes

# The content of a file decides, not its name. Pillow would also try EPS (through Ghostscript), PDF, WMF and forty more.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

# What telephones write instead, also into a file called .jpg: the brands of an ISO media file that holds one picture.
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis")

# A sound PNG may hold megabytes of text, XMP or colour profile; Pillow's own limit is 1 MB each, and 64 MB in all.
PngImagePlugin.MAX_TEXT_CHUNK = MAX_TEXT_BYTES
PngImagePlugin.MAX_TEXT_MEMORY = 4 * MAX_TEXT_BYTES
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # above it Pillow warns; `limits` has refused such an image before

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
            return file.read(status.st_size)  # the file may grow; `read` allocates as many bytes as it is asked for
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise BadImage(path, getattr(error, "strerror", None) or str(error)) from None


def decode(
    data: bytes | memoryview,
    name: str,
    exif_orientation: str = "ignore",
    *,
    least_side: int | None = None,
    may_shrink: bool = True,
) -> Image.Image:
    """Decode the content of an image file to RGB.

    As in the references, transparency is dropped (hidden colours show), Pillow converts CMYK and palettes, an animation
    gives its first frame, and EXIF orientation is ignored unless `exif_orientation` is "apply" (Pillow rotates TIFF by
    itself). Gray of 16 bits keeps its upper 8 bits, as in Pillow's treatment of colour; Pillow would clip such gray to
    white. A JPEG that would take too much memory at its full size, about 40 megapixels, is decoded at 1/2, 1/4 or 1/8
    of its sides.

    Args:
        data: content of the file.
        name: path for the message of an error.
        exif_orientation: "ignore", or "apply" to rotate photographs as EXIF says.
        least_side: a JPEG may be decoded at a fraction of its size, if both sides keep this number of pixels.
        may_shrink: whether a very large JPEG may be decoded smaller; else it is refused.

    Raises:
        BadImage: the format is not one of FORMATS, the data is damaged or cut short, decoding would take more time or
            memory than `limits` allows, or the pixels have no defined range (float and 32-bit TIFF).
    """
    if len(data) > MAX_BYTES:
        raise BadImage(name, _too_long(len(data)))
    try:
        return _decode(data, name, exif_orientation, least_side, may_shrink=may_shrink)
    except BadImage:
        raise
    except UnidentifiedImageError:
        if bytes(data[4:8]) == b"ftyp" and bytes(data[8:12]) in HEIF_BRANDS:
            how = "convert it to JPEG, for example with magick mogrify -format jpg"
            raise BadImage(name, f"a HEIC or AVIF photograph, which is not read: {how}") from None
        raise BadImage(name, f"not an image of {', '.join(FORMATS)}, or damaged at its start") from None
    except Exception as error:  # damaged data makes Pillow raise some fifteen different types
        raise BadImage(name, f"damaged: {error}") from None


def to_rgb(source: AnyImage, exif_orientation: str = "ignore") -> Image.Image:
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


def _decode(data: bytes, name: str, exif_orientation: str, least_side: int | None, *, may_shrink: bool) -> Image.Image:
    with _limits_of(name):
        format_name, header = check_header(data) or ("JPEG", _jpeg_costs(data))
    image = Image.open(io.BytesIO(data), formats=(format_name,))
    with _limits_of(name):
        num_bytes = len(data) * (1 if isinstance(data, bytes) else 2)  # BytesIO copies what is no bytes object
        is_turned = header.may_turn and (exif_orientation == "apply" or format_name == "TIFF")
        if is_turned and format_name != "PNG":  # whose metadata may stand after the pixels
            is_turned = orientation_of(image) != UPRIGHT
        scale = check_costs(header, image.size, image.mode, num_bytes, is_turned=is_turned)
    if scale > 1 and not may_shrink:
        raise BadImage(name, f"{image.width} x {image.height} pixels are decoded only smaller; give a --short_side")
    if least_side is not None:
        scale = max(scale, min(image.size) // least_side)
    if scale > 1:  # does nothing but for a JPEG
        image.draft(None, (max(1, image.width // scale), max(1, image.height // scale)))
    return _upright_rgb(image, name, exif_orientation)


@contextmanager
def _limits_of(name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise BadImage(name, str(error)) from None


def _jpeg_costs(data: bytes | memoryview) -> Header:
    header = read_header(data)
    if header is None:
        raise UnidentifiedImageError
    return header.costs


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
