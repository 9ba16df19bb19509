"""Random erasing: its probabilities and sizes, and the same boxes of an image in every batch and on every device."""

import numpy as np
import paddle
import pytest

from configs.schema import AugmentConfig
from datasets.augment.random_erasing import NO_ERASING, ErasedBoxes, RandomErasing, create_random_erasing

COUNT, SIDE = 2000, 64


def boxes_of(erasing, count=COUNT):
    """The boxes of `count` images: [row, top, left, height, width, ...]."""
    return erasing.draw(0, SIDE, 0, range(count)).places.reshape(-1, 8)


def test_statistics():
    assert abs(len(boxes_of(RandomErasing(0.25, "pixel", 1))) / COUNT - 0.25) < 0.03
    _, top, left, height, width = boxes_of(RandomErasing(1.0, "pixel", 1)).T[:5]
    shares, aspects = height * width / SIDE**2, height / width
    assert shares.min() > 0.015 and shares.max() < 0.34 and abs(np.median(shares) - 0.175) < 0.015
    assert abs(np.median(aspects) - 1) < 0.1 and aspects.min() > 0.25 and aspects.max() < 4
    assert top.min() == left.min() == 0 and (top + height).max() <= SIDE and (left + width).max() <= SIDE


def test_count():
    boxes = boxes_of(RandomErasing(1.0, "pixel", 3))
    counts = np.bincount(boxes[:, 0])
    assert set(counts) == {1, 2, 3}
    of_three = boxes[counts[boxes[:, 0]] == 3]
    assert (of_three[:, 3] * of_three[:, 4]).max() < SIDE**2 / 9 * 1.1


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_fills(mode):
    erased = RandomErasing(1.0, mode, 1).draw(0, SIDE, 0, range(200))
    images = np.full((200, 3, SIDE, SIDE), 9, np.float32)
    erased.apply(images)
    filled = []
    for row, top, left, height, width in erased.places.reshape(-1, 8)[:, :5]:
        inside = images[row, :, top : top + height, left : left + width]
        assert (images[row] == 9).sum() == 3 * (SIDE**2 - height * width)
        constant = (inside == inside[:, :1, :1]).all()
        assert constant == (mode != "pixel") and (inside[0, 0, 0] == inside[1, 0, 0]) == (mode == "const")
        filled.append(inside.reshape(3, -1)[:, :16])
    values = np.concatenate(filled, axis=1)
    assert abs(values.mean()) < 0.1 and abs(values.std() - (mode != "const")) < 0.1


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_the_same_in_every_batch_and_in_paddle(mode):
    erasing = RandomErasing(0.5, mode, 2)
    batch = np.random.default_rng(0).random((8, 3, SIDE, SIDE), np.float32)
    whole, first, last, in_paddle = batch.copy(), batch.copy()[:3], batch.copy()[3:], paddle.to_tensor(batch)
    erased = erasing.draw(1, SIDE, 2, range(10, 18))
    erased.apply(whole)
    erasing.draw(1, SIDE, 2, range(10, 13)).apply(first)
    erasing.draw(1, SIDE, 2, range(13, 18)).apply(last)
    ErasedBoxes(erased.places, paddle.to_tensor(erased.noise)).apply(in_paddle)
    assert 0 < (whole != batch).mean() < 0.5
    np.testing.assert_array_equal(whole, np.concatenate([first, last]))
    np.testing.assert_array_equal(whole, in_paddle.numpy())
    for seed, epoch in ((0, 2), (1, 3)):
        other = batch.copy()
        erasing.draw(seed, SIDE, epoch, range(10, 18)).apply(other)
        assert (other != whole).any()


def test_flags():
    assert create_random_erasing(AugmentConfig(reprob=0.0)) is None
    config = AugmentConfig(reprob=0.3, remode="rand", recount=4)
    assert create_random_erasing(config) == RandomErasing(probability=0.3, mode="rand", max_count=4)


def test_no_box_leaves_a_batch_unchanged():
    for erased in (NO_ERASING, RandomErasing(0.0, "pixel", 1).draw(0, SIDE, 0, range(5))):
        images = np.ones((5, 3, 4, 4), np.float32)
        erased.apply(images)
        assert (images == 1).all() and len(erased.noise) == 1
