"""Holds the skipping of bad images: the good ones keep order and draws, each bad one is named once, and few may be."""

import numpy as np
import pytest

from common.errors import BadImage, DataError
from datasets.augment.mixup import create_mixup
from datasets.augment.random_erasing import RandomErasing
from datasets.augment.transforms import build_train_transform
from datasets.loading.bad_images import BadImages
from datasets.loading.loader import EvalLoader, TrainLoader
from datasets.loading.sampler import EvalSampler, TrainSampler
from datasets.preprocess import Preprocess
from tests.datasets.fake_images import write_pictures

PREPROCESS = Preprocess(16)
BAD = (3, 17, 20)


@pytest.fixture
def images(tmp_path):
    return write_pictures(tmp_path, 32)


def batches(images, *, bad_images=None, num_workers=0, mixer=None, epoch=0, first_step=0):
    transform = build_train_transform(16, interpolation="random", aa="rand-m9-mstd0.5-inc1")
    sampler = TrainSampler(len(images), 8, 1, 0, 1, seed=5)
    loader = TrainLoader(
        images,
        transform,
        PREPROCESS,
        sampler,
        num_workers=num_workers,
        seed=5,
        erasing=RandomErasing(0.3),
        mixer=mixer,
        bad_images=bad_images,
    )
    return list(loader.batches(epoch, first_step))


def damage(images):
    for index in BAD:
        with open(images.path(index), "r+b") as file:
            file.truncate(50)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_good_samples_are_as_if_nothing_were_bad(images, num_workers):
    whole = batches(images)
    damage(images)
    said = []
    policy = BadImages(images, "skip", 3, said.append)
    found = batches(images, bad_images=policy, num_workers=num_workers)
    for before, after in zip(whole, found, strict=True):
        kept = ~np.isin(before.indices, BAD)
        np.testing.assert_array_equal(after.indices, before.indices[kept])
        np.testing.assert_array_equal(after.images.numpy(), before.images.numpy()[kept])
        np.testing.assert_array_equal(after.labels.numpy(), before.labels.numpy()[kept])
    assert policy.num_skipped == len(said) == 3
    for index in BAD:
        (message,) = (message for message in said if f"/{index}.png" in message)
        assert f"(named by l.txt:{index + 1})" in message and "of at most 3" in message
    batches(images, bad_images=policy, epoch=1)
    assert len(said) == 3  # once for each image, not for each epoch


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_good_samples_keep_their_mixing(images, mode):
    mixer = create_mixup(0.8, 0.0, None, prob=1.0, switch_prob=0.5, mode=mode, smoothing=0.0, num_classes=4)
    drawn = []
    original = type(mixer).draw
    damage(images)

    class Watched(type(mixer)):
        def draw(self, *arguments):
            drawn.append(original(self, *arguments))
            return drawn[-1]

        def apply(self, images, labels, choice):
            drawn.append(choice)
            return super().apply(images, labels, choice)

    batches(images, bad_images=BadImages(images, "skip", 3), mixer=Watched(**vars(mixer)))
    orders = TrainSampler(len(images), 8, 1, 0, 1, seed=5).batches(0)
    for full, kept, order in zip(drawn[::2], drawn[1::2], orders, strict=True):
        np.testing.assert_array_equal(kept.lam, full.lam[~np.isin(order, BAD)])


def test_too_many(images):
    damage(images)
    with pytest.raises(DataError, match=r"more than --max_bad_images 2 could not be read, now .*datasets.check finds"):
        batches(images, bad_images=BadImages(images, "skip", 2))


def test_the_first_ends_the_run_by_default(images):
    damage(images)
    with pytest.raises(BadImage, match=r"damaged: .* \(named by l\.txt:\d+\)"):
        batches(images)


def test_batch_without_any_image(images):
    for index in range(32):
        with open(images.path(index), "wb"):
            pass
    with pytest.raises(DataError, match="no image of a whole batch could be read"):
        batches(images, bad_images=BadImages(images, "skip", 100))


def test_evaluation_never_skips(images):
    damage(images)
    with pytest.raises(BadImage, match=r"3\.png: damaged"):
        list(EvalLoader(images, PREPROCESS, EvalSampler(32, 8), num_workers=0).batches())


def test_a_mistake_of_ours_is_not_skipped(images, monkeypatch):
    monkeypatch.setattr("datasets.loading.sample.sample_rng", lambda *place: 1 // 0)
    with pytest.raises(DataError, match="ZeroDivisionError"):
        batches(images, bad_images=BadImages(images, "skip", 100))
