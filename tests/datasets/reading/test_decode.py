"""Decoding: every kind of file, good or bad, has one expected outcome: pixels, or BadImage with path and reason."""

import contextlib
import os
import random

import numpy as np
import pytest

from common.errors import BadImage
from datasets.reading import decode as module
from datasets.reading.decode import decode, read_image
from tests.datasets.corpus import CORPUS, IMAGE, PIXELS, PNG, TURNS, with_orientation
from tests.datasets.fake_images import encode_image

BAD = {name: (case.data, case.expected) for name, case in CORPUS.items() if not case.is_good}
WITH_WARNING = "JPEG with damaged EXIF"  # Pillow warns of it
GOOD = {name: (case.data, case.expected) for name, case in CORPUS.items() if case.is_good and name != WITH_WARNING}
UPRIGHT = {orientation: turn(PIXELS) for orientation, turn in TURNS.items()}


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
