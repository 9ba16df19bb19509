"""JPEGs of tiles: a crop has the pixels of the whole image, and a damaged index counts as none."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.errors import BadImage
from datasets.augment.transforms import sample_rng
from datasets.preprocess import CenterCrop
from datasets.reading import jpeg as module
from datasets.reading.backends import DECODERS, open_image
from datasets.reading.crop import Crop
from datasets.reading.jpeg import INDEX, SEGMENT, encode_tiled, find_tiles, read_ordinary_header
from tests.datasets.fake_images import encode_image, fake_image
from tests.datasets.loaders import random_crop


def grainy(width: int, height: int, seed: int = 0) -> Image.Image:
    """Colours that differ from pixel to pixel, as much as in a photograph."""
    noise = np.random.default_rng(seed).normal(0, 9, (height, width, 3))
    return Image.fromarray((np.asarray(fake_image(width, height, seed)) + noise).clip(0, 255).astype(np.uint8))


TILED = encode_tiled(grainy(427, 320), 90)
INDEX_AT = 20 + SEGMENT.size


def without_index(data: bytes) -> bytes:
    size = int.from_bytes(data[22:24], "big")
    return data[:20] + data[22 + size :]


PLAIN = without_index(TILED)
INDEX_OF_TILED = TILED[INDEX_AT : INDEX_AT + len(TILED) - len(PLAIN) - SEGMENT.size]
LENGTHS = np.frombuffer(INDEX_OF_TILED, ">u2", offset=INDEX.size)


@pytest.mark.parametrize("backend", ["pil", "cv2", "turbo"])
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 500), st.integers(1, 300), st.integers(8, 240), st.integers(0, 2**32), st.integers(30, 95))
def test_a_crop_has_the_pixels_of_the_whole(backend, width, height, side, seed, quality):
    if backend != "pil":
        pytest.importorskip("cv2")
    data = encode_tiled(grainy(width, height, seed), quality)
    crop = random_crop(side, "bilinear").draw(sample_rng(seed, 0, 0), (width, height))
    tiled, whole = (open_image(each, "x", "apply", backend) for each in (data, without_index(data)))
    assert find_tiles(data) and not find_tiles(without_index(data))
    assert tiled.size == whole.size == (width, height)
    np.testing.assert_array_equal(tiled.crop(crop, side), whole.crop(crop, side))


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_at_every_scale_of_decoding(scale):
    pytest.importorskip("simplejpeg")
    data = encode_tiled(grainy(900, 700), 90)
    for index in range(10):
        crop = random_crop(32, "bicubic").draw(sample_rng(1, 0, index), (900, 700))
        part, header, left, top = find_tiles(data).around(crop)
        whole = DECODERS["turbo"](data, read_ordinary_header(data), 700, scale)
        found = DECODERS["turbo"](part, header, header.size[1], scale)
        inside = slice(-(-crop.top // scale), (crop.top + crop.height) // scale)
        across = slice(-(-crop.left // scale), (crop.left + crop.width) // scale)
        down, over = top // scale, left // scale
        np.testing.assert_array_equal(
            found[inside.start - down : inside.stop - down, across.start - over : across.stop - over],
            whole[inside, across],
        )


def test_only_the_tiles_of_the_crop_are_kept():
    assert find_tiles(TILED).begins.shape == (20, 27)
    part, header, left, top = find_tiles(TILED).around(Crop(98, 98, 92, 60, "bilinear"))
    assert (left, top) == (96, 96) and read_ordinary_header(part) == header and header.size == (96, 64)
    part, header, left, top = find_tiles(TILED).around(
        Crop(97, 98, 94, 61, "bilinear")
    )  # colours reach into the next tile
    assert (left, top) == (80, 96) and read_ordinary_header(part) == header and header.size == (128, 80)
    whole = find_tiles(TILED).around(Crop(0, 0, 427, 320, "bilinear"))
    assert whole == (bytearray(TILED), read_ordinary_header(TILED), 0, 0)


def test_others_read_the_whole():
    image = Image.open(io.BytesIO(TILED))
    assert image.size == (427, 320) and image.getexif() == {}
    pixels = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(pixels - np.asarray(grainy(427, 320))).mean() < 8
    assert len(TILED) < 1.1 * len(encode_image(grainy(427, 320), "JPEG", quality=90, optimize=True))


def test_the_middle_is_that_of_the_whole():
    wanted = CenterCrop(342, 256, 224, "bicubic")
    whole, tiled = (open_image(data, "x", "ignore", "pil") for data in (PLAIN, TILED))
    np.testing.assert_array_equal(tiled.center_crop(wanted), whole.center_crop(wanted))


def test_a_file_that_ends_behind_the_marker_of_its_scan_is_damaged():
    data = PLAIN[: PLAIN.index(b"\xff\xda") + 4]
    for backend in (*DECODERS, "pil"):
        with pytest.raises(BadImage, match="damaged"):
            open_image(data, "x", "ignore", backend).center_crop(CenterCrop(342, 256, 224, "bicubic"))


def test_a_damaged_index_is_none():
    for at in range(20, INDEX_AT + len(INDEX_OF_TILED)):
        for bit in (1, 128):
            assert find_tiles(TILED[:at] + bytes([TILED[at] ^ bit]) + TILED[at + 1 :]) is None, at
    for end in (0, 5, 21, 30, 40, 100, len(TILED) - 1):
        assert find_tiles(TILED[:end]) is None
    assert find_tiles(TILED[:-40] + TILED[-2:]) is None


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("backend", ["pil", "turbo"])
def test_a_damaged_tile_is_as_damage_anywhere(place, backend):
    """The decoder reports impossible bytes if the crop contains them, and decodes other crops."""
    if backend != "pil":
        pytest.importorskip("cv2")
    at = int(place * len(TILED))
    data = TILED[:at] + b"\xff\xda" * 20 + TILED[at + 40 :]
    crops = []
    for bottom in (40, 320):
        try:
            crops.append(open_image(data, "x", "ignore", backend).crop(Crop(0, 0, 427, bottom, "bilinear"), 64))
        except BadImage:
            crops.append(None)
    good = open_image(TILED, "x", "ignore", backend).crop(Crop(0, 0, 427, 40, "bilinear"), 64)
    np.testing.assert_array_equal(crops[0], good)
    assert crops[1] is None


def crafted(
    lengths=LENGTHS, size=(320, 427), stated=(320, 427), height_further=0, first_further=0, behind=b""
) -> bytes:
    """TILED with an index that is valid in itself, but does not fit the file."""
    added = SEGMENT.size + INDEX.size + 2 * len(lengths) + len(behind)
    height_at, jpeg = read_ordinary_header(PLAIN).height_at, bytearray(PLAIN)
    struct.pack_into(">HH", jpeg, height_at, *stated)
    first = len(PLAIN) - int(LENGTHS.sum()) + added + first_further
    index = INDEX.pack(*size, height_at + added + height_further, first) + lengths.tobytes() + behind
    segment = SEGMENT.pack(module.MARKER, SEGMENT.size - 2 + len(index), module.NAME, zlib.crc32(index))
    return bytes(jpeg[:20] + segment + index + jpeg[20:])


NONE, FIRST = LENGTHS[:0], int(LENGTHS[0])
HEADER = len(PLAIN) - int(LENGTHS.sum()) - 20


@pytest.mark.parametrize(
    "data",
    {
        "no tiles": crafted(NONE),
        "no tiles of no size": crafted(NONE, (0, 427), (0, 427), first_further=int(LENGTHS.sum())),
        "one tile less": crafted(LENGTHS[1:], first_further=FIRST),
        "one tile more": crafted(np.append(LENGTHS, NONE.dtype.type(0))),
        "half a length": crafted(behind=b"x"),
        "tiles in the header": crafted(np.append(FIRST + HEADER, LENGTHS[1:]).astype(">u2"), first_further=-HEADER),
        "tiles behind the end": crafted(first_further=1),
        "size elsewhere": crafted(height_further=1),
        "size behind the end": crafted(height_further=2**31),
        "another size": crafted(size=(319, 427)),
        "another stated size": crafted(stated=(320, 426)),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_crafted_index_is_none(data):
    assert crafted() == TILED and find_tiles(TILED) and find_tiles(data[1]) is None


@given(st.binary(max_size=60))
def test_anything_is_no_crash(data):
    assert find_tiles(data) is None and find_tiles(TILED[:20] + module.MARKER + data + b"\xff\xd9") is None


def test_what_the_index_cannot_hold_is_an_read_ordinary_header(monkeypatch):
    monkeypatch.setattr(module, "MAX_SEGMENT", 250)
    assert find_tiles(encode_tiled(grainy(160, 160), 90))
    large = encode_tiled(grainy(161, 170), 90)
    assert find_tiles(large) is None and Image.open(io.BytesIO(large)).size == (161, 170)
