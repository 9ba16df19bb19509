"""Holds the skipping of bad images: the good ones keep order and draws, each bad one is named once, and few may be."""

import numpy as np
import pytest

from common.errors import BadImage, DataError
from configs.schema import AugmentConfig, LoaderConfig, MixConfig, PreprocessConfig, TrainLoaderConfig
from datasets.augment.mixup import Mixup
from datasets.augment.random_erasing import create_random_erasing
from datasets.augment.transforms import build_train_transform
from datasets.loading.loader import EvalLoader, TrainLoader
from datasets.loading.sampler import EvalSampler, TrainSampler
from datasets.preprocess import Preprocess
from tests.datasets.fake_images import write_pictures

PREPROCESS = Preprocess(16)
BAD = (3, 17, 20)


@pytest.fixture
def images(tmp_path):
    return write_pictures(tmp_path, 32)


def train_loader(images, *, limit=None, num_workers=0, mixup=None):
    """A loader that leaves out up to `limit` bad images; None ends at the first."""
    augment = AugmentConfig(aa="rand-m9-mstd0.5-inc1", reprob=0.3)
    policy = {} if limit is None else {"on_bad_image": "skip", "max_bad_images": limit}
    return TrainLoader(
        images,
        build_train_transform(augment, PreprocessConfig(16, "random")),
        PREPROCESS,
        TrainSampler(len(images), 8, 1, 0, 1, seed=5),
        TrainLoaderConfig(batch_size=8, num_workers=num_workers, **policy),
        erasing=create_random_erasing(augment),
        mixup=mixup,
    )


def batches(images, **how):
    return list(train_loader(images, **how).batches(0))


def damage(images):
    for index in BAD:
        with open(images.path(index), "r+b") as file:
            file.truncate(50)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_good_samples_are_as_if_nothing_were_bad(images, num_workers, capfd):
    whole = batches(images)
    damage(images)
    loader = train_loader(images, limit=3, num_workers=num_workers)
    for before, after in zip(whole, loader.batches(0), strict=True):
        kept = ~np.isin(before.indices, BAD)
        np.testing.assert_array_equal(after.indices, before.indices[kept])
        np.testing.assert_array_equal(after.images.numpy(), before.images.numpy()[kept])
        np.testing.assert_array_equal(after.labels.numpy(), before.labels.numpy()[kept])
    messages = capfd.readouterr().err.splitlines()
    assert len(messages) == 3
    for index in BAD:
        (message,) = (message for message in messages if f"/{index}.png" in message)
        assert f"(named by l.txt:{index + 1})" in message and "of at most 3" in message
    assert sum(len(batch.indices) for batch in loader.batches(1)) == 32 - 3
    assert capfd.readouterr().err == ""  # one message per image, not per epoch


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_good_samples_keep_their_mixing(images, mode):
    drawn = []
    damage(images)

    class RecordingMixup(Mixup):
        def draw(self, *arguments):
            drawn.append(super().draw(*arguments))
            return drawn[-1]

        def apply(self, images, labels, choice):
            drawn.append(choice)
            return super().apply(images, labels, choice)

    mixup = RecordingMixup(MixConfig(smoothing=0.0, mixup=0.8, cutmix=0.0, mixup_mode=mode), 4)
    batches(images, limit=3, mixup=mixup)
    orders = TrainSampler(len(images), 8, 1, 0, 1, seed=5).batches(0)
    for full, kept, order in zip(drawn[::2], drawn[1::2], orders, strict=True):
        np.testing.assert_array_equal(kept.lam, full.lam[~np.isin(order, BAD)])


def test_too_many(images):
    damage(images)
    with pytest.raises(DataError, match=r"more than --max_bad_images 2 could not be read, now .*datasets.check names"):
        batches(images, limit=2)


def test_the_first_ends_the_run_by_default(images):
    damage(images)
    with pytest.raises(BadImage, match=r"damaged: .* \(named by l\.txt:\d+\)"):
        batches(images)


def test_batch_without_any_image(images):
    for index in range(32):
        with open(images.path(index), "wb"):
            pass
    with pytest.raises(DataError, match="no image of a whole batch could be read"):
        batches(images, limit=100)


def test_evaluation_never_skips(images):
    damage(images)
    with pytest.raises(BadImage, match=r"3\.png: damaged"):
        list(EvalLoader(images, PREPROCESS, EvalSampler(32, 8), LoaderConfig(8, 0)).batches())


def test_a_mistake_of_ours_is_not_skipped(images, monkeypatch):
    monkeypatch.setattr("datasets.loading.sample.sample_rng", lambda *place: 1 // 0)
    with pytest.raises(DataError, match="ZeroDivisionError"):
        batches(images, limit=100)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_images_of_an_evaluation_are_marked_and_keep_their_place(images, num_workers, capfd):
    config = LoaderConfig(batch_size=8, num_workers=num_workers, on_bad_image="skip", max_bad_images=3)
    sampler = EvalSampler(len(images), 8)
    whole = list(EvalLoader(images, PREPROCESS, sampler, config).batches())
    damage(images)
    loader = EvalLoader(images, PREPROCESS, sampler, config)
    for _ in range(2):  # every epoch again, said once
        for before, after in zip(whole, loader.batches(), strict=True):
            is_bad = np.isin(before.indices, BAD)
            np.testing.assert_array_equal(after.indices, before.indices)
            np.testing.assert_array_equal(after.images.numpy()[~is_bad], before.images.numpy()[~is_bad])
            assert (after.is_bad is None) == (not is_bad.any())
            if is_bad.any():
                np.testing.assert_array_equal(after.is_bad, is_bad)
    assert capfd.readouterr().err.count("counted as wrong: image") == 3
    few = LoaderConfig(batch_size=8, num_workers=0, on_bad_image="skip", max_bad_images=2)
    with pytest.raises(DataError, match="more than --max_bad_images 2 could not be read"):
        list(EvalLoader(images, PREPROCESS, sampler, few).batches())
    with pytest.raises(BadImage, match=r"--on_bad_image skip goes on without it, python -m datasets\.check"):
        list(EvalLoader(images, PREPROCESS, sampler, LoaderConfig(batch_size=8, num_workers=0)).batches())
