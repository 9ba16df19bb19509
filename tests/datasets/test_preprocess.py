"""Preprocess: sizes, normalisation, and a dict form that names every wrong field."""

from dataclasses import replace

import numpy as np
import pytest

from common.errors import DataError
from configs.schema import PreprocessConfig
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
