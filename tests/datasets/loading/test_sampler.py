"""Samplers: no sample is lost or repeated, and the samples of a step do not depend on the number of ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import DataError
from datasets.loading.sampler import EvalSampler, TrainSampler, epoch_order

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
