"""Automatic augmentation: the published operations, strengths, tables and probabilities."""

import math

import numpy as np
import pytest

from datasets.augment.auto_augment import AUTO_AUGMENT, AugMix, PolicyError, parse_policy
from datasets.augment.image_ops import FILL, OPERATIONS, Op, apply_op, draw_level
from datasets.augment.transforms import sample_rng
from tests.datasets.fake_images import fake_image

STATISTICS = 2000


def policy_draws(operation, count=STATISTICS):
    return [operation.draw(sample_rng(0, 0, i), (60, 40)) for i in range(count)]


# ---------------------------------------------------------------------------------------------------- operations


@pytest.mark.parametrize(
    ("name", "at_0", "at_5", "at_9", "at_10"),
    [
        ("Rotate", 0, 15, 27, 30),
        ("ShearX", 0, 0.15, 0.27, 0.3),
        ("ShearY", 0, 0.15, 0.27, 0.3),
        ("TranslateXRel", 0, 0.225, 0.405, 0.45),
        ("TranslateYRelAugMix", 0, 0.15, 0.27, 0.3),
        ("Posterize", 1, 2, 3, 4),
        ("PosterizeIncreasing", 4, 2, 1, 1),
        ("PosterizeOriginal", 4, 6, 7, 8),
        ("Solarize", 0, 128, 230, 256),
        ("SolarizeIncreasing", 256, 128, 26, 0),
        ("SolarizeAdd", 0, 55, 99, 110),
        ("Color", 0.1, 1.0, 1.72, 1.9),
        ("ContrastIncreasing", 1, 1.45, 1.81, 1.9),
        ("BrightnessIncreasing", 1, 1.45, 1.81, 1.9),
        ("Sharpness", 0.1, 1.0, 1.72, 1.9),
        ("Equalize", None, None, None, None),
    ],
)
def test_strength_at_levels(name, at_0, at_5, at_9, at_10):
    strength = OPERATIONS[name].strength
    assert [strength(level / 10, 1) for level in (0, 5, 9, 10)] == pytest.approx([at_0, at_5, at_9, at_10])


def test_sign_mirrors_around_no_change():
    for name in ("Rotate", "ShearX", "TranslateYRel"):
        assert OPERATIONS[name].strength(0.7, -1) == -OPERATIONS[name].strength(0.7, 1)
    assert OPERATIONS["ColorIncreasing"].strength(0.5, -1) == pytest.approx(0.55)


def test_noise_on_levels_is_clipped():
    rng = sample_rng(0, 0, 0)
    assert [draw_level(rng, 4, 0) for _ in range(3)] == [4, 4, 4]
    noisy = [draw_level(rng, 9, 0.5) for _ in range(STATISTICS)]
    assert max(noisy) == 10 and abs(np.median(noisy) - 9) < 0.05
    assert min(draw_level(rng, 1, 3) for _ in range(STATISTICS)) == 0
    uniform = [draw_level(rng, 4, math.inf) for _ in range(STATISTICS)]
    assert 0 <= min(uniform) < 0.05 and 3.95 < max(uniform) <= 4


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("level", [0, 10])
def test_every_operation_at_both_ends(name, level):
    kind = OPERATIONS[name]
    for sign in (-1, 1):
        op = Op(name, kind.strength(level / 10, sign), "bilinear" if kind.moves_pixels else None)
        changed = apply_op(fake_image(50, 30), op)
        assert changed.size == (50, 30) and changed.mode == "RGB"


def pixels_after(name, value, interpolation=None):
    return np.asarray(apply_op(fake_image(50, 30), Op(name, value, interpolation))).astype(int)


def test_effects():
    before = np.asarray(fake_image(50, 30)).astype(int)
    np.testing.assert_array_equal(pixels_after("Invert", None), 255 - before)
    np.testing.assert_array_equal(pixels_after("Posterize", 3), before & 0b11100000)
    np.testing.assert_array_equal(pixels_after("PosterizeOriginal", 8), before)
    np.testing.assert_array_equal(pixels_after("Solarize", 100), np.where(before < 100, before, 255 - before))
    np.testing.assert_array_equal(pixels_after("Solarize", 256), before)
    added = np.where(before < 128, np.minimum(255, before + 110), before)
    np.testing.assert_array_equal(pixels_after("SolarizeAdd", 110), added)
    np.testing.assert_array_equal(pixels_after("Brightness", 0.0), 0 * before)
    moved = pixels_after("TranslateXRel", 0.2, "nearest")
    np.testing.assert_array_equal(moved[:, :40], before[:, 10:])
    assert FILL == (124, 116, 104) and (moved[:, 40:] == FILL).all()
    np.testing.assert_array_equal(pixels_after("TranslateYRel", -0.5, "nearest")[15:], before[:15])
    np.testing.assert_array_equal(pixels_after("ShearX", 0.0, "nearest"), before)
    turned = pixels_after("Rotate", 180.0, "nearest")
    np.testing.assert_array_equal(turned, before[::-1, ::-1])


# ---------------------------------------------------------------------------------------------------- policies


def names_of(policy):
    return [op.name for choice in policy_draws(parse_policy(policy, "bicubic")) for op in choice]


def test_rand_augment_counts():
    default = policy_draws(parse_policy("rand-m9", "bicubic"))
    assert abs(np.mean([len(choice) for choice in default]) - 1) < 0.05  # 2 operations, each with probability 1/2
    names = [op.name for choice in default for op in choice]
    assert len(set(names)) == 15 and all(abs(names.count(name) / len(names) - 1 / 15) < 0.025 for name in set(names))
    assert abs(np.mean([len(choice) for choice in policy_draws(parse_policy("rand-n6", "bicubic"))]) - 3) < 0.1


