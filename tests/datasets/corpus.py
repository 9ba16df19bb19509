"""A corpus of unusual and damaged image files, made by code, with one expected outcome each: pixels, or a reason."""

import io
import os
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.datasets.fake_images import encode_image, fake_image

IMAGE = fake_image(60, 40)
PIXELS = np.asarray(IMAGE)
JPEG = encode_image(IMAGE, "JPEG", quality=95)
PNG = encode_image(IMAGE, "PNG")
LOSSLESS = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}

ORIENTATION = 0x0112
# EXIF orientation: how "apply" changes the pixels of the file
TURNS = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels[::-1].transpose(1, 0, 2),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: pixels.transpose(1, 0, 2)[::-1],
    77: lambda pixels: pixels,
}


def png(width: int, height: int, depth: int, colour: int, deflated: bytes = b"", *more: tuple[bytes, bytes]) -> bytes:
    """A PNG file by hand: header, chunks of `more`, data, end."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    chunks = b"".join(chunk(*one) for one in more)
    return b"\x89PNG\r\n\x1a\n" + header + chunks + chunk(b"IDAT", deflated) + chunk(b"IEND", b"")


def deflated_zeros(size: int, times: int) -> bytes:
    """`size` x `times` zero bytes, compressed by zlib in the time and memory of `size`."""
    compressor = zlib.compressobj(9)
    part = compressor.compress(bytes(size)) + compressor.flush(zlib.Z_FULL_FLUSH)
    adler = size * times % 65521 << 16 | 1
    return part[:2] + part[2:] * times + b"\x03\0" + struct.pack(">I", adler)


def changed(data: bytes, at: int, count: int = 1, by: int = 0xFF) -> bytes:
    return data[:at] + bytes(byte ^ by for byte in data[at : at + count]) + data[at + count :]


def jpeg_of_size(side: int) -> bytes:
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", side, side) + JPEG[at + 4 :]


def frames(kind: str, first: Image.Image = IMAGE) -> bytes:
    """An animation or a file of several pages."""
    other = fake_image(60, 40, seed=9)
    return encode_image(first, kind, save_all=True, append_images=[other], **LOSSLESS.get(kind, {}))


def with_orientation(orientation: int, kind: str = "PNG") -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode_image(IMAGE, kind, exif=exif, **LOSSLESS.get(kind, {}))


def with_damaged_exif() -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return encode_image(IMAGE, "JPEG", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + exif.tobytes()[16:])


def gray(levels) -> np.ndarray:
    return np.repeat(np.asarray(levels, np.uint8)[..., None], 3, axis=-1)


def jpeg_pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


class Case(NamedTuple):
    """An image file and its expected outcome."""

    number: int  # in the 66 files that `python -m tests.faults D1` reads; 0 for files that were added later
    data: bytes
    expected: np.ndarray | str  # pixels [H, W, 3] uint8, or a pattern of the reason of BadImage
    file: str = "x.jpg"
    upright: np.ndarray | None = None  # the pixels with --exif_orientation apply, where they differ

    @property
    def is_good(self) -> bool:
        return not isinstance(self.expected, str)

    def pixels(self, exif_orientation: str) -> np.ndarray:
        return self.upright if exif_orientation == "apply" and self.upright is not None else self.expected


NOT_AN_IMAGE = "not an image of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM"
DAMAGED = "damaged: "
TOO_LARGE = "limit|exceeds"
INFLATES = "damaged: Decompressed data too large"
NO_RANGE = "its pixels have no range"

DECODED = jpeg_pixels(JPEG)
PALETTE = IMAGE.quantize(16)
BLACK_AND_WHITE = IMAGE.convert("1")
OF_PALETTE = np.asarray(PALETTE.convert("RGB"))
CMYK = encode_image(IMAGE.convert("CMYK"), "JPEG", quality=95)
GRAY = gray(IMAGE.convert("L"))
GRAY_JPEG = encode_image(IMAGE.convert("L"), "JPEG", quality=95)
SILENT = changed(JPEG, len(JPEG) - 200, 8, by=1)
RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)
RGB_16 = np.zeros((16, 1 + 16 * 6), np.uint8)
RGB_16[:, 1::2] = np.repeat(RAMP, 3, axis=1)  # the upper byte of each value; the lower stays 0
PIPE = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%touch executed) (w) file\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
WMF = struct.pack("<LHHHHHHLH", 0x9AC6CDD7, 0, 0, 0, 100, 100, 1440, 0, 0) + b"\x01\0\x09\0\0\x03" + bytes(100)
ONE_PIXEL = zlib.compress(b"\0abc")

CORPUS = {
    "JPEG cut to 90 %": Case(1, JPEG[: len(JPEG) * 9 // 10], DAMAGED),
    "JPEG cut to half": Case(2, JPEG[: len(JPEG) // 2], DAMAGED),
    "JPEG cut to 20 bytes": Case(3, JPEG[:20], NOT_AN_IMAGE),
    "JPEG without its last byte": Case(4, JPEG[:-1], DAMAGED),
    "PNG cut to half": Case(5, PNG[: len(PNG) // 2], DAMAGED, "x.png"),
    "PNG without its end": Case(6, PNG[:-12], DAMAGED, "x.png"),
    "empty": Case(7, b"", NOT_AN_IMAGE),
    "zeros": Case(8, bytes(1000), NOT_AN_IMAGE),
    "text": Case(9, b"hello world\n" * 20, NOT_AN_IMAGE),
    "html": Case(10, b"<!DOCTYPE html><html><body>404</body></html>", NOT_AN_IMAGE),
    "git-lfs pointer": Case(11, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", NOT_AN_IMAGE),
    "zip": Case(12, b"PK\x03\x04" + bytes(100), NOT_AN_IMAGE),
    "JPEG named .png": Case(13, JPEG, DECODED, "x.png"),
    "PNG named .jpg": Case(14, PNG, PIXELS),
    "JPEG without an extension": Case(15, JPEG, DECODED, "x"),
    "JPEG": Case(16, JPEG, DECODED, "X.JPEG"),
    "JPEG with something after it": Case(17, JPEG + b"x" * 1000, DECODED),
    "JPEG after 2 bytes of something": Case(18, b"ab" + JPEG, NOT_AN_IMAGE),
    "JPEG with 8 bytes of its data changed, to other pixels": Case(19, SILENT, jpeg_pixels(SILENT)),
    "PNG with a byte of its data changed": Case(20, changed(PNG, PNG.index(b"IDAT") + 100), DAMAGED, "x.png"),
    "CMYK JPEG": Case(21, CMYK, jpeg_pixels(CMYK)),
    "gray JPEG": Case(22, GRAY_JPEG, jpeg_pixels(GRAY_JPEG)),
    "gray PNG": Case(22, encode_image(IMAGE.convert("L"), "PNG"), GRAY, "x.png"),
    "1-bit PNG": Case(23, encode_image(IMAGE.convert("1"), "PNG"), gray(np.asarray(IMAGE.convert("1")) * 255), "x.png"),
    "gray with alpha": Case(24, encode_image(IMAGE.convert("LA"), "PNG"), GRAY, "x.png"),
    "16-bit gray PNG keeps its upper byte": Case(
        25, encode_image(Image.fromarray(RAMP * 257), "PNG"), gray(RAMP), "x.png"
    ),
    "16-bit gray TIFF": Case(25, encode_image(Image.fromarray(RAMP * 256 + 255), "TIFF"), gray(RAMP), "x.tif"),
    "16-bit colour PNG": Case(26, png(16, 16, 16, 2, zlib.compress(RGB_16.tobytes())), gray(RAMP), "x.png"),
    "float TIFF": Case(27, encode_image(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), f"mode F: {NO_RANGE}"),
    "alpha 0 shows the hidden colour": Case(
        28, encode_image(Image.fromarray(np.dstack([PIXELS, np.zeros((40, 60), np.uint8)])), "PNG"), PIXELS, "x.png"
    ),
    "palette": Case(29, encode_image(PALETTE, "PNG"), OF_PALETTE, "x.png"),
    "palette with transparency": Case(
        30, encode_image(PALETTE, "PNG", transparency=bytes(range(0, 256, 16))), OF_PALETTE, "x.png"
    ),
    "GIF": Case(31, encode_image(PALETTE, "GIF"), OF_PALETTE, "x.gif"),
    "first frame of GIF": Case(32, frames("GIF", PALETTE), OF_PALETTE, "x.gif"),
    "first frame of WebP": Case(33, frames("WEBP"), PIXELS, "x.webp"),
    "first frame of APNG": Case(34, frames("PNG"), PIXELS, "x.png"),
    "first page of TIFF": Case(35, frames("TIFF"), PIXELS, "x.tiff"),
    **{
        f"JPEG of EXIF orientation {value}": Case(
            number, with_orientation(value, "JPEG"), DECODED, upright=turn(DECODED)
        )
        for number, (value, turn) in enumerate(TURNS.items(), start=36)
    },
    "JPEG with damaged EXIF": Case(45, with_damaged_exif(), DECODED),
    "one pixel": Case(46, encode_image(IMAGE.crop((0, 0, 1, 1)), "PNG"), PIXELS[:1, :1], "x.png"),
    "1 x 4000": Case(47, encode_image(fake_image(1, 4000), "PNG"), np.asarray(fake_image(1, 4000)), "x.png"),
    "4000 x 1": Case(48, encode_image(fake_image(4000, 1), "PNG"), np.asarray(fake_image(4000, 1)), "x.png"),
    "PNG of 144 million pixels in 140 kB": Case(
        49, png(12_000, 12_000, 8, 0, deflated_zeros(12_001 * 100, 120)), TOO_LARGE, "x.png"
    ),
    "PNG that claims 900 million pixels": Case(50, png(30_000, 30_000, 8, 2), TOO_LARGE, "x.png"),
    "PNG that claims 2^31 - 1 columns": Case(51, png(2**31 - 1, 2**31 - 1, 8, 2), TOO_LARGE, "x.png"),
    "JPEG that claims 4,225 million pixels": Case(52, jpeg_of_size(65_000), TOO_LARGE),
    "PNG whose text inflates to 200 MB": Case(
        53, png(1, 1, 8, 2, ONE_PIXEL, (b"zTXt", b"k\0\0" + deflated_zeros(2**20, 200))), INFLATES, "x.png"
    ),
    "PNG whose colour profile inflates to 100 MB": Case(
        54, png(1, 1, 8, 2, ONE_PIXEL, (b"iCCP", b"k\0\0" + deflated_zeros(2**20, 100))), INFLATES, "x.png"
    ),
    "EPS that opens a pipe": Case(55, PIPE, NOT_AN_IMAGE, "x.eps"),
    "EPS, which Pillow gives to Ghostscript": Case(56, PIPE, NOT_AN_IMAGE),
    "SVG": Case(57, SVG, NOT_AN_IMAGE, "x.svg"),
    "PDF": Case(58, b"%PDF-1.4\n", NOT_AN_IMAGE, "x.png"),
    "WMF": Case(59, WMF, NOT_AN_IMAGE, "x.wmf"),
    "JPEG whose name has blanks": Case(60, JPEG, DECODED, "a b  c.jpg"),
    "JPEG whose name has letters of UTF-8": Case(61, JPEG, DECODED, "ünï 图.jpg"),
    "JPEG whose name is not UTF-8": Case(62, JPEG, DECODED, os.fsdecode(b"caf\xe9.jpg")),
    "JPEG whose name has a line break": Case(63, JPEG, DECODED, "new\nline.jpg"),
    "JPEG whose name has quotes and a command": Case(64, JPEG, DECODED, 'it\'s $(touch executed) "q".jpg'),
    "JPEG whose name begins with a hyphen": Case(65, JPEG, DECODED, "-x.jpg"),
    "JPEG whose name has 250 letters": Case(66, JPEG, DECODED, "x" * 246 + ".jpg"),
    # ------------------------------------------------------------------------------------------------ added later
    "PNG": Case(0, PNG, PIXELS, "x.png"),
    "BMP": Case(0, encode_image(IMAGE, "BMP"), PIXELS, "x.bmp"),
    "PPM": Case(0, encode_image(IMAGE, "PPM"), PIXELS, "x.ppm"),
    "TIFF": Case(0, encode_image(IMAGE, "TIFF"), PIXELS, "x.tif"),
    "WebP": Case(0, encode_image(IMAGE, "WEBP", lossless=True), PIXELS, "x.webp"),
    "16-bit PGM": Case(0, b"P5 16 16 65535\n" + (RAMP * 257).astype(">u2").tobytes(), gray(RAMP), "x.pgm"),
    "palette with a transparent colour": Case(0, encode_image(PALETTE, "PNG", transparency=3), OF_PALETTE, "x.png"),
    "MPO, the JPEG of some telephones": Case(0, frames("MPO"), jpeg_pixels(encode_image(IMAGE, "JPEG"))),
    "ICO": Case(0, encode_image(IMAGE, "ICO"), NOT_AN_IMAGE, "x.ico"),
    "PNG with a byte of its checksum changed": Case(0, changed(PNG, len(PNG) - 13), DAMAGED, "x.png"),
    "PNG that claims 65 million pixels": Case(
        0, png(8_125, 8_000, 8, 2), r"8125 x 8000 pixels .* the limit is", "x.png"
    ),
    "PNG without rows": Case(0, png(10, 0, 8, 2), NOT_AN_IMAGE, "x.png"),
    "32-bit TIFF": Case(
        0, encode_image(Image.fromarray(np.ones((4, 4), np.int32)), "TIFF"), f"mode I: {NO_RANGE}", "x.tif"
    ),
}
