"""The header of a JPEG: size and coding, read without a decoder."""

import struct
from typing import NamedTuple

from .decode import MAX_BYTES, MAX_PIXELS


class JpegHeader(NamedTuple):
    """What the header of a JPEG says before the pixels."""

    size: tuple[int, int]  # (width, height)
    height_at: int  # position of the height in the file, in bytes
    is_progressive: bool


def read_ordinary_header(data: bytes | memoryview, *, refuse_exif: bool = False) -> JpegHeader | None:
    """Read the header of a gray or YCbCr JPEG of 8 bits; None for any other data, and for an image that is too large.

    With `refuse_exif` also None for a file with EXIF, which may say that the image is to be rotated. Reading the header
    by Pillow would take 5 % of the time of a sample.
    """
    at = 2 if data[:3] == b"\xff\xd8\xff" and len(data) <= MAX_BYTES else len(data)
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in (0xC0, 0xC1, 0xC2):  # baseline, extended, progressive
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            is_ordinary = bits == 8 and channels in (1, 3) and 0 < width * height <= MAX_PIXELS
            return JpegHeader((width, height), at + 5, marker == 0xC2) if is_ordinary else None
        if refuse_exif and marker == 0xE1 and data[at + 4 : at + 8] == b"Exif":
            return None
        at += 2 + length
    return None
