"""JPEG files: the header, read without a decoder, and JPEGs of tiles, of which a crop needs only some.

Any decoder reads the whole image of a JPEG of tiles. A restart marker after every tile makes its bits independent of
the bits before it. A segment of the header, which other readers skip, holds the places of the tiles. Some tiles, with a
header of their size, are a JPEG again.
"""

import io
import math
import re
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from .crop import Crop
from .headers import check_exif
from .limits import (
    MAX_BYTES,
    MAX_HEADER_BYTES,
    MAX_JUNK_BYTES,
    MAX_PHOTOSHOP_BYTES,
    MAX_SEGMENTS,
    NS_PER_SAMPLE_AND_SCAN,
    Header,
    check_costs,
    check_size,
)

TILE_SIDE = 16  # pixels of a tile: the smallest block of a JPEG with colours at half resolution
BLENDED_PIXELS = 2  # pixels of the next tile that the colours of a tile reach

SEGMENT = struct.Struct(">2sH6sI")  # marker, bytes after the marker, name, checksum of the index
# Height and width of the image, their position in the file, the position of the first tile; then the tiles' lengths.
INDEX = struct.Struct(">HHII")
MARKER, NAME = b"\xff\xe9", b"tiles\0"  # APP9, which no standard uses
END = b"\xff\xd9"
MAX_SEGMENT = 65_535  # bytes


# Markers of frames: baseline, extended and progressive; others are lossless or arithmetic, which no browser reads.
FRAMES, OTHER_FRAMES = (0xC0, 0xC1, 0xC2), (0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
SCAN = 0xDA
SEGMENTS = {0xC4, 0xCC, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE}  # tables, restart interval, applications, comment
TOO_MUCH_JUNK = f"more than {MAX_JUNK_BYTES:,} bytes between the parts of a JPEG, the limit; save the image again"
_NEXT_MARKER = re.compile(rb"\xff[^\0\xff]")


class JpegHeader(NamedTuple):
    """What the header of a JPEG says before the pixels."""

    size: tuple[int, int]  # (width, height)
    height_at: int  # position of the height in the file, in bytes
    is_progressive: bool
    mode: str = "RGB"  # of Pillow
    has_exif: bool = False
    may_turn: bool = False  # by EXIF or XMP
    num_scans: int = 1
    num_samples: int = 0  # of all channels, that the decoder collects when there are several scans
    num_header_bytes: int = 0

    @property
    def costs(self) -> Header:
        """What decoding takes beside pixels and bytes."""
        if not self.num_samples:
            return Header("JPEG", self.num_header_bytes, 0, self.may_turn)
        collected = 2 * self.num_samples + self.num_header_bytes
        ns = NS_PER_SAMPLE_AND_SCAN * self.num_samples * self.num_scans
        return Header("progressive JPEG", collected, ns, self.may_turn)


def read_ordinary_header(data: bytes | memoryview, *, refuse_exif: bool = False) -> JpegHeader | None:
    """Read the header of a gray or YCbCr JPEG of 8 bits that can be decoded whole; None for any other data.

    With `refuse_exif` also None for a file with EXIF, which may say that the image is to be rotated. Reading the header
    by Pillow would take 5 % of the time of a sample.
    """
    try:
        header = read_header(data)
        if header is None or header.mode == "CMYK" or (refuse_exif and header.has_exif):
            return None
        return header if check_costs(header.costs, header.size, header.mode, len(data)) == 1 else None
    except ValueError:
        return None


def read_header(data: bytes | memoryview) -> JpegHeader | None:
    """Read the header of a JPEG of 8 bits up to its first scan; None for other data, and where it is cut short.

    Raises:
        ValueError: the header is longer than any genuine one, or of a kind of JPEG that is not decoded.
    """
    if data[:3] != b"\xff\xd8\xff" or len(data) > MAX_BYTES:
        return None
    at, num_segments, num_junk, num_photoshop, header, has_exif, may_turn = 2, 0, 0, 0, None, False, False
    while at + 4 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at] != 0xFF or marker not in SEGMENTS:
            if data[at] == 0xFF and marker in FRAMES and header is None:
                header = _read_frame(data, at, is_progressive=marker == 0xC2)
                if header is None:
                    return None
            elif data[at] == 0xFF and marker == SCAN:
                metadata = {"has_exif": has_exif, "may_turn": may_turn, "num_header_bytes": at}
                return header and _with_scans(data, at, header._replace(**metadata))
            elif data[at] == 0xFF and marker in OTHER_FRAMES:
                raise ValueError(f"JPEG of the rare kind SOF{marker - 0xC0}; save it as a baseline JPEG")
            else:  # fill bytes, or what readers skip byte by byte
                # No further than the limit: among fill bytes the search takes 20 ns for each byte, a second for 60 MB.
                found = _NEXT_MARKER.search(data, at + 1, at + MAX_JUNK_BYTES + 3)
                start, at = at, found.start() if found else min(len(data), at + MAX_JUNK_BYTES + 1)
                num_junk += at - start
                if num_junk > MAX_JUNK_BYTES:
                    raise ValueError(TOO_MUCH_JUNK)
                continue
        elif marker == 0xE1:
            may_turn = True
            if data[at + 4 : at + 8] == b"Exif":
                has_exif = True
                check_exif(data[at + 10 : at + 2 + length])
        elif marker == 0xED:
            num_photoshop += length
            if num_photoshop > MAX_PHOTOSHOP_BYTES:
                raise ValueError(
                    f"a JPEG of more than {MAX_PHOTOSHOP_BYTES >> 20} MB of Photoshop's data, the limit; save the "
                    "image without metadata"
                )
        num_segments += 1
        at += 2 + max(length, 2)
        if num_segments > MAX_SEGMENTS or at > MAX_HEADER_BYTES:
            raise ValueError(
                f"a JPEG header of more than {num_segments} segments or {at >> 20} MB; the limit is {MAX_SEGMENTS} "
                f"segments and {MAX_HEADER_BYTES >> 20} MB; save the image without comments and other metadata"
            )
    return None


