"""Random generators: pure functions of purpose, seed and place, whose numbers never change."""

import numpy as np

from datasets.rng import generator


def test_numbers_are_fixed():
    """A changed number would mix two orders of draws in a resumed run."""
    assert generator("sample", 7, 3, 11).random() == 0.617728193951154
    assert isinstance(generator("order", 0, 0), np.random.Generator)


def test_generators_of_different_purpose_or_place_differ():
    first = {
        generator(purpose, seed, *place).bit_generator.random_raw()
        for purpose in ("a", "b")
        for seed in (0, 1)
        for place in ((0, 1), (1, 0), (2, 0))
    }
    assert len(first) == 12
