"""Decoding: every kind of file, good or bad, has one expected outcome: pixels, or BadImage with path and reason."""

import contextlib
import io
import os
import random
import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from common.errors import BadImage
from datasets.reading import decode as module
from datasets.reading.decode import decode, read_image, to_rgb
from tests.datasets.corpus import CORPUS, IMAGE, PIXELS, PNG, TURNS, with_orientation
from tests.datasets.fake_images import encode_image, fake_image

BAD = {name: (case.data, case.expected) for name, case in CORPUS.items() if not case.is_good}
WITH_WARNING = "JPEG with damaged EXIF"  # Pillow warns of it
GOOD = {name: (case.data, case.expected) for name, case in CORPUS.items() if case.is_good and name != WITH_WARNING}
UPRIGHT = {orientation: turn(PIXELS) for orientation, turn in TURNS.items()}


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"avif"])
def test_a_photograph_of_a_telephone_is_named_with_its_converter(brand):
    """Also under a name that ends in .jpg: telephones and messengers rename them."""
    with pytest.raises(BadImage, match=r"a HEIC or AVIF photograph, .* magick mogrify -format jpg"):
        decode(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(64), "IMG_1.jpg")


def test_a_film_is_no_photograph():
    with pytest.raises(BadImage, match="not an image of JPEG"):
        decode(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(64), "IMG_1.jpg")


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad(name):
    data, reason = BAD[name]
    with pytest.raises(BadImage, match=reason) as caught:
        decode(data, "some/where.jpg")
    assert caught.value.path == "some/where.jpg" and caught.value.reason
    assert str(caught.value) == f"some/where.jpg: {caught.value.reason}" and caught.value.exit_code == 3


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("exif_orientation", ["ignore", "apply"])
def test_good(name, exif_orientation):
    image = decode(GOOD[name][0], name, exif_orientation)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), CORPUS[name].pixels(exif_orientation))


@pytest.mark.parametrize("exif_orientation", ["ignore", "apply"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_damaged_exif_leaves_good_pixels(exif_orientation):
    case = CORPUS[WITH_WARNING]
    np.testing.assert_array_equal(np.asarray(decode(case.data, "x", exif_orientation)), case.expected)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_orientation(orientation, kind):
    data = with_orientation(orientation, kind)
    np.testing.assert_array_equal(np.asarray(decode(data, "x")), PIXELS)
    np.testing.assert_array_equal(np.asarray(decode(data, "x", "apply")), UPRIGHT[orientation])


NAMED = [case for case in CORPUS.values() if case.number >= 60]


@pytest.mark.parametrize("case", NAMED, ids=[case.number for case in NAMED])
def test_any_name_is_read_and_content_decides(tmp_path, case):
    path = tmp_path / case.file
    path.write_bytes(PNG)
    np.testing.assert_array_equal(np.asarray(read_image(path)), PIXELS)


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


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged metadata
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_damaged_files_decode_or_are_bad_images(kind):
    rng = random.Random(kind)
    seed = encode_image(IMAGE, kind)
    for _ in range(200):
        damaged = bytearray(seed)
        for _ in range(rng.randint(1, 8)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        length = rng.choice([len(damaged), rng.randrange(len(damaged))])
        with contextlib.suppress(BadImage):
            assert decode(bytes(damaged[:length]), "x").mode == "RGB"


# --- Images in any form ---------------------------------------------------------------------------------------------


def stored(image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1"])
def test_an_image_in_memory_becomes_what_its_file_becomes(tmp_path, mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    data = stored(fake_image(20, 30).convert(mode), format=kind)
    path = tmp_path / "image"
    path.write_bytes(data)
    expected = np.asarray(read_image(path))
    for source in (data, str(path), path, Image.open(io.BytesIO(data))):
        np.testing.assert_array_equal(np.asarray(to_rgb(source)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_of_an_image_in_memory_is_applied_once(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = stored(fake_image(20, 30), format="JPEG", exif=exif)
    expected = np.asarray(decode(data, "n", "apply"))
    once = to_rgb(Image.open(io.BytesIO(data)), "apply")
    np.testing.assert_array_equal(np.asarray(once), expected)
    np.testing.assert_array_equal(np.asarray(to_rgb(once, "apply")), expected)
    np.testing.assert_array_equal(np.asarray(to_rgb(Image.open(io.BytesIO(data)))), np.asarray(decode(data, "n")))


def test_arrays():
    rgb = np.asarray(fake_image(20, 30))
    np.testing.assert_array_equal(np.asarray(to_rgb(rgb)), rgb)
    grey = rgb[:, :, 0]
    for array in (grey, grey[:, :, None], grey.astype(np.uint16) * 256 + 7):
        np.testing.assert_array_equal(np.asarray(to_rgb(array)), np.stack([grey] * 3, axis=2))
    np.testing.assert_array_equal(np.asarray(to_rgb(np.dstack([rgb, grey]))), rgb)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2, 5), np.uint8), np.zeros((2, 2), float), np.zeros((0, 2), np.uint8), 7]
)
def test_forms_that_are_no_image(array):
    with pytest.raises(BadImage, match="expected"):
        to_rgb(array)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_where_zero_is_white(dtype):
    """A TIFF of one strip, written by hand (TIFF 6.0): Pillow writes none of this kind with 16 bits."""
    bits = 8 * np.dtype(dtype).itemsize
    values = np.array([[0, 2 ** (bits - 1)], [2**bits - 1, 2 ** (bits - 2)]], dtype)
    tags = [(256, 4, 2), (257, 4, 2), (258, 3, bits), (259, 3, 1), (262, 3, 0), (273, 4, 8), (277, 3, 1), (278, 4, 2)]
    tags.append((279, 4, values.nbytes))
    data = struct.pack("<2sHI", b"II", 42, 8 + values.nbytes) + values.tobytes() + struct.pack("<H", len(tags))
    data += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags) + bytes(4)
    grey = np.asarray(decode(data, "n"))[:, :, 0].astype(int)
    np.testing.assert_allclose(grey, [[255, 127], [0, 191]], atol=1)


@pytest.mark.parametrize("kind", ["text", "ztxt", "icc"])
def test_megabytes_of_text_or_profile_are_no_damage(kind):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 3_000_000, zip=kind == "ztxt")
    options = {"icc_profile": b"x" * 3_000_000} if kind == "icc" else {"pnginfo": info}
    image = fake_image(20, 30)
    np.testing.assert_array_equal(
        np.asarray(decode(stored(image, format="PNG", **options), "n")), np.asarray(image.convert("RGB"))
    )