def test_inc_swaps_six_operations_and_inc0_is_off():
    plain, increasing = set(names_of("rand-m5")), set(names_of("rand-m5-inc1"))
    assert plain == set(names_of("rand-m5-inc0"))
    swapped = {"Posterize", "Solarize", "Color", "Contrast", "Brightness", "Sharpness"}
    assert plain - increasing == swapped and increasing - plain == {f"{name}Increasing" for name in swapped}


def test_rand_augment_weights():
    names = names_of("rand-m5-w0-inc1")
    assert abs(names.count("Rotate") / len(names) - 0.26) < 0.04  # 0.3, less because none is drawn twice
    assert not {"Invert", "PosterizeIncreasing"} & set(names)
    assert all(
        len({op.name for op in choice}) == len(choice) for choice in policy_draws(parse_policy("rand-w0-n9", "bicubic"))
    )


@pytest.mark.parametrize(
    ("policy", "row", "expected"),
    [
        ("original", 0, (("PosterizeOriginal", 0.4, 8), ("Rotate", 0.6, 9))),
        ("original", 24, (("Equalize", 0.8, 8), ("Equalize", 0.6, 3))),
        ("originalr", 3, (("PosterizeIncreasing", 0.6, 7), ("PosterizeIncreasing", 0.6, 6))),
        ("v0", 15, (("Rotate", 1.0, 7), ("TranslateYRel", 0.8, 9))),
        ("v0", 22, (("Posterize", 0.8, 2), ("Solarize", 0.6, 10))),
        ("v0r", 22, (("PosterizeIncreasing", 0.8, 2), ("Solarize", 0.6, 10))),
    ],
)
def test_auto_augment_tables(policy, row, expected):
    assert AUTO_AUGMENT[policy][row] == expected
    assert len(AUTO_AUGMENT[policy]) == 25


def test_auto_augment_table_sums():
    """A wrong number in the long tables changes these sums, which are those of the published tables."""
    sums = {
        name: (round(sum(p for pair in AUTO_AUGMENT[name] for _, p, _ in pair), 1),
               sum(level for pair in AUTO_AUGMENT[name] for *_, level in pair))
        for name in ("original", "v0")
    }  # fmt: skip
    assert sums == {"original": (31.0, 287), "v0": (29.8, 240)}


def test_auto_augment_draws_rows_with_their_probabilities():
    choices = policy_draws(parse_policy("v0", "bicubic"), 5000)
    moves = [op for choice in choices for op in choice if op.name == "TranslateYRel"]
    assert abs(len(moves) / 5000 - 0.8 / 25) < 0.01
    assert {round(abs(op.value), 6) for op in moves} == {0.405}
    assert {op.value > 0 for op in moves} == {True, False}


def test_augmix():
    choices = policy_draws(parse_policy("augmix", "bicubic"))
    lengths = [len(chain) for choice in choices for chain in choice.chains]
    assert set(map(len, (choice.chains for choice in choices))) == {3} and set(lengths) == {1, 2, 3}
    assert all(math.isclose(sum(choice.weights), 1) for choice in choices)
    assert abs(np.mean([choice.share for choice in choices]) - 0.5) < 0.03
    names = {op.name for choice in choices for chain in choice.chains for op in chain}
    assert len(names) == 13 and not names & {"Invert", "SolarizeAdd", "Color", "Contrast", "Brightness", "Sharpness"}
    deep = policy_draws(parse_policy("augmix-w4-d5", "bicubic"), 20)
    assert {len(choice.chains) for choice in deep} == {4} and {len(c) for choice in deep for c in choice.chains} == {5}


def test_augmix_of_any_shape_is_the_weighted_sum():
    image = fake_image(50, 30)
    augment = AugMix("bilinear")
    for choice in policy_draws(augment, 10):
        mixed = np.zeros((30, 50, 3))
        for weight, chain in zip(choice.weights, choice.chains, strict=True):
            changed = image
            for op in chain:
                changed = apply_op(changed, op)
            mixed += weight * np.asarray(changed)
        expected = (1 - choice.share) * np.asarray(image) + choice.share * mixed
        assert np.abs(np.asarray(augment.apply(image, choice)) - expected).max() <= 2
        blended = np.asarray(AugMix("bilinear", blended=True).apply(image, choice))
        assert np.abs(blended - expected).max() <= 4


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("", "unknown augmentation policy ''"),
        ("rnd-m9", "unknown augmentation policy 'rnd-m9'; known: rand-.*v0r"),
        ("rand-m11", "section 'm11': expected a level from 0 to 10; rand-m<level"),
        ("rand-m9.5", "section 'm9.5'"),
        ("rand-n0", "section 'n0': expected a whole number from 1"),
        ("rand-w1", "section 'w1': the only set of weights is 0"),
        ("rand-n14-w0", "w0 has 13 operations"),
        ("rand-x3", "section 'x3': not a section of this policy"),
        ("rand-m9-", "section '': not a section"),
        ("rand-m", "section 'm': not a section"),
        ("rand-m9-m8", "section 'm8': given twice"),
        ("rand-mstd0.5.1", "section 'mstd0.5.1'"),
        ("v0-m9", "section 'm9': not a section of this policy; v0, v0r"),
        ("augmix-inc1", "section 'inc1': not a section of this policy; augmix-m"),
        ("augmix-a0", "section 'a0': expected a number above 0"),
    ],
)
def test_wrong_policies(policy, message):
    with pytest.raises(PolicyError, match=message) as caught:
        parse_policy(policy, "bicubic")
    assert caught.value.exit_code == 2 and str(caught.value).count("\n") == 0
