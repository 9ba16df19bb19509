"""Headers of all formats but JPEG: which decoder a file needs and how much metadata it has, before Pillow reads it.

Pillow reads metadata in Python, element by element, and keeps it in memory. Each function here walks over the same
elements, counts them, and refuses a file that has more than `limits` allows. Where a file is cut short or is not what
its first bytes say, the function returns: Pillow then finds the fault in a short time.
"""

import re
import struct
import zlib

from .limits import (
    COSTS,
    MAX_COMPRESSED_TEXTS,
    MAX_HEADER_BYTES,
    MAX_JUNK_BYTES,
    MAX_PARTS,
    MAX_SEGMENTS,
    MAX_STRIP_BYTES,
    MAX_STRIP_SCANS,
    MAX_STRIPS,
    MAX_TAGS,
    MAX_TEXT_BYTES,
    Header,
    check_size,
)


class _Metadata:
    """Counts segments and bytes of metadata."""

    def __init__(self, format_name: str):
        self._format = format_name
        self.num_parts = self.num_segments = self.num_bytes = 0

    def add(self, num_bytes: int, *, is_metadata: bool = True) -> None:
        """Count one element.

        Raises:
            ValueError: there are too many of them, or they are too long.
        """
        self.num_parts += 1
        if self.num_parts > MAX_PARTS:
            raise ValueError(f"a {self._format} file of more than {MAX_PARTS:,} parts, the limit; save the image again")
        if is_metadata:
            self.num_segments += 1
            self.num_bytes += num_bytes
        if self.num_segments > MAX_SEGMENTS or self.num_bytes > MAX_HEADER_BYTES:
            raise ValueError(
                f"more than {MAX_SEGMENTS} pieces or {MAX_HEADER_BYTES >> 20} MB of metadata in a {self._format} file, "
                "the limit; save the image without comments and other metadata"
            )


# ---------------------------------------------------------------------------------------------------------------- PNG


def check_png(data: memoryview) -> Header:
    """Walk over the chunks of a PNG and compare their checksums; Pillow would decode a wrong one to black.

    Raises:
        ValueError: a checksum is wrong, the file is cut short after its first pixels, or has too much metadata.
    """
    metadata, num_compressed, at, has_pixels, may_turn = _Metadata("PNG"), 0, 8, False, False
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        if kind == b"IHDR" and length >= 13:
            check_size(*struct.unpack_from(">II", data, at + 8))
        is_pixels = kind in (b"IDAT", b"fdAT", b"fcTL")
        metadata.add(length, is_metadata=not is_pixels)
        num_compressed += kind in (b"zTXt", b"iTXt", b"iCCP")
        if num_compressed > MAX_COMPRESSED_TEXTS:
            raise ValueError(
                f"more than {MAX_COMPRESSED_TEXTS} compressed texts or colour profiles in a PNG file, the limit; save "
                "the image without them"
            )
        may_turn = may_turn or kind in (b"eXIf", b"zTXt", b"tEXt", b"iTXt")
        if kind == b"eXIf":
            check_exif(data[at + 8 : end])
        if zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError(f"damaged: wrong checksum of the PNG chunk {kind.decode('latin1')}")
        if kind == b"IEND":
            return Header("PNG", 5 * metadata.num_bytes + 2 * MAX_TEXT_BYTES * num_compressed, 0, may_turn)
        has_pixels = has_pixels or is_pixels
        at = end + 4
    if has_pixels:
        raise ValueError("damaged: truncated PNG file")
    return Header("PNG", 5 * metadata.num_bytes)


# --------------------------------------------------------------------------------------------------------------- WebP


