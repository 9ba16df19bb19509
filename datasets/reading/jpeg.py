"""JPEG files: the header, read without a decoder, and JPEGs of tiles, of which a crop needs only some.

Any decoder reads the whole image of a JPEG of tiles. A restart marker after every tile makes its bits independent of
the bits before it. A segment of the header, which other readers skip, holds the places of the tiles. Some tiles, with a
header of their size, are a JPEG again.
"""

import io
import re
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from .crop import Crop
from .decode import MAX_BYTES, MAX_PIXELS

TILE_SIDE = 16  # pixels of a tile: the smallest block of a JPEG with colours at half resolution
BLENDED_PIXELS = 2  # pixels of the next tile that the colours of a tile reach

SEGMENT = struct.Struct(">2sH6sI")  # marker, bytes after the marker, name, checksum of the index
# Height and width of the image, their position in the file, the position of the first tile; then the tiles' lengths.
INDEX = struct.Struct(">HHII")
MARKER, NAME = b"\xff\xe9", b"tiles\0"  # APP9, which no standard uses
END = b"\xff\xd9"
MAX_SEGMENT = 65_535  # bytes


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


# -------------------------------------------------------------------------------------------------------------- tiles


def encode_tiled(image: Image.Image, quality: int) -> bytes:
    """Encode an RGB image as a JPEG of tiles; as an ordinary JPEG above 32,000 tiles, which are 8 megapixels."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling="4:2:0", optimize=True, restart_marker_blocks=1)
    data = file.getvalue()
    scan = data.rindex(b"\xff\xda")
    first = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    ends = [marker.end() for marker in re.finditer(rb"\xff[\xd0-\xd7]", data[first:])] + [len(data) - first]
    lengths = np.diff(ends, prepend=0)
    segment_size = SEGMENT.size + INDEX.size + 2 * len(lengths)
    if max(segment_size, *lengths) > MAX_SEGMENT:
        return data
    height_at = read_ordinary_header(data).height_at + segment_size
    index = INDEX.pack(image.height, image.width, height_at, first + segment_size)
    index += lengths.astype(">u2").tobytes()
    at = _end_of_first_segment(data)
    return data[:at] + SEGMENT.pack(MARKER, segment_size - 2, NAME, zlib.crc32(index)) + index + data[at:]


class Tiles(NamedTuple):
    """A JPEG of tiles, with the positions of the tiles in the file."""

    data: bytes | memoryview
    header: JpegHeader
    begins: np.ndarray  # int64 [rows, columns]
    ends: np.ndarray  # int64 [rows, columns], after the restart marker

    def around(self, crop: Crop) -> tuple[bytearray, JpegHeader, int, int]:
        """Cut out the tiles that a crop needs.

        Returns:
            A JPEG of these tiles, its header, and the column and row of the image where it begins.
        """
        num_rows, num_columns = self.begins.shape
        columns, rows = _needed(crop.left, crop.width, num_columns), _needed(crop.top, crop.height, num_rows)
        left, top = columns.start * TILE_SIDE, rows.start * TILE_SIDE
        width = min(self.header.size[0], columns.stop * TILE_SIDE) - left
        height = min(self.header.size[1], rows.stop * TILE_SIDE) - top
        begins, ends = self.begins[rows, columns], self.ends[rows, columns]

        first = int(self.begins[0, 0])
        part = bytearray(self.data[:first])
        struct.pack_into(">HH", part, self.header.height_at, height, width)
        for begin, end in zip(begins[:, 0].tolist(), ends[:, -1].tolist(), strict=True):
            part += self.data[begin:end]
        markers = first - 1 + np.cumsum(ends - begins)
        np.frombuffer(part, np.uint8)[markers] = 0xD0 + np.arange(len(markers)) % 8  # decoders check the count
        part[-2:] = END
        return part, self.header._replace(size=(width, height)), left, top


def _needed(start: int, length: int, count: int) -> slice:
    return slice(
        max(0, (start - BLENDED_PIXELS) // TILE_SIDE), min(count, -(-(start + length + BLENDED_PIXELS) // TILE_SIDE))
    )


def find_tiles(data: bytes | memoryview) -> Tiles | None:
    """Read the index of a JPEG of `encode_tiled`; None for other data, and where the index does not fit the file."""
    at = _end_of_first_segment(data)
    if data[at : at + 2] != MARKER or len(data) < at + SEGMENT.size + INDEX.size:
        return None
    _, size, name, checksum = SEGMENT.unpack_from(data, at)
    index = data[at + SEGMENT.size : at + 2 + size]
    if name != NAME or zlib.crc32(index) != checksum:
        return None
    height, width, height_at, first = INDEX.unpack_from(data, at + SEGMENT.size)
    is_consistent = data[height_at : height_at + 4] == struct.pack(">HH", height, width) and height_at + 4 <= first
    num_rows, num_columns = -(-height // TILE_SIDE), -(-width // TILE_SIDE)
    if not is_consistent or not width * height or len(index) != INDEX.size + 2 * num_rows * num_columns:
        return None
    lengths = np.frombuffer(index, ">u2", offset=INDEX.size)
    ends = first + lengths.cumsum(dtype=np.int64)
    if ends[-1] != len(data):
        return None
    begins, ends = (places.reshape(num_rows, num_columns) for places in (ends - lengths, ends))
    return Tiles(data, JpegHeader((width, height), height_at, is_progressive=False), begins, ends)


def _end_of_first_segment(data: bytes | memoryview) -> int:
    return 4 + int.from_bytes(data[4:6], "big")
