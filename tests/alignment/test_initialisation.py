"""Fresh weights: equal distributions pass at every seed, and each kind of difference is named."""

import math

import numpy as np
import pytest

from alignment.case import Case
from alignment.runner import run_stages
from alignment.stages.initialisation import difference_of, difference_of_fixed

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


@pytest.mark.parametrize(
    ("actual", "expected", "is_equal"),
    [
        (np.array([0.406, 0.456, 0.485]), np.array([0.485, 0.456, 0.406]), False),
        (np.array([0.485, 0.456, 0.406]), np.float32([0.485, 0.456, 0.406]), True),
        (np.arange(6), np.arange(6)[::-1], False),
        (np.sin(np.arange(5000.0)), np.sin(np.arange(5000.0) * (1 + 1e-7)), True),
        (np.array([-np.inf, 0, 1]), np.array([-np.inf, 0, 1]), True),
        (np.array([-1e9, 0, 1]), np.array([-1e9, 1, 0]), False),
        (np.array([True, False]), np.array([False, True]), False),
        (np.exp(1j * np.arange(9.0)), np.exp(1j * np.arange(9.0) * (1 + 1e-7)), True),
    ],
)
def test_fixed_numbers_are_compared_one_by_one(actual, expected, is_equal):
    found = difference_of_fixed([actual] * 2, [expected] * 2)
    assert (found is None) == is_equal and (is_equal or found.decides)


def test_numbers_that_are_drawn_on_one_side_are_no_fixed_numbers():
    rng = np.random.default_rng(0)
    assert difference_of_fixed([rng.normal(0, 1, 9), rng.normal(0, 1, 9)], [np.arange(9.0)] * 2) is None


NET = """
import {package}
from {package} import nn

class Net(nn.{base}):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(3, 4)
        self.register_buffer("mean", {package}.{tensor}({mean}))

    def forward(self, x):
        return self.out(x - self.mean)
"""


@pytest.mark.torch
@pytest.mark.parametrize(("mean", "status"), [([0.485, 0.456, 0.406], "pass"), ([0.406, 0.456, 0.485], "fail")])
def test_a_buffer_in_another_order_is_found_though_the_weights_replace_it(mean, status, tmp_path, reference):
    (tmp_path / "port.py").write_text(NET.format(package="paddle", base="Layer", tensor="to_tensor", mean=mean))
    text = NET.format(package="torch", base="Module", tensor="tensor", mean=[0.485, 0.456, 0.406])
    (tmp_path / "ref.py").write_text(text)
    case = Case("net", tmp_path, "port.py:Net", "ref.py:Net", shape=(4, 3))
    verdict = run_stages(case, ("initialisation", "forward"), reference)
    assert verdict.status == status, verdict.stages
    if status == "fail":
        words = "another constant of 1 tensors: mean: number 0 is 0.406, in the reference 0.485; 2 differ"
        assert verdict.first_problem().detail == words
