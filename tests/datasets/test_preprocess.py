"""Preprocess: sizes, normalisation, and a dict form that names every wrong field."""

from dataclasses import replace

import numpy as np
import pytest

from common.errors import DataError, UsageError
from configs.schema import PreprocessConfig, TrainedPreprocessConfig
from datasets.constants import BACKEND_PACKAGES, IMAGENET_MEAN, IMAGENET_STD, INTERPOLATIONS
from datasets.preprocess import Preprocess
from datasets.reading.backends import DECODERS
from datasets.reading.crop import RESAMPLING


@pytest.mark.parametrize(
    ("input_size", "resize_size"), [(160, 182), (192, 219), (224, 256), (256, 292), (304, 347), (320, 365)]
)
def test_resize_size(input_size, resize_size):
    assert Preprocess(input_size).resize_size == resize_size


def test_random_interpolation_is_bicubic_in_evaluation():
    assert Preprocess(interpolation="random") == Preprocess(interpolation="bicubic")


def test_normalize_every_value():
    pixels = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3, axis=-1)
    normalized = Preprocess().normalize(np.stack([pixels, pixels]))
    assert normalized.shape == (2, 3, 16, 16) and normalized.flags.c_contiguous
    exact = (np.arange(256)[None] / 255 - np.array(IMAGENET_MEAN)[:, None]) / np.array(IMAGENET_STD)[:, None]
    np.testing.assert_allclose(normalized[1].reshape(3, 256), exact, rtol=0, atol=5e-7)


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
        ("fit", "pad"),
        ("fit", None),
        ("fit", ["crop"]),
        ("crop_pct", 0),
        ("crop_pct", -0.5),
        ("crop_pct", 1.01),
        ("crop_pct", "0.9"),
        ("crop_pct", True),
        ("crop_pct", float("nan")),
        ("crop_pct", 0.9),
        ("resize_size", 2**21),
    ],
)
def test_wrong_field_is_named(field, value):
    with pytest.raises(DataError, match=rf"preprocess\.{field}: expected .*, got "):
        Preprocess.from_dict(Preprocess().to_dict() | {field: value})


def test_missing_and_unknown_fields_are_named():
    fields = Preprocess().to_dict()
    with pytest.raises(DataError, match=r"preprocess\.crop_ratio is unknown"):
        Preprocess.from_dict(fields | {"crop_ratio": 0.9})
    del fields["mean"]
    with pytest.raises(DataError, match=r"preprocess\.mean is missing"):
        Preprocess.from_dict(fields)
    with pytest.raises(DataError, match="expected fields and values"):
        Preprocess.from_dict([224])


# ---------------------------------------------------------------------------------------------------- fit and crop_pct


def test_a_dict_of_before_fit_and_crop_pct_means_what_it_meant():
    fields = Preprocess(32).to_dict()
    del fields["fit"], fields["crop_pct"]
    assert Preprocess.from_dict(fields) == Preprocess(32) == Preprocess(32, 36, fit="crop", crop_pct=0.875)
    published = Preprocess.from_dict(fields | {"input_size": 224, "resize_size": 232})
    assert (published.resize_size, published.fit, published.crop_pct) == (232, "crop", 224 / 232)
    assert Preprocess.from_dict(published.to_dict()) == published


@pytest.mark.parametrize(
    ("crop_pct", "resize_size"), [(1, 224), (1.0, 224), (0.875, 256), (0.9, 248), (0.5, 448), (0.001, 224_000)]
)
def test_crop_pct_is_the_share_that_is_kept(crop_pct, resize_size):
    assert Preprocess(crop_pct=crop_pct).resize_size == resize_size


def test_a_share_of_which_the_image_could_not_be_resized_is_refused():
    with pytest.raises(DataError, match=r"preprocess\.crop_pct: expected at least input_size / 1048576, got 1e-09"):
        Preprocess(crop_pct=1e-9)


