"""The crop of a large rectangle in bands has the same pixels as the crop of its copy."""

import numpy as np
import pytest
from PIL import Image

from datasets.reading import crop as module
from datasets.reading.crop import RESAMPLING, Crop, crop_and_resize

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 400, 3), dtype=np.uint8))
SIZES = [(400, 500), (400, 60), (50, 480), (64, 500), (300, 64), (150, 235), (150, 237), (100, 40), (7, 490)]


@pytest.mark.parametrize("interpolation", RESAMPLING)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fit", ["crop", "letterbox"])
def test_bands_give_the_pixels_of_the_whole_rectangle(monkeypatch, interpolation, size, fit):
    crop = Crop(400 - size[0], 500 - size[1], *size, interpolation, fit, (1, 2, 3))
    whole = np.asarray(crop_and_resize(NOISE, crop, 64))
    monkeypatch.setattr(module, "MAX_COPIED_PIXELS", 3000)
    assert (np.asarray(crop_and_resize(NOISE, crop, 64)) == whole).all()


def test_a_large_rectangle_is_not_copied(monkeypatch):
    monkeypatch.setattr(module, "MAX_COPIED_PIXELS", 3000)
    copied, of_image = [], Image.Image.crop
    monkeypatch.setattr(Image.Image, "crop", lambda self, box: copied.append(box) or of_image(self, box))
    crop_and_resize(NOISE, Crop(0, 0, 400, 500, "bilinear"), 64)
    assert len(copied) > 50
    assert max((right - left) * (bottom - top) for left, top, right, bottom in copied) <= 3000
