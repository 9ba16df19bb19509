"""Holds the evaluation transform to paddle.vision's, and its record in a card to what can be read back."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import BadImage, DataError
from configs.schema import PreprocessConfig
from datasets.constants import IMAGENET_MEAN, IMAGENET_STD
from datasets.preprocess import Preprocess
from datasets.reading import crop as module
from datasets.reading.decode import read_image
from datasets.reading.image_folder import find_images
from datasets.reading.pixels import crop_pixels, image_to_input, read_pixels
from tests.datasets.fake_images import fake_image

PHOTOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "imagenet_lite"
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
    found = image_to_input(image, preprocess)
    assert found.dtype == np.float32 and found.shape == (3, input_size, input_size)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("input_size", "resize_size"), [(160, 182), (192, 219), (224, 256), (256, 292), (304, 347), (320, 365)]
)
def test_resize_size(input_size, resize_size):
    assert Preprocess(input_size).resize_size == resize_size


def test_random_interpolation_is_bicubic_in_evaluation():
    assert Preprocess(interpolation="random") == Preprocess(interpolation="bicubic")


def test_normalize_every_value():
    pixels = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3, axis=-1)
    found = Preprocess().normalize(np.stack([pixels, pixels]))
    assert found.shape == (2, 3, 16, 16) and found.flags.c_contiguous
    exact = (np.arange(256)[None] / 255 - np.array(IMAGENET_MEAN)[:, None]) / np.array(IMAGENET_STD)[:, None]
    np.testing.assert_allclose(found[1].reshape(3, 256), exact, rtol=0, atol=5e-7)


@pytest.mark.parametrize("size", [(30, 400), (400, 30), (50, 61)], ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crop_of_a_ribbon_is_that_of_the_whole(size, interpolation, monkeypatch):
    image = fake_image(*size)
    preprocess = Preprocess(32, interpolation=interpolation)
    whole = crop_pixels(image, preprocess).astype(int)
    monkeypatch.setattr(module, "MAX_RESIZED_PIXELS", 0)
    assert np.abs(crop_pixels(image, preprocess) - whole).max() <= 2  # Pillow keeps the box in float32


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (1, 2_000_000)], ids=str)
def test_ribbon_without_its_memory(size):
    start = time.process_time()
    assert crop_pixels(fake_image(*size), Preprocess()).shape == (224, 224, 3)
    assert time.process_time() - start < 1


def test_dict_round_trip():
    preprocess = Preprocess(192, 200, "bilinear", (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), "apply")
    fields = preprocess.to_dict()
    assert fields["mean"] == [0.1, 0.2, 0.3]
    assert Preprocess.from_dict(fields) == preprocess


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_size", 0),
        ("input_size", "224"),
        ("input_size", True),
        ("resize_size", 223),
        ("resize_size", 256.0),
        ("interpolation", "cubic"),
        ("interpolation", ["bicubic"]),
        ("mean", [0.5, 0.5]),
        ("mean", "abc"),
        ("mean", [0.5, 0.5, float("nan")]),
        ("std", [1, 1, 0]),
        ("std", None),
        ("exif_orientation", "yes"),
        ("image_backend", "opencv"),
        ("image_backend", ["pil"]),
    ],
)
def test_wrong_field_is_named(field, value):
    with pytest.raises(DataError, match=rf"preprocess\.{field}: expected .*, got "):
        Preprocess.from_dict(Preprocess().to_dict() | {field: value})


def test_missing_and_unknown_fields_are_named():
    fields = Preprocess().to_dict()
    with pytest.raises(DataError, match=r"preprocess\.crop_pct is unknown"):
        Preprocess.from_dict(fields | {"crop_pct": 0.9})
    del fields["mean"]
    with pytest.raises(DataError, match=r"preprocess\.mean is missing"):
        Preprocess.from_dict(fields)
    with pytest.raises(DataError, match="expected fields and values"):
        Preprocess.from_dict([224])


@pytest.fixture
def fast():
    pytest.importorskip("cv2")
    pytest.importorskip("simplejpeg")


def difference(path, **how):
    """Mean over the pixels of what cv2, and turbo, make otherwise than Pillow."""
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
def test_fast_backends_are_nearly_pillow(tmp_path, fast, size, interpolation):
    noise = np.random.default_rng(0).normal(0, 20, (size[1], size[0], 3))  # what is not smoothed when shrunk shows here
    pixels = np.clip(np.asarray(fake_image(*size)) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=90)
    assert difference(str(tmp_path / "a.jpg"), interpolation=interpolation) < 2.5


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.bmp"])
def test_what_is_no_jpeg_is_pillows_in_every_backend(tmp_path, fast, name):
    fake_image(90, 70).save(tmp_path / name)
    assert difference(str(tmp_path / name), input_size=32) == 0


def test_raw_pixels_are_resized_without_decoding(tmp_path, fast):
    fake_image(400, 320).save(tmp_path / "a.ppm")
    assert 0 < difference(str(tmp_path / "a.ppm")) < 1


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (3, 60_000)], ids=str)
def test_a_ribbon_is_pillows(tmp_path, fast, size):
    fake_image(*size).save(tmp_path / "a.jpg")
    start = time.process_time()
    assert difference(str(tmp_path / "a.jpg")) == 0
    assert time.process_time() - start < 2


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="needs the photographs beside the project")
@pytest.mark.parametrize(("interpolation", "most"), [("bilinear", 0.7), ("bicubic", 0.8)])
def test_photographs_differ_by_what_the_documentation_says(fast, interpolation, most):
    found = [difference(path, interpolation=interpolation) for path in find_images(PHOTOGRAPHS)]
    assert np.mean(found) < most and max(found) < 2


@pytest.mark.parametrize("backend", ["cv2", "turbo"])
def test_a_damaged_jpeg_is_bad_in_every_backend(tmp_path, fast, backend):
    path = tmp_path / "a.jpg"
    fake_image(300, 300).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-500])
    for name in ("pil", backend):
        with pytest.raises(BadImage, match=r"a\.jpg: damaged"):
            read_pixels(path, Preprocess(image_backend=name))


def test_a_backend_of_the_weights_is_kept_unless_another_is_asked_for():
    trained = Preprocess(32, image_backend="cv2").to_dict()
    config = PreprocessConfig(32, "random", "apply")
    assert Preprocess.from_config(config) == Preprocess(32, exif_orientation="apply")
    assert Preprocess.from_config(config, trained).image_backend == "cv2"
    assert Preprocess.from_config(replace(config, eval_image_backend="pil"), trained).image_backend == "pil"
    assert Preprocess.from_config(config, {}).image_backend == "pil"
