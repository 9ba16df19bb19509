"""JPEGs damaged at random: no crash, the same decision by every backend, and a checksum finds all damage."""

import hashlib
import random

import numpy as np
import pytest

from common.errors import BadImage
from datasets.augment.transforms import Crop
from datasets.reading.backends import open_image
from datasets.reading.decode import decode
from tests.datasets.fake_images import encode_image, fake_image


def jpeg_files() -> list[bytes]:
    return [encode_image(fake_image(200, 150, seed), "JPEG") for seed in range(12)]


def flip_bits(data, rng):
    for _ in range(rng.choice((1, 1, 4, 30))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut_short(data, rng):
    del data[rng.randrange(len(data)) :]


def overwrite(data, rng):
    start = rng.randrange(len(data))
    size = min(rng.choice((1, 16, 512)), len(data) - start)
    data[start : start + size] = rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size)))


def insert(data, rng):
    at = rng.randrange(len(data))
    data[at:at] = rng.randbytes(rng.choice((1, 2, 100)))


def remove(data, rng):
    start = rng.randrange(len(data))
    del data[start : start + rng.choice((1, 2, 100))]


DAMAGE = (flip_bits, cut_short, overwrite, insert, remove)


def damaged(files, seed):
    rng = random.Random(seed)
    data = bytearray(rng.choice(files))
    rng.choice(DAMAGE)(data, rng)
    return bytes(data)


def outcome(data, backend, part=1.0):
    """None for a bad image, else the size of the image and the pixels of its upper `part`."""
    try:
        opened = open_image(data, "x.jpg", "ignore", backend)
        width, height = opened.size
        crop = Crop(0, 0, width, max(1, round(part * height)), "bilinear")
        return opened.size, np.asarray(opened.crop(crop, 64)).astype(int)
    except BadImage as error:
        assert error.reason and error.path == "x.jpg"
        return None


def check_damage(seeds):
    """All backends accept or refuse a file alike, with the same size; accepted files have the pixels of Pillow.

    Returns:
        Number of accepted files, of refused files, and of accepted files whose checksum did not change.
    """
    files = jpeg_files()
    known = {hashlib.sha256(data).digest() for data in files}
    accepted = refused = unchanged = 0
    for seed in seeds:
        data = damaged(files, seed)
        part = random.Random(seed).choice((0.3, 0.6, 1.0))  # damage below is noticed, too, though not decoded
        exact, *fast = (outcome(data, backend, part) for backend in ("pil", "cv2", "turbo"))
        for other in fast:
            assert (other is None) == (exact is None), seed
            assert other is None or other[0] == exact[0], seed
        if exact is None:
            refused += 1
            continue
        accepted += 1
        *by_pillow, turbo = (pixels for _, pixels in (exact, *fast))
        assert min(np.abs(turbo - pixels).mean() for pixels in by_pillow) < 0.1, seed
        unchanged += hashlib.sha256(data).digest() in known
    return accepted, refused, unchanged


@pytest.fixture(autouse=True)
def installed():
    pytest.importorskip("cv2")
    pytest.importorskip("simplejpeg")


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged metadata
def test_random_damage():
    accepted, refused, unchanged = check_damage(range(500))
    assert accepted + refused == 500 and refused > 100
    assert unchanged < 5  # a checksum, as of a manifest, shows what no decoder notices


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_much_random_damage():
    accepted, refused, unchanged = check_damage(range(10_000))
    assert accepted + refused == 10_000 and unchanged < 100


@pytest.mark.filterwarnings("ignore")
def test_a_file_cut_short_is_never_accepted():
    """The most frequent damage, of a download or a copy that was interrupted, is always noticed."""
    files = jpeg_files()
    for seed in range(60):
        rng = random.Random(seed)
        data = bytearray(rng.choice(files))
        cut_short(data, rng)
        for backend in ("pil", "cv2", "turbo"):
            assert outcome(bytes(data), backend) is None, (seed, backend)
        with pytest.raises(BadImage):
            decode(bytes(data), "x")
