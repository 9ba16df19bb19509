"""Random operations: choices that give the same result again, and draws with the stated probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from common.errors import UsageError
from configs.schema import AugmentConfig, PreprocessConfig
from datasets.augment.image_ops import Op
from datasets.augment.transforms import (
    ColorJitter,
    HorizontalFlip,
    PaddedCrop,
    RandomResizedCrop,
    build_train_transform,
    sample_rng,
)
from datasets.preprocess import FITS, Preprocess
from datasets.reading.backends import BACKEND_PACKAGES, open_image
from datasets.reading.pixels import crop_pixels
from tests.datasets.fake_images import encode_image, fake_image
from tests.datasets.loaders import random_crop

POLICIES = [
    "rand-m9-mstd0.5-inc1", "rand-m10-inc1", "rand-m2-mstd0.5", "rand-m0-n3", "rand-m9-w0-n13", "v0", "v0r", "original",
    "originalr-mstd0.5", "augmix-m5-w4-d2", "augmix-m3-w3-a0.5-b1-mstd1",
]  # fmt: skip
STATISTICS = 2000


def draws(operation, count=STATISTICS, size=(60, 40)):
    return [operation.draw(sample_rng(0, 0, i), size) for i in range(count)]


# ------------------------------------------------------------------------------------------------ TrainTransform


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("interpolation", "fit"), [("random", "crop"), ("bilinear", "letterbox")])
def test_choices_replay(policy, interpolation, fit):
    """The same generator gives the same choice, a choice the same pixels, and `apply` draws nothing."""
    transform = build_train_transform(AugmentConfig(aa=policy), PreprocessConfig(32, interpolation, fit=fit))
    image = fake_image(60, 40)
    state = str(np.random.get_state())
    for index in range(25):
        choice = transform.draw(sample_rng(1, 2, index), image.size)
        assert choice == transform.draw(sample_rng(1, 2, index), image.size)
        assert len(repr(choice)) < 5000
        first, second = transform.apply(image, choice), transform.apply(image, choice)
        assert first.dtype == np.uint8 and first.shape == (32, 32, 3)
        np.testing.assert_array_equal(first, second)
    assert str(np.random.get_state()) == state and image == fake_image(60, 40)


def test_seed_epoch_and_index_each_change_the_draws():
    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1)]
    assert len({sample_rng(*place).random() for place in places}) == len(places)


def test_order_of_operations():
    transform = build_train_transform(AugmentConfig(aa="v0", color_jitter=0.4), PreprocessConfig(32))
    names = [type(operation).__name__ for operation in (transform.crop, *transform.operations)]
    assert names == ["RandomResizedCrop", "HorizontalFlip", "AutoAugment"]
    config = AugmentConfig(aa="", color_jitter=0.4, hflip=0.2, scale=(0.1, 0.9), ratio=(0.5, 2.0))
    jitter = build_train_transform(config, PreprocessConfig(32, "random"))
    assert jitter.operations == (HorizontalFlip(0.2), ColorJitter(0.4))
    assert jitter.crop == RandomResizedCrop(32, "random", (0.1, 0.9), (0.5, 2.0))


# ----------------------------------------------------------------------------------------------- crop, flip, jitter


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(0, 2**60))
def test_crop_lies_inside(width, height, seed):
    for fit in FITS:
        left, top, wide, high, *_ = random_crop(32, fit=fit).draw(sample_rng(seed, 0, 0), (width, height))
        assert left >= 0 and top >= 0 and wide >= 1 and high >= 1
        assert left + wide <= width and top + high <= height


def test_crop_area_and_ratio():
    crops = draws(random_crop(32), size=(400, 400))
    areas = np.array([crop.width * crop.height / 160_000 for crop in crops])
    ratios = np.array([crop.width / crop.height for crop in crops])
    assert areas.min() > 0.079 and areas.max() <= 1 and abs(np.median(areas) - 0.5) < 0.04
    assert ratios.min() > 0.74 and ratios.max() < 1.35 and abs(np.median(ratios) - 1) < 0.02


@pytest.mark.parametrize("fit", ["squash", "letterbox"])
def test_the_crop_of_a_whole_image_has_about_its_shape(fit):
    crops = draws(random_crop(32, fit=fit), size=(1600, 100))
    areas = np.array([crop.width * crop.height / 160_000 for crop in crops])
    ratios = np.array([crop.width / crop.height / 16 for crop in crops])
    assert areas.min() > 0.07 and areas.max() <= 1 and abs(np.median(areas) - 0.5) < 0.04
    assert ratios.min() > 0.72 and ratios.max() < 1.39 and abs(np.median(ratios) - 1) < 0.03


def test_a_square_image_has_the_same_rectangle_in_every_fit():
    for size in ((60, 60), (120, 60)):
        crops = [random_crop(32, fit=fit).draw(sample_rng(0, 0, 1), size) for fit in FITS]
        assert (crops[0][:5] == crops[1][:5] == crops[2][:5]) == (size == (60, 60))
    assert [crop.fit for crop in crops] == list(FITS)
    assert crops[2].fill == (124, 116, 104)


@pytest.mark.parametrize("fit", ["squash", "letterbox"])
@pytest.mark.parametrize("size", [(60, 40), (41, 97), (32, 32), (300, 7), (1, 1), (1, 500)], ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_without_chance_training_sees_what_evaluation_sees(fit, size, interpolation):
    config = AugmentConfig(scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0, aa="")
    flags = PreprocessConfig(32, interpolation, fit=fit)
    transform, image = build_train_transform(config, flags), fake_image(*size)
    choice = transform.draw(sample_rng(0, 0, 0), image.size)
    np.testing.assert_array_equal(transform.apply(image, choice), crop_pixels(image, Preprocess.from_config(flags)))


def padded_crop(side: int = 32, padding: int = 4, interpolation: str = "bicubic", **flags) -> PaddedCrop:
    config = AugmentConfig(crop=f"pad{padding}", hflip=0.0, aa="")
    return build_train_transform(config, PreprocessConfig(side, interpolation, **flags)).crop


def test_padded_crops_take_every_place_equally_often():
    crops = draws(padded_crop(padding=2), 5000)
    for values in ([crop.left for crop in crops], [crop.top for crop in crops]):
        numbers, counts = np.unique(values, return_counts=True)
        assert numbers.tolist() == [-2, -1, 0, 1, 2] and counts.min() > 880 and counts.max() < 1120
    assert abs(np.corrcoef([crop.left for crop in crops], [crop.top for crop in crops])[0, 1]) < 0.05


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(60, 40), (28, 28), (32, 32), (300, 7)], ids=str)
def test_a_padded_crop_is_the_evaluation_moved_over_black(size, fit):
    """As torchvision's RandomCrop with padding: a border around the image, a square cut out of it."""
    crop, image = padded_crop(padding=5, fit=fit), fake_image(*size)
    pixels = crop_pixels(image, Preprocess(32, fit=fit))
    fill = (124, 116, 104) if fit == "letterbox" else (0, 0, 0)
    padded = np.empty((42, 42, 3), np.uint8)
    padded[:] = fill
    padded[5:37, 5:37] = pixels
    for index in range(30):
        choice = crop.draw(sample_rng(0, 0, index), size)
        expected = padded[choice.top + 5 :, choice.left + 5 :][:32, :32]
        np.testing.assert_array_equal(np.asarray(crop.apply(image, choice)), expected)
        np.testing.assert_array_equal(choice.apply(pixels), expected)  # what cv2 and turbo give


