"""Bad images: the good samples keep order and draws, each bad one is reported once, and too many end the run."""

from pathlib import Path

import numpy as np
import pytest

from common.errors import BadImage, DataError
from configs.schema import AugmentConfig, MixConfig
from datasets.augment.mixup import Mixup
from datasets.loading.bad_images import BadImages
from datasets.loading.sampler import TrainSampler
from datasets.preprocess import Preprocess
from tests.datasets import hostile
from tests.datasets.corpus import JPEG
from tests.datasets.fake_images import write_fake_images
from tests.datasets.loaders import open_eval_loader, open_train_loader

AUGMENT = AugmentConfig(aa="rand-m9-mstd0.5-inc1", reprob=0.3)
BAD = (3, 17, 20)


@pytest.fixture
def images(tmp_path):
    return write_fake_images(tmp_path, 32)


def open_loader(images, limit=None, **how):
    """A loader that leaves out up to `limit` bad images; without a limit the first one ends the run."""
    policy = {} if limit is None else {"on_bad_image": "skip", "max_bad_images": limit}
    return open_train_loader(images, TrainSampler(len(images), 8, 1, 0, 1, seed=5), AUGMENT, **policy, **how)


def damage(images):
    for index in BAD:
        with open(images.path(index), "r+b") as file:
            file.truncate(50)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_good_samples_are_as_if_no_image_were_bad(images, num_workers, capfd):
    whole = list(open_loader(images).batches(0))
    damage(images)
    loader = open_loader(images, limit=3, num_workers=num_workers)
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


def test_count_and_report_of_skipped_images(images):
    messages = []
    bad_images = BadImages(images, "skip", 3, messages.append)
    assert bad_images.num_skipped == 0
    for _ in range(2):
        bad_images._skip(3, BadImage("a.jpg", "damaged"))
    assert bad_images.num_skipped == 1 and messages == ["skipped: image 1 of at most 3: a.jpg: damaged"]


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
    assert len(list(open_loader(images, limit=3, mixup=mixup).batches(0))) == 4
    orders = TrainSampler(len(images), 8, 1, 0, 1, seed=5).batches(0)
    for full, kept, order in zip(drawn[::2], drawn[1::2], orders, strict=True):
        np.testing.assert_array_equal(kept.lam, full.lam[~np.isin(order, BAD)])


def test_a_bad_image_that_is_drawn_again_counts_once(images, capfd):
    sampler = TrainSampler(
        32, 8, 1, 0, 1, seed=5, order=lambda num, seed, epoch: np.arange(num) % 4 + num * np.arange(num)
    )
    damage(images)
    loader = open_train_loader(images, sampler, AUGMENT, on_bad_image="skip", max_bad_images=1)
    assert sum(len(batch.indices) for batch in loader.batches(0)) == 24
    [message] = capfd.readouterr().err.splitlines()
    assert "/3.png" in message and "(named by l.txt:4)" in message


def test_too_many(images):
    damage(images)
    with pytest.raises(DataError, match=r"more than --max_bad_images 2 could not be read, now .*datasets.check names"):
        list(open_loader(images, limit=2).batches(0))


def test_the_first_bad_image_ends_the_run_by_default(images):
    damage(images)
    with pytest.raises(BadImage, match=r"damaged: .* \(named by l\.txt:\d+\)"):
        list(open_loader(images).batches(0))


def test_batch_without_any_good_image(images):
    for index in range(32):
        with open(images.path(index), "wb"):
            pass
    with pytest.raises(DataError, match="no image of a whole batch could be read"):
        list(open_loader(images, limit=100).batches(0))


def test_evaluation_never_skips(images):
    damage(images)
    with pytest.raises(BadImage, match=r"3\.png: damaged"):
        list(open_eval_loader(images, 8).batches())


def test_a_fault_of_the_code_is_not_skipped(images, monkeypatch):
    monkeypatch.setattr("datasets.loading.sample.sample_rng", lambda *place: 1 // 0)
    with pytest.raises(DataError, match="ZeroDivisionError"):
        list(open_loader(images, limit=100).batches(0))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_images_of_an_evaluation_are_marked_and_keep_their_rows(images, num_workers, capfd):
    skip = {"on_bad_image": "skip", "max_bad_images": 3, "num_workers": num_workers}
    whole = list(open_eval_loader(images, 8, **skip).batches())
    damage(images)
    loader = open_eval_loader(images, 8, **skip)
    for _ in range(2):  # reported in the first epoch only
        for before, after in zip(whole, loader.batches(), strict=True):
            is_bad = np.isin(before.indices, BAD)
            np.testing.assert_array_equal(after.indices, before.indices)
            np.testing.assert_array_equal(after.images.numpy()[~is_bad], before.images.numpy()[~is_bad])
            assert (after.is_bad is None) == (not is_bad.any())
            if is_bad.any():
                np.testing.assert_array_equal(after.is_bad, is_bad)
                rows = after.images.numpy()[is_bad]
                np.testing.assert_array_equal(rows, np.broadcast_to(rows[:1, :, :1, :1], rows.shape))  # of one colour
    assert capfd.readouterr().err.count("counted as wrong: image") == 3
    with pytest.raises(DataError, match="more than --max_bad_images 2 could not be read"):
        list(open_eval_loader(images, 8, on_bad_image="skip", max_bad_images=2).batches())
    with pytest.raises(BadImage, match=r"--on_bad_image skip continues without it, python -m datasets\.check"):
        list(open_eval_loader(images, 8).batches())


@pytest.mark.parametrize("backend", ["pil", "turbo"])
def test_an_image_above_the_limits_is_skipped_in_training_and_counted_as_wrong_in_evaluation(images, capfd, backend):
    too_large = {3: hostile.png(65_536, 1, 8, 0), 17: JPEG[:2] + b"\xff" * 70_000 + JPEG[2:]}
    for index, data in too_large.items():
        Path(images.path(index)).write_bytes(data)
    batches = list(open_loader(images, limit=2, image_backend=backend).batches(0))
    assert sorted(np.concatenate([batch.indices for batch in batches])) == sorted(set(range(32)) - set(too_large))
    how = {"on_bad_image": "skip", "max_bad_images": 2, "preprocess": Preprocess(16, image_backend=backend)}
    batches = list(open_eval_loader(images, 8, **how).batches())
    assert sum(len(batch.indices) for batch in batches) == 32
    assert [i for b in batches if b.is_bad is not None for i in b.indices[b.is_bad]] == list(too_large)
    messages = capfd.readouterr().err.splitlines()
    assert sum("65536 x 1 pixels; the limit is 65,535 a side" in message for message in messages) == 2
    assert sum("more than 16,384 bytes between the parts of a JPEG, the limit" in message for message in messages) == 2
    with pytest.raises(BadImage, match=r"the limit.*; --on_bad_image skip continues without it"):
        list(open_loader(images, image_backend=backend).batches(0))
