"""Comparisons are strict, sketches lose no element, and dropout masks are a function of step and call."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.compare import compare, compare_axes, compare_sketches
from alignment.exchange import DropoutMasks, sketch
from alignment.verdict import within


@pytest.mark.parametrize(
    ("actual", "expected", "status"),
    [
        ([1.0, 2.0], [1.0, 2.0], "pass"),
        ([1.0, 2.1], [1.0, 2.0], "fail"),
        ([[1.0], [2.0]], [1.0, 2.0], "fail"),  # numpy would broadcast
        ([[1.0, 2.0, 3.0]], [[1.0], [2.0], [3.0]], "fail"),  # reprod_log would transpose
        ([np.nan, 1.0], [0.0, 1.0], "fail"),  # nan > threshold is False
        ([np.nan, 1.0], [np.nan, 1.0], "inconclusive"),
        ([np.inf, 1.0], [np.inf, 1.0], "inconclusive"),
        ([3.0, 3.0], [3.0, 3.0], "inconclusive"),
        ([0.0, 1.0], [0.0, 0.0], "fail"),  # the error is relative to 0
        ([True, False], [True, True], "fail"),
        ([], [], "inconclusive"),
    ],
)
def test_comparison_is_strict(actual, expected, status):
    assert within("x", compare(np.array(actual), np.array(expected)), 1e-6).status == status
    if status == "fail" and np.shape(actual) == np.shape(expected):
        difference = compare_sketches(sketch(np.array(actual)), sketch(np.array(expected)))
        assert within("x", difference, 1e-6).status == "fail"


@pytest.mark.parametrize("function", [compare, lambda a, b: compare_sketches(sketch(a), sketch(b))])
@pytest.mark.parametrize(("actual", "expected", "relative"), [(5.0, 4.0, 0.25), (4.0, 5.0, 0.2), (4.0, 0.5, 7.0)])
def test_the_error_is_relative_to_the_reference(function, actual, expected, relative):
    difference = function(np.array([0.0, actual]), np.array([0.0, expected]))
    assert (difference.relative, difference.scale) == (relative, expected)
    assert difference.max_abs == abs(actual - expected)


def test_the_absolute_error_is_subtracted_and_the_scale_has_a_least_value():
    actual, expected = np.array([0.0, 1.5]), np.array([0.0, 1.0])
    assert compare(actual, expected, absolute=0.25).relative == 0.25
    assert compare(actual, expected, absolute=0.75).relative == 0.0
    assert compare(actual, expected, least_scale=4.0).relative == 0.125
    assert compare_sketches(actual, expected, least_scale=4.0).relative == 0.125
    assert compare(actual, expected, least_scale=0.5).relative == 0.5, "the larger scale counts"


@settings(deadline=None)
@given(st.integers(4097, 20000), st.data())
def test_a_sketch_shows_a_difference_of_one_element(size, data):
    index = data.draw(st.integers(0, size - 1))
    a = np.random.default_rng(size).normal(size=size)
    b = a.copy()
    b[index] += 1.0
    assert np.linalg.norm(sketch(b) - sketch(a)) == pytest.approx(1.0)
    assert sketch(a).shape == (4096,)


def test_dropout_masks_are_a_function_of_step_and_call():
    first, second = DropoutMasks(3), DropoutMasks(3)
    first.next_mask((4, 4), 0.5)
    again = first.next_mask((4, 4), 0.5)
    second.start_step(0, call=1)
    assert np.array_equal(second.next_mask((4, 4), 0.5), again)
    second.start_step(1, call=1)
    assert not np.array_equal(second.next_mask((4, 4), 0.5), again)


def test_axes_in_another_order_are_compared():
    array = np.random.default_rng(0).normal(size=(2, 3, 4))
    assert compare_axes(array.transpose(0, 2, 1), array).relative == 0
    assert compare_axes(array.transpose(0, 2, 1) + 1, array).relative > 0
    assert compare_axes(array.reshape(2, 12), array) is None  # of equal size: it cannot be compared
    assert compare_axes(array[:1], array).relative == np.inf
