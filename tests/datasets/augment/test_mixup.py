"""Mixup and cutmix: the formulas of the papers, on Paddle tensors and numpy arrays alike."""

import numpy as np
import paddle
import pytest

from common.errors import DataError
from configs.schema import MixConfig
from datasets.augment.mixup import Mixup, create_mixup

CLASSES = 10


def mixup_of(**flags) -> Mixup:
    return create_mixup(MixConfig(**flags), CLASSES)


def batch(size=6, side=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((size, 3, side, side), np.float32), rng.integers(0, CLASSES, size)


def one_hot(labels, smoothing):
    return np.eye(CLASSES)[labels] * (1 - smoothing) + smoothing / CLASSES


def mixed_by_formula(images, labels, choice, smoothing):
    """The formulas of the papers, one image after another."""
    mixed, soft = images.astype(np.float64), one_hot(labels, smoothing)
    partner_soft = soft[::-1].copy()
    for i, (opacity, (top, bottom, left, right), lam) in enumerate(zip(*choice, strict=True)):
        partner = images[len(images) - 1 - i].astype(np.float64)
        mixed[i] = opacity * images[i] + (1 - opacity) * partner
        mixed[i, :, top:bottom, left:right] = partner[:, top:bottom, left:right]
        soft[i] = lam * soft[i] + (1 - lam) * partner_soft[i]
    return mixed, soft


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("alphas", [(0.8, 1.0), (0.8, 0.0), (0.0, 1.0)], ids=["both", "mixup", "cutmix"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_the_formula_on_both_kinds_of_arrays(mode, alphas, smoothing):
    mix = mixup_of(mixup_mode=mode, mixup=alphas[0], cutmix=alphas[1], smoothing=smoothing)
    for seed in range(10):
        images, labels = batch(seed=seed)
        choice = mix.draw(np.random.default_rng(seed), 6, 12, 12)
        expected_images, expected_labels = mixed_by_formula(images, labels, choice, smoothing)
        mixed_images, mixed_labels = mix.apply(images, labels, choice)
        np.testing.assert_allclose(mixed_images, expected_images, rtol=0, atol=1e-6)
        np.testing.assert_allclose(mixed_labels, expected_labels, rtol=0, atol=1e-6)
        np.testing.assert_allclose(mixed_labels.sum(axis=1), 1, rtol=0, atol=1e-6)
        on_device = mix.apply(paddle.to_tensor(images), paddle.to_tensor(labels), choice)
        assert on_device[0].dtype == on_device[1].dtype == paddle.float32
        np.testing.assert_allclose(on_device[0].numpy(), mixed_images, rtol=0, atol=1e-6)
        np.testing.assert_allclose(on_device[1].numpy(), mixed_labels, rtol=0, atol=1e-6)


def drawn(count=1000, size=8, **changes):
    rng = np.random.default_rng(0)
    return [mixup_of(**changes).draw(rng, size, 32, 24) for _ in range(count)]


def is_cutmix(choice):
    return choice.boxes.any(axis=1)


@pytest.mark.parametrize(("mode", "own_parameters"), [("batch", 1), ("pair", 4), ("elem", 8)])
def test_mode_says_what_draws_its_own_parameters(mode, own_parameters):
    for choice in drawn(50, mixup_mode=mode, cutmix=0.0):
        assert len(set(choice.lam.tolist())) == own_parameters
        if mode == "pair":
            np.testing.assert_array_equal(choice.lam, choice.lam[::-1])


def test_switch_probability():
    share = np.mean([is_cutmix(choice)[0] for choice in drawn(mixup_switch_prob=0.3, cutmix=8.0)])
    assert abs(share - 0.3) < 0.05


def test_probability_and_labels_that_stay_soft_unmixed():
    lams = [choice.lam[0] for choice in drawn(mixup_prob=0.25, cutmix=0.0)]
    assert abs(np.mean([lam < 1 for lam in lams]) - 0.25) < 0.04
    images, labels = batch()
    never = mixup_of(mixup_prob=0.0)
    same, soft = never.apply(images, labels, never.draw(np.random.default_rng(0), 6, 12, 12))
    np.testing.assert_array_equal(same, images)
    np.testing.assert_allclose(soft, one_hot(labels, 0.1), rtol=0, atol=1e-7)


def test_lam_is_the_beta_distribution():
    lams = np.array([choice.lam[0] for choice in drawn(4000, mixup=0.8, cutmix=0.0)])
    assert abs(lams.mean() - 0.5) < 0.02 and abs(lams.var() - 1 / (4 * (2 * 0.8 + 1))) < 0.01


def test_cutmix_label_is_the_area_and_the_box_is_inside():
    for choice in drawn(mixup=0.0, mixup_mode="elem"):
        top, bottom, left, right = choice.boxes.T
        assert (top >= 0).all() and (bottom <= 32).all() and (left >= 0).all() and (right <= 24).all()
        assert (choice.opacity == 1).all()
        np.testing.assert_allclose(choice.lam, 1 - (bottom - top) * (right - left) / (32 * 24), atol=1e-6)


def test_cutmix_box_has_the_area_that_lam_leaves():
    boxes = np.array([choice.boxes[0] for choice in drawn(mixup=0.0, cutmix=1e6)])  # lam is 1/2
    assert (boxes[:, 1] - boxes[:, 0]).max() == int(32 * 0.5**0.5)
    assert (boxes[:, 3] - boxes[:, 2]).max() == int(24 * 0.5**0.5)


def test_cutmix_minmax_bounds_the_sides_and_turns_cutmix_on():
    mix = mixup_of(mixup=0.0, cutmix=0.0, cutmix_minmax=(0.25, 0.5))
    assert mix.cutmix_alpha == 1.0
    boxes = np.array([mix.draw(np.random.default_rng(i), 2, 32, 24).boxes[0] for i in range(500)])
    heights, widths = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    assert (heights.min(), heights.max(), widths.min(), widths.max()) == (8, 16, 6, 12)
    assert boxes.min() == 0 and boxes[:, 1].max() == 32 and boxes[:, 3].max() == 24


def test_draws_are_pure():
    first, second = (mixup_of(mixup_mode="elem").draw(np.random.default_rng(5), 8, 32, 32) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_odd_batches():
    with pytest.raises(DataError, match="--mixup_mode pair needs an even batch size, got 7"):
        mixup_of(mixup_mode="pair").check_batch_size(7)
    mixup_of(mixup_mode="pair").check_batch_size(8)
    images, labels = batch(5)
    for mode in ("batch", "elem"):
        mix = mixup_of(mixup_mode=mode, cutmix=0.0)
        mixed, soft = mix.apply(images, labels, mix.draw(np.random.default_rng(0), 5, 12, 12))
        np.testing.assert_allclose(mixed[2], images[2], rtol=0, atol=1e-6)
        np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=0, atol=1e-6)


def test_off_is_none_and_wrong_settings_are_refused():
    assert mixup_of(mixup=0.0, cutmix=0.0) is None
    assert mixup_of(mixup=0.0, cutmix=0.0, cutmix_minmax=(0.2, 0.8)).cutmix_alpha == 1.0
    with pytest.raises(DataError, match="needs an alpha of mixup or cutmix above 0"):
        Mixup(MixConfig(mixup=0.0, cutmix=0.0), CLASSES)
    with pytest.raises(DataError, match="expected batch, pair or elem, got 'all'"):
        mixup_of(mixup_mode="all")
