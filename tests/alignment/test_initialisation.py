"""Fresh weights: equal distributions pass at every seed, and each kind of difference is named."""

import math

import numpy as np
import pytest

from alignment.stages.initialisation import difference_of

DRAWS = {
    "normal": lambda rng, n: rng.normal(0, 0.1, n),
    "uniform": lambda rng, n: rng.uniform(-0.2, 0.2, n),
    "ones": lambda rng, n: np.ones(n),
}


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("size", [24, 1000])
def test_equal_distributions_pass(kind, size):
    for seed in range(100):
        a, b = (DRAWS[kind](np.random.default_rng([seed, side]), size) for side in (0, 1))
        assert difference_of(a, b, is_matrix=True, limit=1.0) is None


@pytest.mark.parametrize(
    ("actual", "expected", "what"),
    [
        (np.zeros(500), np.ones(500), "another constant"),
        (np.zeros(500), DRAWS["normal"](np.random.default_rng(0), 500), "a constant on one side"),
        (DRAWS["uniform"](np.random.default_rng(0), 2000), np.ones(2000), "a constant on one side"),
    ],
)
def test_constants_decide(actual, expected, what):
    found = difference_of(actual, expected, is_matrix=True, limit=math.inf)
    assert (found.what, found.decides) == (what, True)


def test_a_random_bias_beside_a_constant_one_is_a_remark():
    bias = DRAWS["uniform"](np.random.default_rng(0), 500)
    assert not difference_of(np.zeros(500), bias, is_matrix=False, limit=math.inf).decides
    assert difference_of(np.zeros(500), bias, is_matrix=False, limit=1.05).decides


def test_another_spread_or_shape_is_a_remark_unless_the_case_has_a_limit():
    rng = np.random.default_rng(0)
    normal, wide, uniform = rng.normal(0, 1, 5000), rng.normal(0, 1.4, 5000), rng.uniform(-(3**0.5), 3**0.5, 5000)
    for other in (wide, uniform):
        assert not difference_of(normal, other, is_matrix=True, limit=math.inf).decides
        assert difference_of(normal, other, is_matrix=True, limit=1.05).decides
    assert "normal of standard deviation" in difference_of(normal, wide, is_matrix=True, limit=1.05).words
