"""Samplers: no sample is lost or repeated, and the samples of a step do not depend on the number of ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import DataError
from configs.schema import TrainLoaderConfig
from datasets.loading.sampler import EvalSampler, TrainSampler, balanced_order, create_train_sampler, epoch_order

seeds = st.integers(0, 2**63)
small = st.integers(1, 5)


def test_order_is_frozen():
    """These numbers must never change: a resumed run would mix two orders."""
    assert epoch_order(10, 0, 0).tolist() == [6, 8, 0, 5, 3, 4, 7, 2, 1, 9]


@given(st.integers(1, 200), seeds, st.integers(0, 1000))
def test_order_is_a_permutation_and_pure(num_samples, seed, epoch):
    order = epoch_order(num_samples, seed, epoch)
    assert sorted(order) == list(range(num_samples))
    np.testing.assert_array_equal(order, epoch_order(num_samples, seed, epoch))


def test_order_changes_with_seed_and_epoch():
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def steps_and_batches(num_samples, batch_size, accum_iter, world, seed, epoch=3, first_step=0):
    """The number of steps, and the batches of each rank."""
    ranks = [TrainSampler(num_samples, batch_size, accum_iter, rank, world, seed) for rank in range(world)]
    batches = [list(rank.batches(epoch, first_step)) for rank in ranks]
    return ranks[0].steps_per_epoch, batches


@given(st.integers(0, 99), small, small, st.integers(1, 4), seeds)
def test_each_sample_at_most_once_and_whole_steps(extra, batch_size, accum_iter, world, seed):
    num_samples = batch_size * accum_iter * world + extra
    steps_per_epoch, batches = steps_and_batches(num_samples, batch_size, accum_iter, world, seed)
    assert steps_per_epoch == num_samples // (batch_size * accum_iter * world)
    seen = np.concatenate([batch for rank in batches for batch in rank])
    assert len(seen) == len(set(seen)) == steps_per_epoch * batch_size * accum_iter * world
    assert set(seen) <= set(range(num_samples))
    assert all(len(batch) == batch_size for rank in batches for batch in rank)
    assert {len(rank) for rank in batches} == {steps_per_epoch * accum_iter}


@given(st.integers(24, 120), st.sampled_from([1, 2, 3, 4, 6, 12, 24]), seeds)
def test_global_batches_do_not_depend_on_the_number_of_ranks(num_samples, world, seed):
    """24 images per step on 1 rank or on `world` ranks: the same images in the same steps."""
    _, (alone,) = steps_and_batches(num_samples, 24, 1, 1, seed)
    _, shared = steps_and_batches(num_samples, 24 // world, 1, world, seed)
    for i, batch in enumerate(alone):
        interleaved = np.stack([rank[i] for rank in shared], axis=1).ravel()
        np.testing.assert_array_equal(interleaved, batch)


@given(st.integers(0, 7), small, seeds)
def test_start_in_the_middle_of_an_epoch(first_step, accum_iter, seed):
    steps_per_epoch, (whole,) = steps_and_batches(8 * 3 * accum_iter, 3, accum_iter, 1, seed)
    _, (rest,) = steps_and_batches(8 * 3 * accum_iter, 3, accum_iter, 1, seed, first_step=first_step)
    assert steps_per_epoch == 8
    np.testing.assert_array_equal(rest, whole[first_step * accum_iter :])


def test_surplus_differs_between_epochs():
    sampler = TrainSampler(10, 4, 1, 0, 1, 0)
    left_out = [set(range(10)) - set(np.concatenate(list(sampler.batches(epoch)))) for epoch in range(5)]
    assert all(len(samples) == 2 for samples in left_out)
    assert len(set(map(tuple, left_out))) > 1


def test_too_few_samples_for_a_step():
    with pytest.raises(
        DataError, match=r"15 training images .* step of 16 \(batch_size 4 x accum_iter 2 x 2 proc.* or --accum_iter"
    ):
        TrainSampler(15, 4, 2, 0, 2, 0)


@given(st.integers(0, 100), small, st.integers(1, 6))
def test_evaluation_sees_every_sample_once(num_samples, batch_size, world):
    batches = [list(EvalSampler(num_samples, batch_size, rank, world).batches()) for rank in range(world)]
    seen = [int(index) for rank in batches for batch in rank for index in batch]
    assert sorted(seen) == list(range(num_samples))
    assert all(0 < len(batch) <= batch_size for rank in batches for batch in rank)
    assert all(len(batch) == batch_size for rank in batches for batch in rank[:-1])


def test_evaluation_of_33_on_2_ranks():
    lengths = [[len(batch) for batch in EvalSampler(33, 8, rank, 2).batches()] for rank in (0, 1)]
    assert lengths == [[8, 8, 1], [8, 8]]


# ---------------------------------------------------------------------------------------------------- balanced classes

LABELS = np.array([0] * 40 + [1] * 7 + [3] * 2 + [4] * 1)  # no image of class 2
NUM = len(LABELS)


def test_the_balanced_order_is_frozen():
    """These numbers must never change: a resumed run would mix two orders."""
    assert balanced_order(np.array([0, 0, 0, 0, 1, 1]), 6, 0, 0).tolist() == [2, 4, 5, 10, 0, 1]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), seeds, st.integers(0, 1000))
def test_classes_are_equally_often_in_an_epoch(labels, seed, epoch):
    labels = np.array(labels)
    order = balanced_order(labels, len(labels), seed, epoch)
    assert len(order) == len(set(order.tolist())) == len(labels), "every use of an image is another sample"
    counts = np.bincount(labels[order % len(labels)], minlength=5)[np.unique(labels)]
    assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(order, balanced_order(labels, len(labels), seed, epoch))


def test_the_images_of_a_class_are_used_equally_often_over_the_epochs():
    for num_epochs in (1, 3, 10):
        images = np.concatenate([balanced_order(LABELS, NUM, 5, epoch) % NUM for epoch in range(num_epochs)])
        counts = np.bincount(images, minlength=NUM)
        for label in (0, 1, 3):
            assert np.ptp(counts[label == LABELS]) <= 1
        totals = np.bincount(LABELS[images])[[0, 1, 3, 4]]
        assert np.ptp(totals) <= 1, "the rest of the division goes round"


def test_later_uses_of_an_image_are_numbered():
    order = balanced_order(LABELS, NUM, 5, 0)
    uses = np.sort(order[order % NUM == NUM - 1] // NUM)
    assert uses.tolist() == list(range(len(uses))) and len(uses) in (12, 13)


def test_balanced_epochs_differ_and_ranks_share_them():
    orders = {tuple(balanced_order(LABELS, NUM, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    config = TrainLoaderConfig(batch_size=6, balanced_sampling=True)
    alone = create_train_sampler(LABELS, TrainLoaderConfig(batch_size=12, balanced_sampling=True), 1, (0, 1), 5)
    first, second = (create_train_sampler(LABELS, config, 1, (rank, 2), 5) for rank in range(2))
    for whole, *parts in zip(alone.batches(2), first.batches(2), second.batches(2), strict=True):
        np.testing.assert_array_equal(np.stack(parts, axis=1).ravel(), whole)
    np.testing.assert_array_equal(np.concatenate(list(alone.batches(2))), balanced_order(LABELS, NUM, 5, 2)[:48])
    [plain] = create_train_sampler(LABELS, TrainLoaderConfig(batch_size=NUM), 1, (0, 1), 5).batches(2)
    np.testing.assert_array_equal(plain, epoch_order(NUM, 5, 2))
