"""The input of the network in C++ equals that in Python bit for bit."""

import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image, PngImagePlugin

from datasets.preprocess import Preprocess
from datasets.reading.decode import read_image
from datasets.reading.image_folder import find_images
from datasets.reading.pixels import image_to_input
from tests.deploy.cpp.inputs import chunk, edit, make_image, png_header, write_folder

pytestmark = pytest.mark.cpp


def assert_same_pixels(infer, folder: Path, preprocess: Preprocess, images: Path) -> None:
    dump = folder / "dump.npy"
    run = infer(write_folder(folder, preprocess), images, "--batch_size", "8", "--dump_input", dump)
    assert run.returncode == 0, run.stderr
    paths = find_images(images)
    for path, array in zip(paths, np.load(dump), strict=True):
        expected = image_to_input(read_image(path, preprocess.exif_orientation), preprocess)
        assert np.array_equal(array, expected), f"{path}: {np.mean(array != expected):.1%} of the numbers differ"


SIZES = [(1, 1), (3, 2), (500, 375), (375, 500), (333, 499), (640, 113), (224, 224), (256, 256), (257, 300), (31, 32),
         (97, 131), (64, 64), (1024, 700), (37, 5), (2000, 2)]  # fmt: skip
TALL = [(60, 400), (2, 600), (101, 203), (64, 129)]


@pytest.fixture(scope="session")
def images_of_many_sizes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sizes")
    is_pillow_13 = int(PIL.__version__.split(".")[0]) >= 13  # earlier versions resize tall images in another order
    for width, height in SIZES + (TALL if is_pillow_13 else []):
        make_image(width, height).save(folder / f"{width}x{height}.png", compress_level=1)
    return folder


FILTERS = ["bilinear", "bicubic", "nearest", "box", "hamming", "lanczos"]


@pytest.mark.parametrize(
    ("interpolation", "input_size", "resize_size"),
    [*((name, 32, None) for name in FILTERS), *((name, 65, 100) for name in FILTERS), ("bicubic", 224, None)],
)
def test_resized_pixels_equal_pillow(infer, tmp_path, images_of_many_sizes, interpolation, input_size, resize_size):
    preprocess = Preprocess(input_size=input_size, resize_size=resize_size, interpolation=interpolation)
    assert_same_pixels(infer, tmp_path / "exported", preprocess, images_of_many_sizes)


@pytest.mark.parametrize(
    ("interpolation", "side", "fit", "crop_pct"),
    [
        *((name, 32, fit, None) for name in FILTERS for fit in ("squash", "letterbox")),
        ("bicubic", 65, "squash", None),
        ("bicubic", 65, "letterbox", None),
        ("bicubic", 224, "letterbox", None),
        ("bicubic", 65, "crop", 1.0),
        ("bilinear", 65, "crop", 0.9),
    ],
)
def test_fitted_pixels_equal_pillow(infer, tmp_path, images_of_many_sizes, interpolation, side, fit, crop_pct):
    preprocess = Preprocess(side, interpolation=interpolation, fit=fit, crop_pct=crop_pct)
    assert_same_pixels(infer, tmp_path / "exported", preprocess, images_of_many_sizes)


@pytest.mark.parametrize("mean", [(0.5, 0.1, 0.9), (0.4980392, 0.25, 1.5), (-0.1, 0, 1)])
def test_the_border_is_the_mean_of_the_card(infer, tmp_path, images_of_many_sizes, mean):
    preprocess = Preprocess(33, mean=mean, fit="letterbox")
    assert_same_pixels(infer, tmp_path / "exported", preprocess, images_of_many_sizes)


def test_a_card_of_before_fit_and_crop_pct_means_what_it_meant(infer, tmp_path, images_of_many_sizes):
    """A published model whose short side is resized to 232 pixels."""
    preprocess, folder = Preprocess(56, 58), tmp_path / "exported"
    write_folder(folder, preprocess)
    edit(folder, lambda card: [card["preprocess"].pop(name) for name in ("fit", "crop_pct")])
    run = infer(folder, images_of_many_sizes / "97x131.png", "--dump_input", tmp_path / "dump.npy")
    assert run.returncode == 0, run.stderr
    expected = image_to_input(read_image(images_of_many_sizes / "97x131.png"), preprocess)
    assert np.array_equal(np.load(tmp_path / "dump.npy")[0], expected)


