"""What a JPEG says of itself before its pixels, read without a decoder."""

import struct
from typing import NamedTuple

from .decode import MAX_BYTES, MAX_PIXELS


class JpegHeader(NamedTuple):
    """What a JPEG says of itself before its pixels."""

    size: tuple[int, int]  # (width, height)
    height_at: int  # where in the file the height is written
    is_progressive: bool


def ordinary_jpeg(data: bytes | memoryview, *, may_turn: bool = False) -> JpegHeader | None:
    """The header of a gray or YCbCr JPEG of 8 bits; None for any other, or too large, data.

    With `may_turn` also None where there is EXIF. Pillow's header reading would take 5 % of the time of a sample.
    """
    at = 2 if data[:3] == b"\xff\xd8\xff" and len(data) <= MAX_BYTES else len(data)
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in (0xC0, 0xC1, 0xC2):  # baseline, extended, progressive
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            is_ordinary = bits == 8 and channels in (1, 3) and 0 < width * height <= MAX_PIXELS
            return JpegHeader((width, height), at + 5, marker == 0xC2) if is_ordinary else None
        if may_turn and marker == 0xE1 and data[at + 4 : at + 8] == b"Exif":
            return None
        at += 2 + length
    return None
