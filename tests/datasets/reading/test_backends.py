"""Image backends: the same good and bad files and draws as Pillow, nearly the same pixels, the same bytes again."""

import io
import struct
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.errors import BadImage, MissingDependencyError
from datasets.augment.transforms import sample_rng
from datasets.preprocess import FITS, CenterCrop
from datasets.reading import backends
from datasets.reading.backends import choose_backend, open_image, raw_pixels
from datasets.reading.crop import Crop
from datasets.reading.jpeg import read_ordinary_header
from tests.datasets.fake_images import encode_image, fake_image
from tests.datasets.loaders import random_crop
from tests.datasets.reading.test_decode import BAD, GOOD, UPRIGHT, with_orientation

FAST = ("cv2", "turbo")
LARGE = encode_image(fake_image(500, 375), "JPEG", quality=92)


def cropped(data, backend, crop, side=32, exif_orientation="ignore"):
    return np.asarray(open_image(data, "x.jpg", exif_orientation, backend).crop(crop, side))


def center_rectangle(size, interpolation="bilinear"):
    return Crop(size[0] // 4, size[1] // 4, max(1, size[0] // 2), max(1, size[1] // 2), interpolation)


@pytest.fixture(autouse=True)
def installed():
    pytest.importorskip("cv2")
    pytest.importorskip("simplejpeg")


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("kind", [{}, {"subsampling": 2}, {"subsampling": 0}, {"progressive": True}], ids=str)
def test_nearly_the_same_pixels(backend, interpolation, kind):
    data = encode_image(fake_image(500, 375), "JPEG", quality=92, **kind)
    errors = []
    for index in range(20):
        crop = random_crop(160, interpolation).draw(sample_rng(0, 0, index), (500, 375))
        exact, fast = (cropped(data, which, crop, 160).astype(int) for which in ("pil", backend))
        errors.append(np.abs(exact - fast).mean())
    assert np.mean(errors) < 2 and max(errors) < 5, errors


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 100),
    st.integers(0, 2**32),
    st.sampled_from(["L", "RGB"]),
    st.sampled_from(FITS),
)
@settings(max_examples=120, deadline=None)
def test_backends_agree_on_any_size(width, height, side, seed, mode, fit):
    data = encode_image(fake_image(width, height, seed).convert(mode), "JPEG", quality=95)
    crop = random_crop(side, fit=fit).draw(sample_rng(seed, 0, 0), (width, height))
    exact, opencv, turbo = (cropped(data, which, crop, side).astype(int) for which in ("pil", *FAST))
    np.testing.assert_array_equal(opencv, turbo)
    shape = (side, side, 3)
    assert turbo.shape == exact.shape == shape
    if min(crop.width, crop.height, side) >= 16:  # fewer pixels cannot be compared
        assert np.abs(exact - turbo).mean() < 12


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("fit", ["squash", "letterbox"])
@pytest.mark.parametrize("kind", ["JPEG", "PPM"])
@pytest.mark.parametrize("size", [(900, 300), (640, 480)], ids=str)
def test_whole_images_in_training_are_nearly_pillows(backend, fit, kind, size):
    data = encode_image(fake_image(*size), kind, **({"quality": 92} if kind == "JPEG" else {}))
    has_border = False
    for index in range(8):
        crop = random_crop(64, fit=fit).draw(sample_rng(0, 0, index), size)
        exact, fast = (cropped(data, which, crop, 64).astype(int) for which in ("pil", backend))
        assert np.abs(exact - fast).mean() < 4
        is_border = (exact == crop.fill).all(axis=2)
        assert (fast[is_border] == crop.fill).all()
        has_border |= is_border.any()
    assert has_border == (fit == "letterbox")


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("kind", ["JPEG", "PPM"])
def test_a_long_image_is_smoothed_where_it_is_squashed(backend, kind):
    """Noise shows a shrinking without smoothing: the mean difference would be 26 and 38."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 900, 3), dtype=np.uint8))
    data = encode_image(noise, kind, **({"quality": 95} if kind == "JPEG" else {}))
    crop = Crop(0, 0, 900, 80, "bilinear", "squash")
    exact, fast = (cropped(data, which, crop, 64).astype(int) for which in ("pil", backend))
    assert np.abs(exact - fast).mean() < 8


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("top", range(0, 40, 3))
def test_a_thin_letterbox_keeps_its_pixels(backend, top):
    """At 1/8 a strip of 9 rows could have no row left."""
    for height in (1, 3, 9, 16, 17):
        crop = Crop(0, top, 500, height, "bilinear", "letterbox", (124, 116, 104))
        exact, fast = (cropped(LARGE, which, crop, 32).astype(int) for which in ("pil", backend))
        is_border = (exact == crop.fill).all(axis=2)
        assert (~is_border).any() and (fast[is_border] == crop.fill).all()
        assert np.abs(exact - fast)[~is_border].mean() < 40


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_decodes_at_the_scale_of_the_crop(scale, monkeypatch):
    asked = []
    original = backends.DECODERS["turbo"]
    monkeypatch.setitem(backends.DECODERS, "turbo", lambda *a: asked.append((a[3], original(*a))) or asked[-1][1])
    cropped(LARGE, "turbo", Crop(0, 0, 500, 375, "bilinear"), side=375 // scale - 1)
    (was_asked, pixels), width = asked[0], -(-500 // scale)
    assert was_asked == scale and pixels.shape == (-(-375 // scale), width, 3)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(("short_side", "scale"), [(126, 1), (125, 2), (63, 2), (62, 4), (32, 4), (31, 8)])
@pytest.mark.parametrize("size", [(500, 375), (375, 500)], ids=["wide", "tall"])
def test_evaluation_decodes_at_1_5_times_the_size_that_is_needed_or_more(backend, short_side, scale, size, monkeypatch):
    """Decoding at exactly the needed size doubles the distance from Pillow's pixels."""
    asked = []
    original = backends.DECODERS[backend]
    monkeypatch.setitem(backends.DECODERS, backend, lambda *a: asked.append(a[2:]) or original(*a))
    resized = tuple(short_side * length // 375 for length in size)
    wanted = CenterCrop(*resized, short_side, "bicubic")
    data = encode_image(fake_image(*size), "JPEG", quality=92)
    exact, fast = (np.asarray(open_image(data, "x", "ignore", one).center_crop(wanted)) for one in ("pil", backend))
    assert asked == [(size[1], scale)]  # all rows
    assert exact.shape == fast.shape == (short_side, short_side, 3)
    assert np.abs(exact.astype(int) - fast).mean() < 3


@given(st.integers(0, 2), st.sampled_from([1, 2, 4, 8]), st.integers(1, 375), st.sampled_from(["L", "RGB"]))
@settings(max_examples=60, deadline=None)
def test_rows_below_the_crop_are_not_decoded_and_those_above_have_the_same_pixels(subsampling, scale, bottom, mode):
    data = encode_image(fake_image(500, 375).convert(mode), "JPEG", subsampling=subsampling)
    whole, some = (backends.DECODERS["turbo"](data, read_ordinary_header(data), rows, scale) for rows in (375, bottom))
    assert len(some) == -(-min(375, bottom + 32) // scale)
    kept = bottom // scale
    np.testing.assert_array_equal(some[:kept], whole[:kept])


@pytest.mark.parametrize("kind", [{"progressive": True}, {"restart_marker_rows": 1}, {"optimize": True}], ids=str)
def test_rows_of_other_jpegs_have_the_same_pixels_too(kind):
    data = encode_image(fake_image(500, 375), "JPEG", **kind)
    whole, some = (backends.DECODERS["turbo"](data, read_ordinary_header(data), rows, 1) for rows in (375, 100))
    assert len(some) == (132 if "optimize" in kind else 375)
    np.testing.assert_array_equal(some[:100], whole[:100])


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("exif_orientation", ["ignore", "apply"])
def test_every_good_file_has_the_same_size_and_nearly_the_same_pixels(backend, name, exif_orientation):
    data, _ = GOOD[name]
    exact, fast = (open_image(data, name, exif_orientation, which) for which in ("pil", backend))
    assert exact.size == fast.size
    pixels = [np.asarray(one.crop(center_rectangle(exact.size), 8)).astype(int) for one in (exact, fast)]
    assert np.abs(pixels[0] - pixels[1]).mean() < (8 if "JPEG" in name or name == "PPM" else 0.001)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_every_bad_file_is_bad(backend, name):
    data, reason = BAD[name]
    with pytest.raises(BadImage, match=reason):
        opened = open_image(data, "some/where.jpg", "ignore", backend)
        opened.crop(center_rectangle(opened.size), 8)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_turned_photographs_are_turned_in_every_backend(orientation):
    data = with_orientation(orientation, "JPEG")
    for exif_orientation in ("ignore", "apply"):
        exact, fast = (open_image(data, "x", exif_orientation, which) for which in ("pil", "turbo"))
        assert exact.size == fast.size
        pixels = [np.asarray(one.crop(center_rectangle(exact.size), 16)).astype(int) for one in (exact, fast)]
        assert np.abs(pixels[0] - pixels[1]).mean() < 6


def test_size_by_header():
    assert read_ordinary_header(LARGE).size == (500, 375)
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph = encode_image(fake_image(), "JPEG", exif=exif)
    assert (
        read_ordinary_header(photograph).size == (48, 36) and read_ordinary_header(photograph, refuse_exif=True) is None
    )
    at = LARGE.index(b"\xff\xc0") + 5
    for height, width in ((65_000, 65_000), (0, 10)):
        assert read_ordinary_header(LARGE[:at] + struct.pack(">HH", height, width) + LARGE[at + 4 :]) is None
    for data in (
        b"",
        b"\xff\xd8\xff",
        LARGE[:100],
        encode_image(fake_image(), "PNG"),
        b"\xff\xd8" + b"\xff\xe0\0\0" * 9,
    ):
        assert read_ordinary_header(data) is None


@given(st.binary(max_size=200))
def test_size_of_anything_is_no_crash(data):
    read_ordinary_header(b"\xff\xd8\xff" + data)


def test_choice_of_backend(monkeypatch):
    assert [choose_backend(name) for name in ("pil", "cv2", "turbo", "auto")] == ["pil", "cv2", "turbo", "turbo"]
    absent = {"simplejpeg"}
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda module: None if module in absent else module)
    assert choose_backend("auto") == "cv2"
    remedy = r"backend turbo, .* needs python -m pip install simplejpeg; or take pil: "
    with pytest.raises(MissingDependencyError, match=remedy) as no:
        choose_backend("turbo")
    assert no.value.exit_code == 7
    absent.add("cv2")
    assert choose_backend("auto") == "pil"
    with pytest.raises(MissingDependencyError, match="install simplejpeg opencv-python-headless"):
        choose_backend("turbo")


def test_pillow_needs_neither(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    expected = random_crop(32).apply(Image.open(io.BytesIO(LARGE)), center_rectangle((500, 375)))
    np.testing.assert_array_equal(cropped(LARGE, "pil", center_rectangle((500, 375))), np.asarray(expected))


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("kind", ["PPM", "JPEG"])
def test_only_the_center_of_a_long_image_is_computed(backend, kind):
    """The whole resized image would have 256 x 1,024,000 pixels."""
    long_image = encode_image(fake_image(1, 4000), kind)
    wanted = CenterCrop(256, 1_024_000, 224, "bicubic")
    exact, fast = (
        np.asarray(open_image(long_image, "x", "ignore", which).center_crop(wanted)) for which in ("pil", backend)
    )
    np.testing.assert_array_equal(exact, fast)


def test_interpolations_that_opencv_lacks_are_pillows():
    wanted = CenterCrop(80, 60, 48, "lanczos")
    ppm = encode_image(fake_image(120, 90), "PPM")
    exact, fast = (np.asarray(open_image(ppm, "x", "ignore", which).center_crop(wanted)) for which in ("pil", "turbo"))
    np.testing.assert_array_equal(exact, fast)


def test_raw_pixels():
    image = fake_image(50, 30)
    data = encode_image(image, "PPM")
    np.testing.assert_array_equal(raw_pixels(data), np.asarray(image))
    too_long = b"P6\n4730 4730\n255\n" + bytes(3 * 4730**2)
    for other in (
        too_long,
        data[:-1],
        data + b"x",
        data.replace(b"P6", b"P5"),
        b"",
        b"P6\n0 5\n255\n",
        encode_image(image, "PNG"),
    ):
        assert raw_pixels(other) is None
