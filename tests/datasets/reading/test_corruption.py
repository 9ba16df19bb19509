"""Damages real files at random: no crash, no hang, the same verdict by every backend, and checksums see the rest."""

import hashlib
import random
import time
from pathlib import Path

import numpy as np
import pytest

from common.errors import BadImage
from datasets.augment.transforms import Crop
from datasets.reading.backends import open_image
from datasets.reading.decode import decode
from tests.datasets.fake_images import encode_image, fake_image

REAL = Path(__file__).parents[3] / "shared" / "data" / "imagenet_lite"
SECONDS = 5.0  # of processor time for one file; the largest real ones take a tenth


def real_files() -> list[bytes]:
    paths = sorted(REAL.rglob("*.JPEG"), key=lambda path: path.stat().st_size)[:12]
    return [path.read_bytes() for path in paths] or [encode_image(fake_image(200, 150, i), "JPEG") for i in range(12)]


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
    """None for a bad image, else its size and the pixels of the upper `part`."""
    try:
        opened = open_image(data, "x.jpg", "ignore", backend)
        width, height = opened.size
        crop = Crop(0, 0, width, max(1, round(part * height)), "bilinear")
        return opened.size, np.asarray(opened.crop(crop, 64)).astype(int)
    except BadImage as error:
        assert error.reason and error.path == "x.jpg"
        return None


def check_damage(seeds):
    """Every backend takes or refuses a file alike, at the same size; what is taken has pixels that Pillow decodes."""
    files = real_files()
    known = {hashlib.sha256(data).digest() for data in files}
    taken = refused = unseen = 0
    for seed in seeds:
        data = damaged(files, seed)
        start = time.process_time()
        part = random.Random(seed).choice((0.3, 0.6, 1.0))  # damage below is found, too, though not decoded
        exact, *fast = (outcome(data, backend, part) for backend in ("pil", "cv2", "turbo"))
        assert time.process_time() - start < SECONDS, seed
        for found in fast:
            assert (found is None) == (exact is None), seed
            assert found is None or found[0] == exact[0], seed
        if exact is None:
            refused += 1
            continue
        taken += 1
        *by_pillow, turbo = (pixels for _, pixels in (exact, *fast))
        assert min(np.abs(turbo - pixels).mean() for pixels in by_pillow) < 0.1, seed
        unseen += hashlib.sha256(data).digest() in known
    return taken, refused, unseen


@pytest.fixture(autouse=True)
def installed():
    pytest.importorskip("cv2")
    pytest.importorskip("simplejpeg")


@pytest.mark.filterwarnings("ignore")  # damaged metadata make Pillow warn
def test_random_damage():
    taken, refused, unseen = check_damage(range(500))
    assert taken + refused == 500 and refused > 100
    assert unseen < 5  # a checksum, as of a manifest, sees what no decoder does


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_much_random_damage():
    taken, refused, unseen = check_damage(range(10_000))
    assert taken + refused == 10_000 and unseen < 100


@pytest.mark.filterwarnings("ignore")
def test_a_file_cut_short_is_never_taken():
    """The most frequent damage, of a download or a copy that was interrupted, is always noticed."""
    files = real_files()
    for seed in range(60):
        rng = random.Random(seed)
        data = bytearray(rng.choice(files))
        cut_short(data, rng)
        for backend in ("pil", "cv2", "turbo"):
            assert outcome(bytes(data), backend) is None, (seed, backend)
        with pytest.raises(BadImage):
            decode(bytes(data), "x")