@pytest.mark.parametrize("backend", BACKEND_PACKAGES)
def test_every_backend_reads_a_padded_crop(backend):
    pytest.importorskip("simplejpeg" if backend == "turbo" else "cv2" if backend == "cv2" else "PIL")
    image = open_image(encode_image(fake_image(90, 60), "JPEG"), "x.jpg", "ignore", backend)
    crop = padded_crop()
    choice = crop.draw(sample_rng(0, 0, 3), image.size)
    expected = choice.apply(image.center_crop(choice.center))
    np.testing.assert_array_equal(np.asarray(crop.read(image, choice)), np.asarray(expected))


def test_a_padded_crop_goes_with_flip_policy_and_every_interpolation():
    config = AugmentConfig(crop="pad4", aa="rand-m9-mstd0.5-inc1")
    transform, image = build_train_transform(config, PreprocessConfig(32, "random", crop_pct=1.0)), fake_image(60, 40)
    drawn = [transform.draw(sample_rng(0, 0, index), image.size) for index in range(40)]
    assert {choice[0].center.interpolation for choice in drawn} == {"bilinear", "bicubic"}
    assert {choice[1] for choice in drawn} == {True, False} and len({choice[2] for choice in drawn}) > 5
    assert all(transform.apply(image, choice).shape == (32, 32, 3) for choice in drawn)
    choice = drawn[0]
    np.testing.assert_array_equal(transform.apply(image, choice), transform.apply(image, choice))


