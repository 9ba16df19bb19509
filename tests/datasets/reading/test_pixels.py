"""Pixels of evaluation: those of paddle.vision by Pillow, and nearly the same by the fast image backends."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from common.errors import BadImage
from datasets.constants import IMAGENET_MEAN, IMAGENET_STD
from datasets.preprocess import Preprocess
from datasets.reading import crop as module
from datasets.reading.backends import open_image
from datasets.reading.crop import MAX_RESIZED_PIXELS, RESAMPLING, Crop
from datasets.reading.decode import read_image
from datasets.reading.pixels import crop_pixels, image_to_input, read_pixels
from tests.datasets.fake_images import fake_image

SIZES = [(48, 36), (36, 48), (40, 40), (301, 97), (97, 301), (17, 64), (9, 9)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("interpolation", "input_size"), [("bilinear", 32), ("bicubic", 32), ("bicubic", 45)])
def test_equals_paddle_vision(size, interpolation, input_size):
    from paddle.vision import transforms as vision

    image = fake_image(*size)
    preprocess = Preprocess(input_size, interpolation=interpolation)
    cut = vision.Compose(
        [vision.Resize(int(input_size / 0.875), interpolation=interpolation), vision.CenterCrop(input_size)]
    )(image)
    np.testing.assert_array_equal(crop_pixels(image, preprocess), np.asarray(cut))
    expected = vision.Compose([vision.ToTensor(), vision.Normalize(IMAGENET_MEAN, IMAGENET_STD)])(cut).numpy()
    values = image_to_input(image, preprocess)
    assert values.dtype == np.float32 and values.shape == (3, input_size, input_size)
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [*SIZES, (8, 400), (400, 8), (32, 31)], ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [32, 45])
def test_the_whole_image_is_squashed_or_padded(size, interpolation, side):
    """Pillow's own functions give the same pixels."""
    image, method = fake_image(*size), RESAMPLING[interpolation]
    squashed = crop_pixels(image, Preprocess(side, interpolation=interpolation, fit="squash"))
    np.testing.assert_array_equal(squashed, image.resize((side, side), method))
    boxed = crop_pixels(image, Preprocess(side, interpolation=interpolation, fit="letterbox"))
    np.testing.assert_array_equal(boxed, ImageOps.pad(image, (side, side), method, color=(124, 116, 104)))


@pytest.mark.parametrize(("size", "columns"), [((1, 4000), slice(16, 17)), ((4000, 1), slice(0, 32))], ids=str)
def test_a_line_keeps_a_pixel_in_its_letterbox(size, columns):
    boxed = crop_pixels(fake_image(*size), Preprocess(32, fit="letterbox"))
    is_image = (boxed != (124, 116, 104)).any(axis=2)
    assert is_image[:, columns].sum() == 32 == is_image.sum()


@pytest.mark.parametrize("crop_pct", [1.0, 0.9, 0.5])
def test_the_crop_keeps_its_share(crop_pct):
    from paddle.vision import transforms as vision

    image = fake_image(301, 97)
    cut = vision.Compose([vision.Resize(int(32 / crop_pct), interpolation="bicubic"), vision.CenterCrop(32)])(image)
    np.testing.assert_array_equal(crop_pixels(image, Preprocess(32, crop_pct=crop_pct)), np.asarray(cut))


@pytest.mark.parametrize("size", [(30, 400), (400, 30), (50, 61)], ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crop_of_a_long_image_is_that_of_the_whole(size, interpolation, monkeypatch):
    image = fake_image(*size)
    preprocess = Preprocess(32, interpolation=interpolation)
    whole = crop_pixels(image, preprocess).astype(int)
    monkeypatch.setattr(module, "MAX_RESIZED_PIXELS", 0)
    assert np.abs(crop_pixels(image, preprocess) - whole).max() <= 2  # Pillow keeps the box in float32


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (1, 2_000_000)], ids=str)
def test_a_long_image_is_not_resized_whole(size, resized_sizes):
    assert crop_pixels(fake_image(*size), Preprocess()).shape == (224, 224, 3)
    assert resized_sizes[-1] == (224, 224)


@pytest.fixture
def resized_sizes(monkeypatch):
    """Sizes to which Pillow resized images, in order; a size above the limit of the project is an error."""
    sizes, resize = [], Image.Image.resize

    def recorded(image, size, *arguments, **options):
        assert size[0] * size[1] <= MAX_RESIZED_PIXELS
        sizes.append(size)
        return resize(image, size, *arguments, **options)

    monkeypatch.setattr(Image.Image, "resize", recorded)
    return sizes


