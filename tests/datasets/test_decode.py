"""Holds every kind of file, good or bad, to one stated outcome: these pixels, or BadImage with path and reason."""

import contextlib
import io
import os
import random
import struct
import time
import zlib

import numpy as np
import pytest
from pictures import encoded, picture
from PIL import Image

from datasets import decode as module
from datasets.decode import decode, read_image
from datasets.errors import BadImage

PICTURE = picture(60, 40)
PIXELS = np.asarray(PICTURE)
JPEG = encoded(PICTURE, "JPEG", quality=95)
PNG = encoded(PICTURE, "PNG")
RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)


def png(width, height, depth, colour, data=b"\0", *more) -> bytes:
    """A PNG file by hand: header, chunks of `more`, data, end."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    chunks = b"".join(chunk(*one) for one in more)
    return b"\x89PNG\r\n\x1a\n" + header + chunks + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def flipped(data: bytes, at: int, count: int = 1) -> bytes:
    return data[:at] + bytes(byte ^ 0xFF for byte in data[at : at + count]) + data[at + count :]


def jpeg_of_size(side: int) -> bytes:
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", side, side) + JPEG[at + 4 :]


def frames(kind: str) -> bytes:
    return encoded(PICTURE, kind, save_all=True, append_images=[picture(60, 40, seed=9)], **LOSSLESS.get(kind, {}))


LOSSLESS = {"WEBP": {"lossless": True}}
NOT_AN_IMAGE = "not an image of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM"
DAMAGED = "damaged: "

BAD = {
    "empty": (b"", NOT_AN_IMAGE),
    "zeros": (bytes(1000), NOT_AN_IMAGE),
    "text": (b"hello world\n" * 20, NOT_AN_IMAGE),
    "html": (b"<!DOCTYPE html><html><body>404</body></html>", NOT_AN_IMAGE),
    "git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", NOT_AN_IMAGE),
    "zip": (b"PK\x03\x04" + bytes(100), NOT_AN_IMAGE),
    "EPS, which Pillow gives to Ghostscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", NOT_AN_IMAGE),
    "PDF": (b"%PDF-1.4\n", NOT_AN_IMAGE),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', NOT_AN_IMAGE),
    "ICO": (encoded(PICTURE, "ICO"), NOT_AN_IMAGE),
    "JPEG cut to 90 %": (JPEG[: len(JPEG) * 9 // 10], DAMAGED),
    "JPEG cut to half": (JPEG[: len(JPEG) // 2], DAMAGED),
    "JPEG cut to 20 bytes": (JPEG[:20], NOT_AN_IMAGE),
    "JPEG without its last byte": (JPEG[:-1], DAMAGED),
    "JPEG after 2 bytes of something": (b"ab" + JPEG, NOT_AN_IMAGE),
    "PNG cut to half": (PNG[: len(PNG) // 2], DAMAGED),
    "PNG without its end": (PNG[:-12], DAMAGED),
    "PNG with a byte of its data changed": (flipped(PNG, PNG.index(b"IDAT") + 100), DAMAGED),
    "PNG with a byte of its checksum changed": (flipped(PNG, len(PNG) - 13), DAMAGED),
    "PNG that claims 900 million pixels": (png(30_000, 30_000, 8, 2), "limit|exceeds"),
    "PNG that claims 65 million pixels": (png(8_125, 8_000, 8, 2), r"8125 x 8000 pixels; the limit is 64,000,000"),
    "PNG that claims 2^31 - 1 columns": (png(2**31 - 1, 2**31 - 1, 8, 2), "limit|exceeds"),
    "PNG without rows": (png(10, 0, 8, 2), NOT_AN_IMAGE),
    "PNG whose text inflates to 80 MB": (
        png(1, 1, 8, 2, b"\0abc", (b"zTXt", b"k\0\0" + zlib.compress(bytes(80_000_000)))),
        "damaged: Decompressed data too large",
    ),
    "JPEG that claims 4,225 million pixels": (jpeg_of_size(65_000), "limit|exceeds"),
    "float TIFF": (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "mode F: its pixels have no range"),
    "32-bit TIFF": (encoded(Image.fromarray(np.ones((4, 4), np.int32)), "TIFF"), "mode I: its pixels have no range"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad(name):
    data, reason = BAD[name]
    start = time.process_time()
    with pytest.raises(BadImage, match=reason) as caught:
        decode(data, "some/where.jpg")
    assert time.process_time() - start < 1
    assert caught.value.path == "some/where.jpg" and caught.value.reason
    assert str(caught.value) == f"some/where.jpg: {caught.value.reason}" and caught.value.exit_code == 3


def gray(levels) -> np.ndarray:
    return np.repeat(np.asarray(levels, np.uint8)[..., None], 3, axis=-1)


def jpeg_pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


PALETTE = PICTURE.quantize(16)
CMYK = encoded(PICTURE.convert("CMYK"), "JPEG", quality=95)
RGB_16 = np.zeros((16, 1 + 16 * 6), np.uint8)
RGB_16[:, 1::2] = np.repeat(RAMP, 3, axis=1)  # the upper byte of each value; the lower stays 0

GOOD = {
    "PNG": (PNG, PIXELS),
    "JPEG": (JPEG, jpeg_pixels(JPEG)),
    "JPEG with something after it": (JPEG + b"x" * 1000, jpeg_pixels(JPEG)),
    "BMP": (encoded(PICTURE, "BMP"), PIXELS),
    "PPM": (encoded(PICTURE, "PPM"), PIXELS),
    "TIFF": (encoded(PICTURE, "TIFF"), PIXELS),
    "WebP": (encoded(PICTURE, "WEBP", lossless=True), PIXELS),
    "one pixel": (encoded(PICTURE.crop((0, 0, 1, 1)), "PNG"), PIXELS[:1, :1]),
    "gray PNG": (encoded(PICTURE.convert("L"), "PNG"), gray(PICTURE.convert("L"))),
    "1-bit PNG": (encoded(PICTURE.convert("1"), "PNG"), gray(np.asarray(PICTURE.convert("1")) * 255)),
    "gray with alpha": (encoded(PICTURE.convert("LA"), "PNG"), gray(PICTURE.convert("L"))),
    "alpha 0 shows the hidden colour": (
        encoded(Image.fromarray(np.dstack([PIXELS, np.zeros((40, 60), np.uint8)])), "PNG"),
        PIXELS,
    ),
    "palette": (encoded(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB"))),
    "palette with transparency": (
        encoded(PALETTE, "PNG", transparency=bytes(range(0, 256, 16))),
        np.asarray(PALETTE.convert("RGB")),
    ),
    "palette with a transparent colour": (encoded(PALETTE, "PNG", transparency=3), np.asarray(PALETTE.convert("RGB"))),
    "CMYK JPEG": (CMYK, jpeg_pixels(CMYK)),
    "16-bit gray PNG keeps its upper byte": (encoded(Image.fromarray(RAMP * 257), "PNG"), gray(RAMP)),
    "16-bit gray TIFF": (encoded(Image.fromarray(RAMP * 256 + 255), "TIFF"), gray(RAMP)),
    "16-bit PGM": (b"P5 16 16 65535\n" + (RAMP * 257).astype(">u2").tobytes(), gray(RAMP)),
    "16-bit colour PNG": (png(16, 16, 16, 2, RGB_16.tobytes()), gray(RAMP)),
    "GIF": (encoded(PALETTE, "GIF"), np.asarray(PALETTE.convert("RGB"))),
    "first frame of GIF": (frames("GIF"), None),
    "first frame of WebP": (frames("WEBP"), PIXELS),
    "first frame of APNG": (frames("PNG"), PIXELS),
    "first page of TIFF": (frames("TIFF"), PIXELS),
    "MPO, the JPEG of some telephones": (frames("MPO"), None),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("exif_orientation", ["ignore", "apply"])
def test_good(name, exif_orientation):
    data, expected = GOOD[name]
    image = decode(data, name, exif_orientation)
    assert image.mode == "RGB"
    if expected is None:  # lossy: near the first frame, far from the second
        assert np.abs(np.asarray(image).astype(int) - PIXELS).mean() < 12
    else:
        np.testing.assert_array_equal(np.asarray(image), expected)


def with_orientation(orientation, kind="PNG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(PICTURE, kind, exif=exif, **LOSSLESS.get(kind, {}))


UPRIGHT = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.transpose(1, 0, 2),
    6: PIXELS[::-1].transpose(1, 0, 2),
    7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
    8: PIXELS.transpose(1, 0, 2)[::-1],
    77: PIXELS,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_orientation(orientation, kind):
    data = with_orientation(orientation, kind)
    np.testing.assert_array_equal(np.asarray(decode(data, "x")), PIXELS)
    np.testing.assert_array_equal(np.asarray(decode(data, "x", "apply")), UPRIGHT[orientation])


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of the EXIF block
@pytest.mark.parametrize("exif_orientation", ["ignore", "apply"])
def test_damaged_exif_leaves_good_pixels(exif_orientation):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(PICTURE, "JPEG", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + exif.tobytes()[16:])
    np.testing.assert_array_equal(np.asarray(decode(data, "x", exif_orientation)), jpeg_pixels(JPEG))


@pytest.mark.parametrize(
    "name", ["a b.jpg", "ünï.PNG", "no_extension", "-x.jpg", 'it\'s $(x) "q".jpg', "new\nline.jpg"]
)
def test_any_name_is_read_and_content_decides(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(PNG)
    np.testing.assert_array_equal(np.asarray(read_image(path)), PIXELS)


def test_name_that_is_not_utf8(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.jpg"
    with open(path, "wb") as file:
        file.write(PNG)
    assert read_image(os.fsdecode(path)).size == (60, 40)


def test_not_a_regular_file(tmp_path):
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    for path, reason in [
        (tmp_path, "not a regular file"),
        (tmp_path / "fifo.jpg", "not a regular file"),
        (tmp_path / "loop.jpg", "Too many levels of symbolic links"),
        (tmp_path / "nothing.jpg", "No such file or directory"),
        (str(tmp_path / "zero\0byte.jpg"), "null byte"),
    ]:
        with pytest.raises(BadImage, match=reason):
            read_image(path)


def test_too_long_a_file_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "long.jpg"
    path.touch()
    os.truncate(path, 2**40)  # a sparse file
    with pytest.raises(BadImage, match="1048576 MB; the limit is 64 MB"):
        read_image(path)
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    with pytest.raises(BadImage, match="the limit is"):
        decode(PNG, "x")


@pytest.mark.filterwarnings("ignore")  # damaged metadata make Pillow warn
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_mutants_decode_or_are_bad_images(kind):
    rng = random.Random(kind)
    seed = encoded(PICTURE, kind)
    for _ in range(200):
        mutant = bytearray(seed)
        for _ in range(rng.randint(1, 8)):
            mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        length = rng.choice([len(mutant), rng.randrange(len(mutant))])
        with contextlib.suppress(BadImage):
            assert decode(bytes(mutant[:length]), "x").mode == "RGB"