def png_bytes(bits: int, color: int, *, transparency: bool = False) -> bytes:
    """Make a PNG of random samples in a form that Pillow does not write."""
    width, height = 33, 17
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    rng = np.random.default_rng([bits, color])

    chunks = [png_header(width, height, bits, color), chunk(b"gAMA", struct.pack(">I", 100_000))]
    if color == 3:
        chunks.append(chunk(b"PLTE", rng.bytes(3 * 2**bits)))
    if transparency:
        chunks.append(chunk(b"tRNS", {0: b"\0\1", 2: b"\0\1\0\2\0\3", 3: b"\0\x80"}[color]))
    rows = b"".join(b"\0" + rng.bytes((width * channels * bits + 7) // 8) for _ in range(height))
    return b"".join([*chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND")])


PNG_FORMS = [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (1, 3), (2, 3), (4, 3), (8, 3), (8, 4), (16, 4),
             (8, 6), (16, 6)]  # fmt: skip


def test_decoded_pixels_equal_pillow(infer, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for bits, color in PNG_FORMS:
        (images / f"{bits}_{color}.png").write_bytes(png_bytes(bits, color))
        if color in (0, 2, 3):
            (images / f"{bits}_{color}_transparency.png").write_bytes(png_bytes(bits, color, transparency=True))
    image_file = make_image(203, 151)
    for subsampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1"):
        for quality in (10, 75, 100):
            image_file.save(images / f"{subsampling} {quality}.jpg", subsampling=subsampling, quality=quality)
    image_file.save(images / "progressive.jpg", progressive=True)
    image_file.save(images / "restart.jpg", restart_marker_rows=1)
    image_file.save(images / "stored as RGB.jpg", keep_rgb=True)
    image_file.convert("L").save(images / "gray.jpg")
    image_file.convert("CMYK").save(images / "cmyk.jpg")
    image_file.save(images / "a PNG.jpg", format="PNG")
    (images / "garbage behind.jpg").write_bytes((images / "gray.jpg").read_bytes() + b"garbage")
    assert_same_pixels(infer, tmp_path / "exported", Preprocess(input_size=64), images)


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (5, 2), (37, 29), (200, 150)])
def test_an_interlaced_png_has_the_pixels_of_pillow(infer, tmp_path, size):
    pixels = np.asarray(make_image(*size).convert("RGB"))
    passes = [pixels[y::down, x::across] for x, y, across, down in ADAM7]
    rows = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 1))
    path = tmp_path / "images" / "x.png"
    path.parent.mkdir()
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND"))
    assert np.array_equal(np.asarray(Image.open(path)), pixels)
    assert_same_pixels(infer, tmp_path / "exported", Preprocess(32), path.parent)


def test_a_very_large_jpeg_is_decoded_smaller_as_in_python(infer, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    large = make_image(83, 61).resize((7_003, 7_001))  # 49 megapixels, as long as one side of it is odd after halving
    large.save(images / "large.jpg", quality=80)
    large.crop((0, 0, 7_003, 4_000)).save(images / "turned.jpg", quality=80, exif=exif)
    large.crop((0, 0, 7_003, 4_000)).convert("CMYK").save(images / "cmyk.jpg", quality=80)
    assert [read_image(path, "apply").size for path in find_images(images)] == [
        (3502, 2000),
        (3502, 3501),
        (2000, 3502),
    ]
    assert_same_pixels(infer, tmp_path / "exported", Preprocess(input_size=64, exif_orientation="apply"), images)


@pytest.mark.parametrize("exif_orientation", ["ignore", "apply"])
def test_orientation_is_that_of_the_card(infer, tmp_path, exif_orientation):
    images = tmp_path / "images"
    images.mkdir()
    image_file = make_image(80, 60)
    for value in range(10):  # 0 and 9 are not orientations
        exif = Image.Exif()
        exif[0x0112] = value
        image_file.save(images / f"{value}.jpg", exif=exif)
        image_file.save(images / f"{value}.png", exif=exif)
        long_and_big_endian = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\4\0\0\0\1" + struct.pack(">I", value) + b"\0\0\0\0"
        image_file.save(images / f"{value}_long.jpg", exif=b"Exif\0\0" + long_and_big_endian)
        image_file.save(images / f"{value}_xmp.jpg", xmp=f'<x tiff:Orientation="{value}"/>'.encode())
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", f"<tiff:Orientation>{value}</tiff:Orientation>")
        image_file.save(images / f"{value}_xmp.png", pnginfo=info)
    preprocess = Preprocess(input_size=32, exif_orientation=exif_orientation)
    assert_same_pixels(infer, tmp_path / "exported", preprocess, images)
