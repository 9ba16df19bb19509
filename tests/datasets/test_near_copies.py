"""Near-copies: copies of other size and compression are found, pictures of one kind are not; the search is exact."""

import io

import numpy as np
import pytest
from PIL import Image

from datasets import near_copies
from datasets.near_copies import THUMBNAIL_BYTES, find_near_copies, group_copies, thumbnail_of
from demo.textures import DRAW, draw_texture


def pairs_of(images: list[Image.Image]) -> list[list[int]]:
    thumbnails = np.stack([thumbnail_of(image.convert("RGB")) for image in images])
    return find_near_copies(thumbnails, np.array([image.width / image.height for image in images])).tolist()


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


@pytest.mark.parametrize("name", DRAW)
def test_copies_of_other_size_and_compression_are_found_and_other_pictures_are_not(name):
    images = [draw_texture(name, [0, i]) for i in range(8)]
    copies = [image.resize((image.width // 2, image.height // 2)) for image in images[:4]]
    copies += [as_jpeg(image, 50) for image in images[4:]]
    assert sorted(pairs_of([*images, *copies])) == [[i, i + 8] for i in range(8)]


def test_a_picture_of_other_proportions_and_one_without_contrast_are_no_copies():
    image = draw_texture("stone", [0, 0])
    assert pairs_of([image, image.resize((image.width, image.height // 2))]) == []
    grey = Image.new("RGB", (64, 64), (90, 90, 90))
    assert pairs_of([grey, grey.copy()]) == []
    assert pairs_of([image]) == []


def test_a_large_set_is_searched_as_exactly_as_a_small_one(monkeypatch):
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(400, 12)) @ rng.normal(size=(12, THUMBNAIL_BYTES))
    thumbnails = np.clip(coarse * 12 + 128, 0, 255).astype(np.uint8)
    for i in range(0, 100, 2):
        thumbnails[300 + i] = np.clip(thumbnails[i].astype(int) + rng.integers(-1, 2, THUMBNAIL_BYTES), 0, 255)
    whole = sorted(find_near_copies(thumbnails, np.ones(400)).tolist())
    assert whole == [[i, 300 + i] for i in range(0, 100, 2)]
    monkeypatch.setattr(near_copies, "LEAF", 16)
    assert sorted(find_near_copies(thumbnails, np.ones(400)).tolist()) == whole


def test_a_film_of_frames_that_all_are_near_is_one_group(monkeypatch):
    monkeypatch.setattr(near_copies, "LEAF", 8)
    frame = np.random.default_rng(1).integers(0, 256, THUMBNAIL_BYTES)
    frames = np.clip(frame + np.random.default_rng(2).integers(-1, 2, (50, THUMBNAIL_BYTES)), 0, 255).astype(np.uint8)
    pairs = find_near_copies(frames, np.ones(50))
    assert len(pairs) == 49 and set(group_copies(50, pairs).tolist()) == {0}


def test_copies_of_copies_are_one_group():
    assert group_copies(6, np.array([[4, 5], [1, 2], [2, 4]])).tolist() == [0, 1, 1, 3, 1, 1]
    assert group_copies(3, np.zeros((0, 2), int)).tolist() == [0, 1, 2]