@pytest.mark.parametrize("crop", ["pad", "pad0", "pad-1", "pad04", "padded", "", "pad12345", "pad٤"])
def test_other_crops_are_refused(crop):
    with pytest.raises(UsageError, match="expected resized, or pad and a number of pixels, for example pad4"):
        AugmentConfig(crop=crop)


def test_a_border_as_wide_as_the_image_is_refused():
    with pytest.raises(UsageError, match="--crop pad32: a border of 32 pixels around images of 32"):
        padded_crop(padding=32)
    assert padded_crop(padding=31).padding == 31


def test_a_letterboxed_part_keeps_its_shape():
    image = Image.new("RGB", (300, 200), (255, 0, 0))
    for index in range(50):
        crop = random_crop(32, fit="letterbox", ratio=(0.2, 5.0)).draw(sample_rng(0, 0, index), image.size)
        is_border = (np.asarray(random_crop(32).apply(image, crop)) == (124, 116, 104)).all(axis=2)
        rows, columns = (~is_border).any(axis=1).sum(), (~is_border).any(axis=0).sum()
        assert max(rows, columns) == 32 and rows * columns == (~is_border).sum()
        assert abs(min(rows, columns) - 32 * min(crop[2:4]) / max(crop[2:4])) <= 0.5


def test_the_border_has_the_mean_of_the_preprocessing():
    preprocess = Preprocess(32, mean=(0.5, 0.5, 0.5), fit="letterbox")
    transform = build_train_transform(AugmentConfig(), PreprocessConfig(32, fit="letterbox"), preprocess)
    assert transform.crop.fill == (128, 128, 128)


@pytest.mark.parametrize(("size", "expected"), [((10, 400), (0, 193, 10, 13)), ((400, 10), (193, 0, 13, 10))])
def test_crop_of_a_long_image_is_its_center(size, expected):
    assert random_crop(32, scale=(1.0, 1.0)).draw(sample_rng(0, 0, 0), size)[:4] == expected


def test_random_interpolation_draws_both():
    names = [crop.interpolation for crop in draws(random_crop(32, "random"))]
    assert set(names) == {"bilinear", "bicubic"} and abs(names.count("bicubic") / STATISTICS - 0.5) < 0.04


def test_crop_reads_nothing_outside():
    image = fake_image(60, 40)
    crop = random_crop(32).draw(sample_rng(0, 0, 3), image.size)
    inside = image.crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
    whole = crop._replace(left=0, top=0)
    assert random_crop(32).apply(image, crop) == random_crop(32).apply(inside, whole)


def test_flip():
    assert abs(np.mean(draws(HorizontalFlip(0.5))) - 0.5) < 0.04
    assert HorizontalFlip(0.5).apply(fake_image(), True) == ImageOps.mirror(fake_image())
    assert HorizontalFlip(0.5).apply(fake_image(), False) == fake_image()


def test_color_jitter():
    choices = draws(ColorJitter(0.4))
    factors = np.array([op.value for choice in choices for op in choice])
    assert 0.6 <= factors.min() < 0.61 and 1.39 < factors.max() <= 1.4
    assert len({tuple(op.name for op in choice) for choice in choices}) == 6
    assert min(op.value for choice in draws(ColorJitter(3.0)) for op in choice) >= 0
    unchanged = tuple(Op(name, 1.0) for name in ("Brightness", "Contrast", "Color"))
    assert ColorJitter(0.4).apply(fake_image(), unchanged) == fake_image()