@pytest.mark.parametrize("fit", ["squash", "letterbox"])
def test_whole_images_have_no_crop(fit):
    preprocess = Preprocess(96, fit=fit)
    assert (preprocess.resize_size, preprocess.crop_pct) == (96, 1)
    assert Preprocess.from_dict(preprocess.to_dict()) == preprocess
    with pytest.raises(
        DataError, match=rf"preprocess.crop_pct: expected 1 with fit {fit}, which shows the whole image"
    ):
        Preprocess(96, fit=fit, crop_pct=0.9)
    with pytest.raises(DataError, match=r"preprocess.resize_size: expected input_size, 96, with fit"):
        Preprocess(96, 109, fit=fit)


def test_the_border_normalises_to_about_zero():
    preprocess = Preprocess(fit="letterbox")
    assert preprocess.fill == (124, 116, 104)
    assert np.abs(preprocess.normalize(np.full((1, 1, 3), preprocess.fill, np.uint8))).max() < 0.01
    assert Preprocess(mean=(0.5, -1, 2)).fill == (128, 0, 255)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, {"fit": "letterbox", "crop_pct": 1, "resize_size": 64}),
        ({"input_size": 96}, {"fit": "letterbox", "crop_pct": 1, "resize_size": 96}),
        ({"fit": "letterbox"}, {"fit": "letterbox", "crop_pct": 1, "resize_size": 64}),
        ({"fit": "squash"}, {"fit": "squash", "crop_pct": 1, "resize_size": 64}),
        ({"fit": "crop"}, {"fit": "crop", "crop_pct": 0.875, "resize_size": 73}),
        ({"fit": "crop", "crop_pct": 0.9}, {"fit": "crop", "crop_pct": 0.9, "resize_size": 71}),
        ({"crop_pct": 1.0}, {"fit": "letterbox", "crop_pct": 1, "resize_size": 64}),
    ],
)
def test_flags_replace_the_letterbox_of_the_weights(flags, expected):
    trained = Preprocess(64, fit="letterbox").to_dict()
    found = Preprocess.from_config(TrainedPreprocessConfig(**flags), trained).to_dict()
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, (0.9, 35)),
        ({"input_size": 64}, (0.9, 71)),
        ({"crop_pct": 1.0}, (1.0, 32)),
        ({"crop_pct": 0.5, "input_size": 64}, (0.5, 128)),
        ({"fit": "squash"}, (1, 32)),
        ({"fit": "crop"}, (0.9, 35)),
    ],
)
def test_flags_replace_the_share_of_the_weights(flags, expected):
    trained = Preprocess(32, crop_pct=0.9).to_dict()
    found = Preprocess.from_config(TrainedPreprocessConfig(**flags), trained)
    assert (found.crop_pct, found.resize_size) == expected


def test_a_flag_that_says_what_the_weights_say_changes_nothing():
    trained = Preprocess(32, resize_size=40).to_dict()
    older = {name: value for name, value in trained.items() if name not in ("fit", "crop_pct")}
    for fields in (trained, older):
        assert Preprocess.from_config(TrainedPreprocessConfig(input_size=32), fields).resize_size == 40


def test_a_crop_of_weights_that_see_whole_images_is_refused():
    trained = Preprocess(64, fit="letterbox").to_dict()
    with pytest.raises(UsageError, match=r"--crop_pct 0.9 is for --fit crop; .* fitted by letterbox"):
        Preprocess.from_config(TrainedPreprocessConfig(crop_pct=0.9), trained)


def test_the_image_backend_is_that_of_the_weights_unless_a_flag_names_one():
    trained = Preprocess(32, image_backend="cv2").to_dict()
    config = PreprocessConfig(32, "random", "apply")
    assert Preprocess.from_config(config) == Preprocess(32, exif_orientation="apply")
    assert Preprocess.from_config(config, trained).image_backend == "cv2"
    assert Preprocess.from_config(replace(config, eval_image_backend="pil"), trained).image_backend == "pil"
    assert Preprocess.from_config(config, {}).image_backend == "pil"


def test_one_table_of_names_for_interpolations_and_backends():
    assert set(INTERPOLATIONS) == set(RESAMPLING)
    assert set(DECODERS) | {"pil"} == set(BACKEND_PACKAGES)