def check_webp(data: memoryview) -> Header:
    """Walk over the chunks of a WebP; the decoder allocates the canvas when the file is opened.

    Raises:
        ValueError: the canvas is too large, or there is too much metadata.
    """
    metadata, at, may_turn = _Metadata("WebP"), 12, False
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + length]
        metadata.add(length, is_metadata=kind not in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANMF"))
        may_turn = may_turn or kind in (b"EXIF", b"XMP ")
        if kind == b"EXIF":
            check_exif(body[6:] if body[:6] == b"Exif\0\0" else body)
        at += 8 + length + length % 2
    return Header("WEBP", 2 * metadata.num_bytes, 0, may_turn)


# ---------------------------------------------------------------------------------------------------------------- GIF


_GIF_BLOCK = re.compile(rb"[!,;]")
_NUM_SKIPPED_AS_ONE = 16  # bytes of metadata that take as long as one byte between blocks, which Pillow skips singly


def check_gif(data: memoryview) -> Header:
    """Walk over the blocks of a GIF up to its second frame, which `datasets.check` looks for.

    Raises:
        ValueError: there are too many extensions, comments or blocks.
    """
    metadata, num_frames, at = _Metadata("GIF"), 0, 13 + _palette_bytes(data, 10)
    while at < len(data) and num_frames < 2:
        if data[at] == 0x3B:
            break
        if data[at] == 0x21:
            at, num_bytes, num_blocks = _skip_blocks(data, at + 2)
            metadata.add(num_bytes)
            metadata.num_parts += num_blocks
        elif data[at] == 0x2C:
            num_frames += 1
            at, _, _ = _skip_blocks(data, at + 11 + _palette_bytes(data, at + 9))
        else:
            most = at + MAX_HEADER_BYTES // _NUM_SKIPPED_AS_ONE + 1
            found = _GIF_BLOCK.search(data, at, most)
            end = found.start() if found else min(len(data), most)
            metadata.add(_NUM_SKIPPED_AS_ONE * (end - at))
            at = end
    return Header("GIF", 2 * metadata.num_bytes)


def _palette_bytes(data: memoryview, at: int) -> int:
    return 3 << (data[at] & 7) + 1 if at < len(data) and data[at] & 0x80 else 0


def _skip_blocks(data: memoryview, at: int) -> tuple[int, int, int]:
    """Skip blocks of 1 to 255 bytes up to the empty one; returns the next byte, and how many bytes and blocks."""
    start, num_blocks = at, 0
    while at < len(data) and data[at]:
        at += data[at] + 1
        num_blocks += 1
        if num_blocks > MAX_PARTS and at - start < 64 * num_blocks:
            raise ValueError(f"a GIF of short blocks, of which the limit is {MAX_PARTS:,}; save the image again")
    return at + 1, at - start, num_blocks


# --------------------------------------------------------------------------------------------------------------- TIFF

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_LETTERS = {1: "B", 6: "b", 3: "H", 8: "h", 4: "I", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIP_OFFSETS, _ORIENTATION = 256, 257, 258, 259, 273, 274
_CHANNELS, _ROWS, _STRIP_BYTES = 277, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
# raw, CCITT (2 to 4), LZW, JPEG, deflate, PackBits; the memory of others (LZMA, Zstandard, WebP, old JPEG) is unknown
_COMPRESSIONS, _RAW, _JPEG = {1, 2, 3, 4, 5, 7, 8, 32773, 32946}, 1, 7
_OTHER_FRAME = re.compile(rb"\xff[\xc2\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]\0[\x0b\x11\x14]")


def check_tiff(data: memoryview) -> Header:
    """Read the first directory of a TIFF.

    Raises:
        ValueError: the directory has too many or too long tags, or the pixels are compressed in a way that cannot be
            bounded.
    """
    tags, num_bytes = _read_tags(data)
    [compression, *_] = tags(_COMPRESSION) or [1]
    if compression not in _COMPRESSIONS:
        raise ValueError(
            f"TIFF of compression {compression}; the limit is to LZW, deflate, JPEG, PackBits, CCITT, none"
        )
    [width, *_], [height, *_] = tags(_WIDTH) or [0], tags(_HEIGHT) or [0]
    check_size(width, height)
    [tile_width, *_], [tile_height, *_] = tags(_TILE_WIDTH) or [0], tags(_TILE_HEIGHT) or [0]
    check_size(tile_width, tile_height)
    offsets = tags(_STRIP_OFFSETS) or tags(_TILE_OFFSETS) or []
    lengths = tags(_STRIP_BYTES) or tags(_TILE_BYTES) or []
    if compression != _RAW and sum(map(abs, lengths)) > 2 * len(data):
        raise ValueError("damaged: the strips of the TIFF are together longer than the file, the limit")
    if compression == _JPEG:
        _check_jpeg_strips(data, offsets, lengths)
    # libtiff has one strip or tile in memory, and decodes a tile, which may be larger than the image, whole.
    bits, [channels, *_], [rows, *_] = tags(_BITS) or [1], tags(_CHANNELS) or [1], tags(_ROWS) or [height]
    pixel_bits = max(sum(bits), bits[0] * channels)
    part = tile_width * tile_height or (width * min(height, rows) if compression != _RAW else 0)
    excess = max(0, tile_width * tile_height * len(offsets) - width * height)
    extra_bytes = part * pixel_bits // 8 + 400 * len(offsets) + 5 * num_bytes
    return Header("TIFF", extra_bytes, COSTS["TIFF"].ns_per_pixel * excess, tags(_ORIENTATION) not in (None, [1]))


def _check_jpeg_strips(data: memoryview, offsets: list[int], lengths: list[int]) -> None:
    """Refuse strips of several scans, each of which may cover the whole strip, and strips that are long to search."""
    strips = list(zip(offsets, lengths, strict=False)) if lengths else [(0, len(data))] * bool(offsets)
    if sum(max(0, length) for _, length in strips) > MAX_STRIP_BYTES:
        raise ValueError(
            f"TIFF with JPEG strips of more than {MAX_STRIP_BYTES >> 20} MB, the limit; save it with another "
            "compression"
        )
    for offset, length in strips:
        strip = bytes(data[max(0, offset) : max(0, offset) + max(0, length)])
        num_scans = strip.count(b"\xff\xda")
        if num_scans > (MAX_STRIP_SCANS if lengths else MAX_STRIP_SCANS * len(offsets)) or _OTHER_FRAME.search(strip):
            raise ValueError(
                f"TIFF with a JPEG strip of {num_scans} scans, or of no baseline JPEG; the limit is {MAX_STRIP_SCANS}; "
                "save it with another compression"
            )


def check_exif(block: memoryview | bytes) -> None:
    """Check the number and the length of the tags of an EXIF block, from its TIFF header on.

    Raises:
        ValueError: there are more than any camera writes.
    """
    _read_tags(memoryview(block))


def _read_tags(data: memoryview):
    """Read the first directory; returns a function from a tag to its numbers, and the bytes of all tags."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 16:
        return lambda tag: None, 0
    is_big = data[2] == 43  # BigTIFF, as Pillow decides it
    count_format, entry, number = (order + code for code in (("Q", "HHQ8s", "Q") if is_big else ("H", "HHI4s", "I")))
    entry_bytes, value_bytes = struct.calcsize(entry), struct.calcsize(number)
    [at] = struct.unpack_from(number, data, 8 if is_big else 4)
    first = at + struct.calcsize(count_format)
    if first > len(data):
        return lambda tag: None, 0
    [count] = struct.unpack_from(count_format, data, at)
    count = min(count, (len(data) - first) // entry_bytes)
    if count > MAX_TAGS:
        raise ValueError(f"a directory of {count} tags; the limit is {MAX_TAGS}; save the image without metadata")
    places, num_bytes = {}, 0
    for i in range(count):
        tag, kind, length, value = struct.unpack_from(entry, data, first + i * entry_bytes)
        size = _TYPE_BYTES.get(kind, 0) * length
        place = first + i * entry_bytes + entry_bytes - value_bytes
        if size > value_bytes:
            [place] = struct.unpack(number, value)
        num_bytes += min(size, max(0, len(data) - place))
        places.setdefault(tag, (kind, length, place))
    if num_bytes > MAX_HEADER_BYTES:
        raise ValueError(
            f"tags of {num_bytes >> 20} MB; the limit is {MAX_HEADER_BYTES >> 20} MB; save the image without metadata"
        )

    def numbers(tag: int) -> list[int] | None:
        kind, length, place = places.get(tag, (0, 0, 0))
        letter = _LETTERS.get(kind)
        if letter is None or place + length * _TYPE_BYTES[kind] > len(data):
            return None
        if length > MAX_STRIPS:
            raise ValueError(f"a TIFF of {length} strips or tiles; the limit is {MAX_STRIPS:,}; save the image again")
        return list(struct.unpack_from(f"{order}{length}{letter}", data, place))

    return numbers, num_bytes


# ----------------------------------------------------------------------------------------------------------- BMP, PPM


def check_bmp(data: memoryview) -> Header:
    """Read whether the pixels of a BMP are run lengths."""
    has_runs = len(data) >= 34 and int.from_bytes(data[14:18], "little") >= 40 and data[30] in (1, 2)
    return Header("BMP with run lengths" if has_runs else "BMP")


def check_ppm(data: memoryview) -> Header:
    """Read whether the pixels of a PPM are text, or have another maximum than Pillow's decoders in C take.

    Raises:
        ValueError: the header, with its comments, is too long.
    """
    kind = bytes(data[1:2])
    for num_bytes in (256, MAX_JUNK_BYTES):
        start = bytes(data[:num_bytes])
        fields = re.sub(rb"#[^\r\n]*([\r\n]|$)", b" ", start).split(None, 4)
        if len(fields) > (3 if kind in (b"1", b"4") else 4) or num_bytes >= len(data):
            break
    else:
        raise ValueError(
            f"a PPM header of more than {MAX_JUNK_BYTES} bytes, the limit; save the image without comments"
        )
    if kind in (b"1", b"2", b"3"):
        return Header("plain PPM")
    maximum = fields[3] if len(fields) > 3 else b""
    is_fast = kind not in (b"5", b"6") or maximum == b"255" or (kind == b"5" and maximum == b"65535")
    return Header("PPM" if is_fast else "PPM of a maximum that is neither 255 nor 65535")


# By the first bytes of a file, which its format needs: its name in Pillow, and the function above.
_STARTS = {
    b"\x89PNG\r\n\x1a\n": ("PNG", check_png),
    b"RIFF": ("WEBP", check_webp),
    b"GIF8": ("GIF", check_gif),
    **dict.fromkeys((b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"MM\0+", b"II+\0"), ("TIFF", check_tiff)),
    b"BM": ("BMP", check_bmp),
    **dict.fromkeys((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf"), ("PPM", check_ppm)),
}


def check_header(data: bytes | memoryview) -> tuple[str, Header] | None:
    """Find the format of a file by its first bytes, and check its header; None for JPEG and for unknown formats.

    Raises:
        ValueError: the header has more than `limits` allows; see the function of the format.
    """
    start = bytes(data[:8])
    for prefix, (format_name, check) in _STARTS.items():
        if start.startswith(prefix):
            return format_name, check(memoryview(data))
    return None