def _read_frame(data: bytes | memoryview, at: int, *, is_progressive: bool) -> JpegHeader | None:
    if at + 10 > len(data):
        return None
    bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}.get(channels)
    if bits != 8 or not mode or not width * height:
        return None
    check_size(width, height)
    return JpegHeader((width, height), at + 5, is_progressive, mode)


def _with_scans(data: bytes | memoryview, at: int, header: JpegHeader) -> JpegHeader:
    """Add the number of scans to the header of a JPEG whose first scan is at byte `at`, if there may be several."""
    # Each longer run of fill bytes has one such block; Pillow's time grows with the square of its length.
    block = MAX_JUNK_BYTES // 2
    for start in range(at, len(data) - block, block):
        if data[start] == 0xFF and bytes(data[start : start + block]).count(0xFF) == block:
            raise ValueError(TOO_MUCH_JUNK)
    num_channels = len(header.mode)  # of L, RGB and CMYK
    if not header.is_progressive and (at + 4 >= len(data) or data[at + 4] >= num_channels):
        return header
    frame = header.height_at + 5
    factors = [
        (data[i + 1] >> 4, data[i + 1] & 15) for i in range(frame, min(frame + 3 * num_channels, len(data) - 1), 3)
    ]
    widest, highest = (max(1, *sizes) if len(sizes) > 1 else 1 for sizes in zip(*factors, strict=True))
    share = sum(across * down for across, down in factors) / (widest * highest) if num_channels > 1 else 1
    num_samples = round(share * math.prod(-(-side // 8) * 8 for side in header.size))
    num_scans = bytes(data).count(b"\xff\xda", at)
    return header._replace(num_scans=num_scans, num_samples=num_samples)


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
    header = read_ordinary_header(data)
    if header is None or header.num_samples or (header.size, header.height_at) != ((width, height), height_at):
        return None
    num_rows, num_columns = -(-height // TILE_SIDE), -(-width // TILE_SIDE)
    if height_at + 4 > first or len(index) != INDEX.size + 2 * num_rows * num_columns:
        return None
    lengths = np.frombuffer(index, ">u2", offset=INDEX.size)
    ends = first + lengths.cumsum(dtype=np.int64)
    if ends[-1] != len(data):
        return None
    begins, ends = (places.reshape(num_rows, num_columns) for places in (ends - lengths, ends))
    return Tiles(data, header, begins, ends)


def _end_of_first_segment(data: bytes | memoryview) -> int:
    return 4 + int.from_bytes(data[4:6], "big")