@pytest.fixture
def fast_backends():
    pytest.importorskip("cv2")
    pytest.importorskip("simplejpeg")


def difference(path, **how):
    """Mean difference from Pillow's pixels, which is the same for cv2 and turbo."""
    exact, opencv, turbo = (
        read_pixels(path, Preprocess(image_backend=one, **how)).astype(int) for one in ("pil", "cv2", "turbo")
    )
    np.testing.assert_array_equal(opencv, turbo)
    assert turbo.shape == exact.shape and turbo.dtype == exact.dtype
    return np.abs(turbo - exact).mean()


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.ppm", "a.webp"])
@pytest.mark.parametrize("exif_orientation", ["ignore", "apply"])
def test_pillow_reads_to_the_pixels_of_a_decoded_image(tmp_path, name, exif_orientation):
    exif = Image.Exif()
    exif[0x0112] = 6
    fake_image(90, 70).save(tmp_path / name, exif=exif)
    preprocess = Preprocess(32, exif_orientation=exif_orientation)
    image = read_image(tmp_path / name, exif_orientation)
    np.testing.assert_array_equal(read_pixels(tmp_path / name, preprocess), crop_pixels(image, preprocess))


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (257, 300), (60, 45), (1700, 1500), (31, 900)], ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("fit", ["crop", "squash", "letterbox"])
def test_fast_backends_are_nearly_pillow(tmp_path, fast_backends, size, interpolation, fit):
    noise = np.random.default_rng(0).normal(0, 20, (size[1], size[0], 3))  # shows a shrinking without smoothing
    pixels = np.clip(np.asarray(fake_image(*size)) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=90)
    assert difference(str(tmp_path / "a.jpg"), interpolation=interpolation, fit=fit) < 2.5


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.bmp"])
def test_other_formats_than_jpeg_have_pillows_pixels_in_every_backend(tmp_path, fast_backends, name):
    fake_image(90, 70).save(tmp_path / name)
    assert difference(str(tmp_path / name), input_size=32) == 0


def test_raw_pixels_are_resized_without_decoding(tmp_path, fast_backends):
    fake_image(400, 320).save(tmp_path / "a.ppm")
    for fit in ("crop", "squash", "letterbox"):
        assert 0 < difference(str(tmp_path / "a.ppm"), fit=fit) < 1


def test_raw_pixels_are_averaged_where_a_crop_shrinks(fast_backends):
    """One column in four is white: what lies between two pixels alone would be black or half white."""
    columns = np.zeros((64, 64, 3), np.uint8)
    columns[:, ::4] = 255
    raw = open_image(b"P6\n64 64\n255\n" + columns.tobytes(), "a.ppm", "ignore", "cv2")
    shrunk = raw.crop(Crop(0, 0, 64, 64, "bilinear"), 16)
    assert shrunk.min() >= 63 and shrunk.max() <= 64


@pytest.mark.parametrize("backend", ["cv2", "turbo"])
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (3, 900), (2000, 9)], ids=str)
def test_the_border_is_the_same_in_every_backend(tmp_path, fast_backends, backend, size):
    fake_image(*size).save(tmp_path / "a.jpg", quality=95)
    exact, fast = (read_pixels(tmp_path / "a.jpg", Preprocess(fit="letterbox", image_backend=one))
                   for one in ("pil", backend))  # fmt: skip
    border = (exact == (124, 116, 104)).all(axis=2)
    assert border.any() and (fast[border] == (124, 116, 104)).all()
    inside = fast[~border].astype(int)
    assert np.abs(inside - exact[~border]).mean() < (3 if min(size) > 9 else 30)


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (3, 60_000)], ids=str)
def test_a_long_image_has_pillows_pixels_in_every_backend(tmp_path, fast_backends, resized_sizes, size):
    fake_image(*size).save(tmp_path / "a.jpg")
    assert difference(str(tmp_path / "a.jpg")) == 0


@pytest.mark.parametrize("backend", ["cv2", "turbo"])
def test_a_damaged_jpeg_is_bad_in_every_backend(tmp_path, fast_backends, backend):
    path = tmp_path / "a.jpg"
    fake_image(300, 300).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-500])
    for name in ("pil", backend):
        with pytest.raises(BadImage, match=r"a\.jpg: damaged"):
            read_pixels(path, Preprocess(image_backend=name))
