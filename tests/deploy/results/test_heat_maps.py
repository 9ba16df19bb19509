"""--explain: the colours lie on the part of the picture that the network saw, at every crop and form of a picture."""

import numpy as np
import pytest
from PIL import Image

from datasets.preprocess import Preprocess
from datasets.reading.pixels import crop_pixels
from deploy.results.heat_maps import ExplainedImages, colour_by_map, cut_to_ratio

SIDE, CELLS = 64, 8


class BrightPlaces:
    """As `engine.layer_cam` of a network whose class depends on the red of each place."""

    def maps(self, images, labels):
        red = images[:, 0].reshape(len(images), CELLS, SIDE // CELLS, CELLS, SIDE // CELLS).mean(axis=(2, 4))
        return np.ascontiguousarray((red - red.min()) / max(red.max() - red.min(), 1e-6), np.float32)


def box_of(mask):
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


@pytest.mark.parametrize("size", [(400, 400), (640, 400), (400, 640), (300, 900), (900, 300)])
@pytest.mark.parametrize(
    "settings", [{"resize_size": 64}, {"resize_size": 73}, {"crop_pct": 0.5}, {"fit": "squash"}, {"fit": "letterbox"}]
)
def test_the_box_is_where_the_network_saw_the_picture(size, settings):
    """A picture whose brightness is its own column (or row): the crop tells which columns it shows."""
    preprocess = Preprocess(SIDE, interpolation="bilinear", **settings)
    ramp = np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1])
    pixels = np.stack([*np.meshgrid(*ramp), np.zeros(size[::-1])], axis=2).astype(np.uint8)
    seen = crop_pixels(Image.fromarray(pixels), preprocess).astype(float)
    left, top, right, bottom = preprocess.center_crop(size).box(size)
    across, down = (right - left) / SIDE, (bottom - top) / SIDE
    for axis, start, step, length in ((0, left, across, size[0]), (1, top, down, size[1])):
        for place in (8, SIDE - 9):  # the centre of a pixel of the crop, away from what resizing does at the border
            value = seen[SIDE // 2, place, 0] if axis == 0 else seen[place, SIDE // 2, 1]
            if not step < start + (place + 0.5) * step < length - step:
                continue  # the border of a letterbox
            expected = (start + (place + 0.5) * step - 0.5) / (length - 1) * 255
            assert value == pytest.approx(expected, abs=1.5)


@pytest.mark.parametrize("size", [(400, 400), (640, 400), (400, 640), (250, 900)])
@pytest.mark.parametrize("place", [(0.5, 0.5), (0.22, 0.6), (0.7, 0.12)])
def test_the_heat_lies_on_the_patch_that_decides(tmp_path, size, place):
    """In the written file, whatever the form of the picture; a patch outside the crop is not seen and stays dark."""
    width, height = size
    x, y, side = round(place[0] * width), round(place[1] * height), min(size) // 6
    pixels = np.full((height, width, 3), 60, np.uint8)
    pixels[max(y - side // 2, 0) : y + side // 2, max(x - side // 2, 0) : x + side // 2] = (255, 60, 60)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    preprocess = Preprocess(SIDE, 73, "bilinear")
    left, top, right, bottom = preprocess.center_crop(size).box(size)
    prediction = {"class_ids": [0], "scores": [1.0], "file_name": str(tmp_path / "a.png"), "label_names": ["red"]}
    explained = ExplainedImages(str(tmp_path / "out"), [str(tmp_path / "a.png")], BrightPlaces(), preprocess)
    explained.write([prediction])
    assert explained.summary().endswith("out: 1")
    written = np.asarray(Image.open(tmp_path / "out" / "a.png.jpg").convert("RGB"), float)
    start = (0, height + 8) if width > 1.5 * height else (width + 8, 0)
    coloured = written[start[1] : start[1] + height, start[0] : start[0] + width]
    bright = coloured[..., 0] - coloured[..., 2] > 100  # orange and yellow; the border is white
    is_seen = left <= x - side / 2 and x + side / 2 <= right and top <= y - side / 2 and y + side / 2 <= bottom
    if is_seen:
        found = box_of(bright)
        cell = (right - left) / CELLS
        assert np.mean([found[0], found[2]]) == pytest.approx(x, abs=0.75 * cell)
        assert np.mean([found[1], found[3]]) == pytest.approx(y, abs=0.75 * cell)
    outside = np.ones((height, width), bool)
    outside[round(top) : round(bottom), round(left) : round(right)] = False
    if outside.any():
        inner = outside.copy()
        for axis in (0, 1):
            for shift in (-6, 6):
                inner &= np.roll(outside, shift, axis)  # JPEG blurs the border
        assert coloured[inner].max() < 130, "what the network did not see is dark"


def test_a_box_may_reach_beyond_the_picture():
    """As with a picture that is fitted into the square with borders."""
    image = Image.new("RGB", (100, 40), (90, 90, 90))
    heat = np.zeros((10, 10), np.float32)
    heat[3:7, 8:] = 1
    coloured = np.asarray(colour_by_map(image, heat, (0, -30, 100, 70)), float)
    assert coloured[20, 92].sum() > 2 * coloured[20, 20].sum()
    assert coloured.shape == (40, 100, 3)


def test_failed_pictures_have_no_map(tmp_path):
    explained = ExplainedImages(str(tmp_path / "out"), [], BrightPlaces(), Preprocess(SIDE))
    explained.write([{"class_ids": [], "scores": [], "file_name": "bad.jpg", "label_names": [], "error": "damaged"}])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [(20, 6000), (6000, 20)])
def test_of_a_long_picture_the_part_around_the_square_is_shown(size):
    image = Image.new("RGB", size, (40, 40, 40))
    middle = (2990, 0, 3010, 20) if size[0] > size[1] else (0, 2990, 20, 3010)
    image.paste((200, 0, 0), middle)
    part, box = cut_to_ratio(image, middle)
    assert sorted(part.size) == [20, 80]
    assert part.crop(box).getcolors() == [(400, (200, 0, 0))]
    whole = (0, 0, *size)
    assert cut_to_ratio(image, whole) == (image, whole), "squashed or with a border: the network saw all of it"
    end = (5980, 0, 6000, 20) if size[0] > size[1] else (0, 5980, 20, 6000)
    assert cut_to_ratio(image, end)[1] in ((60, 0, 80, 20), (0, 60, 20, 80))
