"""Image files that cost a decoder much more than their pixels are worth, made by code: KINDS, and mutants of them."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import numpy as np
from PIL import Image

from datasets.reading.jpeg import encode_tiled
from tests.datasets.corpus import IMAGE, JPEG, ONE_PIXEL, PNG, deflated_zeros, png
from tests.datasets.fake_images import encode_image, fake_image

MOST = 60_000_000  # bytes of a file; the limit of the project is 64 MiB


def amount(rng: random.Random, most: float) -> int:
    """A number up to `most`, as often between 1/10 and 1 of it as between 1/100 and 1/10."""
    return int(most * 10 ** rng.uniform(-2, 0))


# --------------------------------------------------------------------------------------------------------------- JPEG


def segment(marker: int, body: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


@cache
def progressive(width: int = 60, height: int = 40, mode: str = "RGB") -> tuple[bytes, list[bytes]]:
    """A progressive JPEG up to its first scan, and its scans, each with the tables after it."""
    data = encode_image(fake_image(width, height).convert(mode), "JPEG", quality=80, progressive=True)
    places = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"] + [len(data) - 2]
    return data[: places[0]], [data[a:b] for a, b in pairwise(places)]


def repeated_scan(rng: random.Random) -> bytes:
    width, height = rng.choice([(60, 40), (500, 375), (1500, 1000)])
    start, scans = progressive(width, height)
    which = rng.randrange(len(scans))
    times = min(amount(rng, 20_000), MOST // len(scans[which]))
    return start + b"".join(scans[:which]) + scans[which] * times + b"".join(scans[which:]) + b"\xff\xd9"


def comments_between_scans(rng: random.Random) -> bytes:
    start, scans = progressive(500, 375)
    return start + scans[0] + segment(0xFE) * amount(rng, MOST / 4) + b"".join(scans[1:]) + b"\xff\xd9"


def scans_of_one_channel(rng: random.Random) -> bytes:
    """A baseline JPEG whose channels are in scans of their own, of which one is repeated."""
    colour = encode_image(fake_image(800, 600), "JPEG", subsampling="4:4:4")
    gray = encode_image(fake_image(800, 600).convert("L"), "JPEG")
    at, gray_at = colour.index(b"\xff\xda"), gray.index(b"\xff\xda") + 10
    scan = segment(0xDA, b"\1\1\0\0\x3f\0") + gray[gray_at:-2]
    return colour[:at] + scan * min(amount(rng, 20_000), MOST // len(scan)) + b"\xff\xd9"


def jpeg_with(rng: random.Random, part: bytes, most: float = MOST, *, after_scan: bool = False) -> bytes:
    at = len(JPEG) - 2 if after_scan else 2
    return JPEG[:at] + part * max(1, amount(rng, most) // len(part)) + JPEG[at:]


def flat_jpeg(rng: random.Random, most: int, mode: str = "RGB", **options) -> bytes:
    """A JPEG of one colour and many pixels: few bytes, each of which is decoded to many pixels."""
    return _flat(round(amount(rng, most) ** 0.5), mode, "JPEG", tuple(options.items()))


@cache
def _flat(side: int, mode: str, kind: str, options: tuple = ()) -> bytes:
    side = max(16, side // 500 * 500)
    return encode_image(Image.new(mode, (side, side), 99), kind, **dict(options))


def claimed_jpeg(rng: random.Random, marker: int = 0xC0, data: bytes = JPEG) -> bytes:
    """A JPEG of another size than its header says, or of another kind."""
    at = data.index(b"\xff\xc0") + 5
    size = struct.pack(">HH", rng.choice([0, 8000, 65_500]), amount(rng, 65_535))
    return data[: at - 4] + bytes([marker]) + data[at - 3 : at] + size + data[at + 4 :]


def tags(rng: random.Random, num: int, length: int, order: str = "<", offset: int = 8) -> bytes:
    """A TIFF directory whose tags all claim the same bytes."""
    numbers = (1000 + i % 64_000 for i in range(num))
    entries = [struct.pack(order + "HHII", tag, 7, length, offset) for tag in numbers]
    return struct.pack(order + "H", num) + b"".join(entries) + bytes(4)


def exif(rng: random.Random, most_tags: int = 5400) -> bytes:
    num = amount(rng, most_tags)
    return b"II*\0\x08\0\0\0" + tags(rng, num, 12 * num)


def orientation() -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x0112, 3, 1, 6, 0)


def turned(jpeg: bytes) -> bytes:
    return jpeg[:2] + segment(0xE1, b"Exif\0\0" + orientation()) + jpeg[2:]


def jpeg_of_long_exif(rng: random.Random) -> bytes:
    block = exif(rng, 65_535)
    parts = [segment(0xE1, b"Exif\0\0" + block[i : i + 60_000]) for i in range(0, len(block), 60_000)]
    return JPEG[:2] + b"".join(parts) + JPEG[2:]


def forged_tiles(rng: random.Random) -> bytes:
    """A JPEG of tiles whose data has another kind than its index says, with a true checksum."""
    data = bytearray(encode_tiled(fake_image(400, 300), 80))
    at = data.index(b"\xff\xc0")
    data[at + 1] = rng.choice([0xC0, 0xC2])
    data[at + 5 : at + 9] = struct.pack(">HH", *rng.choice([(300, 400), (65_000, 65_000)]))
    return bytes(data) + b"\xff\xda" * amount(rng, 10_000)


# ---------------------------------------------------------------------------------------------------------------- PNG


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(rng: random.Random, *parts: bytes, most: float = MOST, at_end: bool = False, data: bytes = PNG) -> bytes:
    at = len(data) - 12 if at_end else 33
    whole = b"".join(parts)
    return data[:at] + whole * max(1, amount(rng, most) // len(whole)) + data[at:]


def png_bomb(rng: random.Random, depth: int, colour: int, interlaced: bool = False) -> bytes:
    side = round(amount(rng, 3e8) ** 0.5)
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[colour]
    rows = side * (side * channels * depth // 8 + 1)
    data = bytearray(png(side, side, depth, colour, deflated_zeros(2**20, rows // 2**20 + 2)))
    if interlaced:
        data[28] = 1
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def broken_text(kind: bytes, head: bytes) -> bytes:
    """A compressed text that inflates to nearly the limit and then is damaged."""
    return chunk(kind, head + deflated_zeros(2**20, 3)[:-6] + b"\xff" * 8)


@cache
def noisy_png(side: int) -> bytes:
    rows = np.random.default_rng(0).integers(0, 16, (side, 3 * side + 1), dtype=np.uint8)
    rows[:, 0] %= 5  # the filter
    return png(side, side, 8, 2, zlib.compress(rows, 1))


def long_strip(rng: random.Random) -> bytes:
    """An image that becomes much larger when its short side is resized to 256 pixels."""
    size = sorted([rng.choice([1, 2, 80, 150]), amount(rng, 65_535)], reverse=rng.random() < 0.5)
    return png(*size, 8, 2, deflated_zeros(2**16, 3 * (size[0] + 1) * size[1] // 2**16 + 2))


def animated_png(rng: random.Random) -> bytes:
    frames, number = b"", 0
    for _ in range(amount(rng, 12_000)):
        frames += chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, 1, 1, 0, 0, 1, 1, 0, 0))
        frames += chunk(b"fdAT", struct.pack(">I", number + 1) + ONE_PIXEL)
        number += 2
        if len(frames) > 2_000_000:
            break
    return png(1, 1, 8, 2, ONE_PIXEL, (b"acTL", struct.pack(">II", 10_000, 0)))[:-12] + frames + chunk(b"IEND")


# --------------------------------------------------------------------------------------------------------- GIF, WebP


def gif(rng: random.Random, part: bytes, *, at_end: bool = False, side: int = 4, frame: int = 4) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    body = b"," + struct.pack("<HHHHB", 0, 0, frame, frame, 0) + b"\2\x05\x84\x8f\xa9\xcb\xed\0"
    parts = part * (amount(rng, MOST) // len(part)) if part else b""
    return head + body + parts + body + b";" if at_end else head + parts + body + body + b";"


def gif_of_short_blocks(rng: random.Random) -> bytes:
    return gif(rng, b"")[:30] + b"\1\x84" * amount(rng, MOST / 2) + b"\0" + gif(rng, b"")[30:]


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(part)) + part + bytes(len(part) % 2) for kind, part in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def webp_canvas(rng: random.Random) -> bytes:
    """An animation with a large canvas and a small frame."""
    small = encode_image(IMAGE, "WEBP", lossless=True)[12:]
    side = amount(rng, 16_383)
    size = (side - 1).to_bytes(3, "little") * 2
    frame = bytes(6) + (59).to_bytes(3, "little") + (39).to_bytes(3, "little") + bytes(4) + small
    return webp((b"VP8X", b"\2\0\0\0" + size), (b"ANIM", bytes(6)), *[(b"ANMF", frame)] * rng.choice([1, 2, 500]))


def webp_chunks(rng: random.Random) -> bytes:
    small = encode_image(IMAGE, "WEBP", lossless=True)[20:]
    head = (b"VP8X", bytes(4) + (59).to_bytes(3, "little") + (39).to_bytes(3, "little"))
    return webp(head, (b"VP8L", small), *[(rng.choice([b"EXIF", b"abcd", b"XMP "]), b"")] * amount(rng, 1e6))


# ---------------------------------------------------------------------------------------------------------- TIFF, BMP


def tiff(rng: random.Random, fields: dict, data: bytes, order: str = "<") -> bytes:
    """A TIFF of one page: `fields` by tag, each (type, values); the strip begins at byte 8."""
    entries, more, at = [], b"", 8 + len(data) + 2 + 12 * len(fields) + 4
    for tag, (kind, values) in sorted(fields.items()):
        packed = struct.pack(f"{order}{len(values)}{'?BBHI'[kind]}", *values)
        place = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(order + "I", at + len(more))
        more += b"" if len(packed) <= 4 else packed
        entries.append(struct.pack(order + "HHI", tag, kind, len(values)) + place)
    start = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(order + "H", len(fields)) + b"".join(entries) + bytes(4)
    return start + struct.pack(order + "I", 8 + len(data)) + data + directory + more


def tiff_fields(width: int, height: int, compression: int, num_bytes: int, channels: int = 3) -> dict:
    return {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [8] * channels),
        259: (3, [compression]),
        262: (3, [2 if channels > 1 else 1]),
        273: (4, [8]),
        277: (3, [channels]),
        278: (4, [height]),
        279: (4, [num_bytes]),
    }


def tiff_bomb(rng: random.Random, compression: int) -> bytes:
    side = round(amount(rng, 4e8) ** 0.5)
    data = deflated_zeros(2**20, 3 * side * side // 2**20 + 1) if compression == 8 else b"\x81\0" * (amount(rng, 2e7))
    return tiff(rng, tiff_fields(side, side, compression, len(data)), data)


def tiff_strips(rng: random.Random, compression: int, data: bytes) -> bytes:
    """Many strips that are the same bytes of the file."""
    num = amount(rng, 60_000)
    fields = tiff_fields(64, num, compression, len(data))
    return tiff(rng, fields | {273: (4, [8] * num), 278: (4, [1]), 279: (4, [len(data)] * num)}, data)


def tiff_tiles(rng: random.Random) -> bytes:
    side = amount(rng, 60_000) // 16 * 16 + 16
    fields = tiff_fields(100, 100, 8, 0)
    for tag in (273, 278, 279):
        del fields[tag]
    data = deflated_zeros(2**20, 40)
    return tiff(rng, fields | {322: (4, [side]), 323: (4, [side]), 324: (4, [8]), 325: (4, [len(data)])}, data)


def tiff_of_jpeg(rng: random.Random, data: bytes = b"") -> bytes:
    data = data or repeated_scan(rng)[: MOST // 2]
    return tiff(rng, tiff_fields(60, 40, 7, len(data)), data)


def tiff_tags(rng: random.Random) -> bytes:
    size = amount(rng, MOST)
    start = b"II*\0" + struct.pack("<I", 8) + tags(rng, amount(rng, 60_000), size, offset=8)
    return start.ljust(size, b"\0")


def tiff_pages(rng: random.Random) -> bytes:
    page = encode_image(IMAGE, "TIFF")
    return encode_image(IMAGE, "TIFF", save_all=True, append_images=[IMAGE] * amount(rng, 300)) + page


def big_tiff(rng: random.Random) -> bytes:
    num = amount(rng, 2_000_000)
    entry = struct.pack("<HHQQ", 270, 2, 2 ** rng.randrange(10, 62), 16)
    return b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, num) + entry * num + bytes(8)


def bmp(rng: random.Random, bits: int, compression: int, body: bytes, side: int) -> bytes:
    palette = b"".join(bytes([i, i, i, 0]) for i in range(1 << bits)) if bits <= 8 else b""
    start = 54 + len(palette)
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, bits, compression, len(body), 0, 0, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + palette + body


def plain(rng: random.Random, kind: bytes, word: bytes) -> bytes:
    num = amount(rng, MOST / len(word))
    side = max(1, int((num / (3 if kind == b"P3" else 1)) ** 0.5))
    return b"%s\n%d %d\n" % (kind, side, side) + (b"" if kind == b"P1" else b"255\n") + word * num


def binary_ppm(rng: random.Random, kind: bytes, maximum: int) -> bytes:
    side = round(amount(rng, 2e7) ** 0.5)
    return b"%s\n%d %d\n%d\n" % (kind, side, side, maximum) + bytes(side * side * (3 if kind == b"P6" else 2))


# -------------------------------------------------------------------------------------------------------------- kinds

KINDS: dict[str, Callable[[random.Random], bytes]] = {
    "JPEG: one scan repeated": repeated_scan,
    "JPEG: comments between scans": comments_between_scans,
    "JPEG: scans of one channel repeated": scans_of_one_channel,
    "JPEG: empty comments": lambda rng: jpeg_with(rng, segment(0xFE)),
    "JPEG: long comments": lambda rng: jpeg_with(rng, segment(0xFE, bytes(65_000))),
    "JPEG: comments after the scan": lambda rng: jpeg_with(rng, segment(0xFE), after_scan=True),
    "JPEG: fill bytes": lambda rng: jpeg_with(rng, b"\xff"),
    "JPEG: fill bytes after the scan": lambda rng: jpeg_with(rng, b"\xff", after_scan=True),
    "JPEG: scans without pixels": lambda rng: progressive()[0] + b"\xff\xda" * amount(rng, MOST / 2) + b"\xff\xd9",
    "JPEG: something between segments": lambda rng: jpeg_with(rng, b"ab"),
    "JPEG: escaped bytes between segments": lambda rng: jpeg_with(rng, b"\xff\0"),
    "JPEG: segments that Pillow does not know": lambda rng: jpeg_with(rng, segment(0xF0, bytes(60_000))),
    "JPEG: restart markers": lambda rng: jpeg_with(rng, b"\xff\xd0\xff\xd1", after_scan=True),
    "JPEG: tables": lambda rng: jpeg_with(rng, segment(0xDB, b"\0" + bytes(range(1, 65)))),
    "JPEG: colour profiles": lambda rng: jpeg_with(rng, segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000))),
    "JPEG: Photoshop blocks": lambda rng: jpeg_with(
        rng, segment(0xED, b"Photoshop 3.0\0" + (b"8BIM\0\1\0\0" + bytes(4)) * 5000)
    ),
    "JPEG: EXIF tags that share their bytes": lambda rng: JPEG[:2] + segment(0xE1, b"Exif\0\0" + exif(rng)) + JPEG[2:],
    "JPEG: EXIF of many segments": jpeg_of_long_exif,
    "JPEG: other pages": lambda rng: jpeg_with(rng, segment(0xE2, b"MPF\0" + exif(rng, 5000)), most=2e6),
    "JPEG: many pixels": lambda rng: flat_jpeg(rng, 150_000_000),
    "JPEG: many pixels of CMYK": lambda rng: flat_jpeg(rng, 60_000_000, "CMYK"),
    "JPEG: many pixels in several scans": lambda rng: flat_jpeg(rng, 60_000_000, progressive=True),
    "JPEG: many pixels to turn": lambda rng: turned(flat_jpeg(rng, 60_000_000)),
    "JPEG: claims many pixels": claimed_jpeg,
    "JPEG: claims several scans": lambda rng: claimed_jpeg(rng, 0xC2),
    "JPEG: claims arithmetic coding": lambda rng: claimed_jpeg(rng, rng.choice([0xC9, 0xCA, 0xC3])),
    "JPEG of tiles, forged": forged_tiles,
    "PNG: empty chunks": lambda rng: png_with(rng, chunk(rng.choice([b"tEXt", b"abCd", b"tIME", b"sPLT"]))),
    "PNG: empty chunks at the end": lambda rng: png_with(rng, chunk(b"abCd"), at_end=True),
    "PNG: empty pixel chunks": lambda rng: png_with(rng, chunk(b"IDAT"), at_end=True),
    "PNG: long texts": lambda rng: png_with(rng, chunk(b"tEXt", b"k\0" + bytes(1_000_000))),
    "PNG: texts that inflate": lambda rng: png_with(rng, chunk(b"zTXt", b"k\0\0" + deflated_zeros(2**20, 3))),
    "PNG: a text that inflates": lambda rng: png_with(
        rng, chunk(b"zTXt", b"k\0\0" + deflated_zeros(2**20, 500)), most=1
    ),
    "PNG: damaged texts that inflate": lambda rng: png_with(rng, broken_text(b"iTXt", b"k\0\1\0\0\0")),
    "PNG: colour profiles that inflate": lambda rng: png_with(rng, broken_text(b"iCCP", b"k\0\0")),
    "PNG: a text of wide letters": lambda rng: png_with(
        rng, chunk(b"iTXt", b"k\0\0\0\0\0\xf0\x9f\x98\x80" + b"x" * 3_000_000)
    ),
    "PNG: pixels that inflate, gray": lambda rng: png_bomb(rng, 8, 0),
    "PNG: pixels that inflate, 1 bit": lambda rng: png_bomb(rng, 1, 0),
    "PNG: pixels that inflate, 16 bits": lambda rng: png_bomb(rng, 16, rng.choice([0, 2, 6])),
    "PNG: pixels that inflate, interlaced": lambda rng: png_bomb(rng, 8, 2, interlaced=True),
    "PNG: more pixels than it has": lambda rng: png(1, 1, 8, 2, deflated_zeros(2**20, amount(rng, 4000))),
    "PNG: noise": lambda rng: noisy_png(1000 * (1 + round(amount(rng, 16e6) ** 0.5) // 1000)),
    "PNG: one column": lambda rng: png(1, amount(rng, 3e7), 8, 0, deflated_zeros(2**20, 60)),
    "PNG: a long strip": long_strip,
    "PNG: frames": animated_png,
    "PNG: many pixels to turn": lambda rng: png_with(
        rng, chunk(b"eXIf", orientation()), most=1, data=png_bomb(rng, 8, 2)
    ),
    "PNG: EXIF tags": lambda rng: png_with(rng, chunk(b"eXIf", exif(rng, 60_000)), most=1),
    "GIF: comments": lambda rng: gif(rng, b"!\xfe\1a\0"),
    "GIF: a comment of short blocks": lambda rng: gif(rng, b"!\xfe" + b"\1a" * 20_000 + b"\0"),
    "GIF: extensions": lambda rng: gif(rng, rng.choice([b"!\xff\0", b"!\xf9\4" + bytes(4) + b"\0", b"!\1\0"])),
    "GIF: extensions after the first frame": lambda rng: gif(rng, b"!\xfe\1a\0", at_end=True),
    "GIF: something between blocks": lambda rng: gif(rng, b"\1"),
    "GIF: pixels in short blocks": gif_of_short_blocks,
    "GIF: large screen": lambda rng: gif(rng, b"", side=amount(rng, 65_535)),
    "GIF: large frame": lambda rng: gif(rng, b"", frame=amount(rng, 65_535)),
    "GIF: many pixels": lambda rng: _flat(round(amount(rng, 6e7) ** 0.5), "L", "GIF"),
    "WebP: many pixels": lambda rng: _flat(
        round(amount(rng, 6.4e7) ** 0.5), "RGB", "WEBP", (("lossless", True), ("method", 0))
    ),
    "WebP: many pixels, lossy": lambda rng: _flat(round(amount(rng, 6.4e7) ** 0.5), "RGB", "WEBP", (("method", 0),)),
    "WebP: large canvas": webp_canvas,
    "WebP: chunks": webp_chunks,
    "TIFF: tags that share their bytes": tiff_tags,
    "TIFF: pixels that inflate": lambda rng: tiff_bomb(rng, 8),
    "TIFF: pixels by run lengths": lambda rng: tiff_bomb(rng, 32773),
    "TIFF: of an unusual compression": lambda rng: tiff_bomb(rng, rng.choice([6, 34925, 50000, 50001])),
    "TIFF: strips that share their bytes": lambda rng: tiff_strips(rng, 8, b"x\x9c" + b"\0\0\0\xff\xff" * 200_000),
    "TIFF: a large tile": tiff_tiles,
    "TIFF: JPEG of many scans": tiff_of_jpeg,
    "TIFF: JPEG of markers and fill bytes": lambda rng: tiff_of_jpeg(
        rng, jpeg_with(rng, rng.choice([b"\xff", b"\xff\xc2", b"\xff\xda"]))
    ),
    "TIFF: pages": tiff_pages,
    "TIFF: BigTIFF of many tags": big_tiff,
    "TIFF: many channels": lambda rng: tiff(rng, tiff_fields(500, 500, 1, 10, amount(rng, 60_000)), bytes(10)),
    "BMP: run lengths of one pixel": lambda rng: bmp(rng, 8, 1, b"\1\5" * amount(rng, MOST / 2), 5000),
    "BMP: lines without pixels": lambda rng: bmp(rng, 8, 1, b"\0\0" * amount(rng, MOST / 2) + b"\1\1\0\0", 3000),
    "BMP: long run lengths": lambda rng: bmp(rng, 4, 2, b"\xff\5" * amount(rng, 1e6), round(amount(rng, 6e7) ** 0.5)),
    "BMP: claims many pixels": lambda rng: bmp(rng, rng.choice([1, 8, 24, 32]), 0, bytes(1000), amount(rng, 2**31 - 1)),
    "PPM: comments": lambda rng: b"P6\n" + b"#x\n" * amount(rng, MOST / 3) + b"2 2\n255\n" + bytes(12),
    "PPM: a long comment": lambda rng: b"P6\n#" + b"x" * amount(rng, MOST) + b"\n2 2\n255\n" + bytes(12),
    "PPM: pixels as text": lambda rng: plain(rng, rng.choice([b"P2", b"P3"]), b"7 "),
    "PPM: bits as text": lambda rng: plain(rng, b"P1", b"1"),
    "PPM: an unusual maximum": lambda rng: binary_ppm(rng, *rng.choice([(b"P6", 100), (b"P5", 4095), (b"P6", 65_535)])),
    "PPM: 16 bits": lambda rng: binary_ppm(rng, b"P5", 65_535),
    "PPM: claims many pixels": lambda rng: b"P6\n%d %d\n255\n" % (amount(rng, 10**9), amount(rng, 10**9)),
    "formats that Pillow knows and the project does not": lambda rng: rng.choice(
        [encode_image(IMAGE, kind) for kind in ("ICO", "TGA", "PCX", "EPS", "SGI", "PDF")]
        + [b"8BPS\0\1", b"\0\0\0\x0cjP  ", b"icns", b"DDS |", b"qoif", b"%!PS-Adobe-3.0 EPSF-3.0\n" * 1000]
    ),
    "zeros": lambda rng: (
        rng.choice([JPEG[:100], PNG[:60], b"GIF89a", b"BM", b"II*\0\x08\0\0\0"]) + bytes(amount(rng, MOST))
    ),
}


def mutant(kind: str, seed: int) -> bytes:
    """A file of a kind; one in four is cut short, one in four has a few other bytes."""
    rng = random.Random(f"{kind} {seed}")
    data = KINDS[kind](rng)
    match rng.randrange(4):
        case 0:
            data = data[: rng.randrange(len(data))]
        case 1:
            data = bytearray(data)
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(min(len(data), rng.choice([64, 10**9])))] = rng.randrange(256)
    return bytes(data[: MOST + 5_000_000])


def open_by_pillow(data: bytes) -> Image.Image:
    """Decode without limits, for comparison."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image
