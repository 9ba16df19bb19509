"""Numbers are moved to a neighbour, and a distance is judged by the reference's own rounding."""

from types import SimpleNamespace

import numpy as np
import pytest

from alignment.compare import Difference, distance_of
from alignment.exchange import TrainSettings, sketch
from alignment.stages import train
from alignment.stages.rounding import may_be_rounding, next_floats, worst_of
from alignment.stages.train import _amplified_checks, _may_be_amplified, step_checks
from alignment.verdict import Check


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_number_is_moved_to_a_neighbour(dtype):
    arrays = {"w": np.float32([0.0, 1.0, -3.5, 1e-20] * 50), "count": np.array([3])}
    moved = next_floats(np.random.default_rng(0), arrays, np.dtype(dtype))
    before = arrays["w"].astype(dtype)
    assert moved["w"].dtype == dtype and moved["count"] == 3
    nonzero = before != 0
    assert (moved["w"][~nonzero] == 0).all()
    assert (np.abs(moved["w"] - before)[nonzero] <= np.spacing(np.abs(before[nonzero]))).all()
    assert {-1.0, 1.0} == set(np.sign(moved["w"] - before)[nonzero])


def test_numbers_are_moved_by_many_floats():
    array = np.float32([0.0, 1.0, -3.5, 1e-20] * 50)
    moved = next_floats(np.random.default_rng(0), {"w": array}, np.dtype("float64"), 1000)["w"]
    nonzero = array != 0
    assert (moved[~nonzero] == 0).all()
    distances = np.abs(moved - array)[nonzero] / np.spacing(np.abs(array[nonzero].astype(np.float64)))
    assert (distances >= 500).all() and (distances <= 1000).all()  # below a power of two numbers are twice as dense


@pytest.mark.parametrize(
    ("distances", "status", "layer"),
    [([0.5, 0.9], "pass", ""), ([0.5, 3.0], "remark", ""), ([0.5, 30.0, 50.0], "fail", "t1"), ([np.inf], "fail", "t0")],
)
def test_above_the_limit_is_a_remark_and_far_above_a_failure(distances, status, layer):
    check = worst_of("x", [(f"t{k}", Difference(value), 1.0) for k, value in enumerate(distances)])
    assert (check.status, check.layer) == (status, layer)


def test_the_distance_of_a_sketch_and_of_numbers_that_are_not_finite():
    array = np.random.default_rng(0).normal(size=5000)
    assert distance_of(array, sketch(array)) == 0
    assert distance_of(array, array + 1) == pytest.approx(5000**0.5)
    assert distance_of(np.array([np.nan]), np.array([1.0])) == np.inf


@pytest.mark.parametrize(
    ("values", "is_possible"), [([1e-9], True), ([1e-9, 1e-3], False), ([None], False), ([], False)]
)
def test_only_small_differences_may_be_rounding(values, is_possible):
    assert may_be_rounding([Check("x", "fail", value, 1e-10) for value in values]) == is_possible


def records(*factors: float) -> dict:
    """Records of a training whose losses and weights of each step are these factors of the right ones."""
    right = np.random.default_rng(0).normal(size=(len(factors), 5)) + 3
    return {"losses": np.array(factors), "weight/w": right * np.array(factors)[:, None]}


@pytest.mark.parametrize(
    ("factors", "statuses", "may_be"),
    [
        ((1, 1, 1), {"pass"}, False),
        ((1, 1.001, 1.01), {"fail"}, True),  # later than the first step: it is measured
        ((1.001, 1.001, 1.001), {"fail"}, False),
        ((1 + 1e-6, 1, 1), {"fail"}, True),  # small enough for rounding
    ],
)
def test_only_a_late_or_small_difference_of_a_training_may_be_amplified_rounding(factors, statuses, may_be):
    actual, expected = records(*factors), records(1, 1, 1)
    checks = step_checks(actual, expected, 1e-8)
    assert {check.status for check in checks} == statuses
    assert _may_be_amplified(checks, actual, expected, 1e-8) == may_be
    wide = step_checks(actual, expected, np.array([1e-8, 0.002, 0.02]))
    assert all(check.status == "pass" for check in wide) == (factors[0] == 1)


def case_with(*, optimizer: bool) -> SimpleNamespace:
    return SimpleNamespace(optimizer=SimpleNamespace(is_given=optimizer), step=SimpleNamespace(is_given=False))


@pytest.mark.parametrize(
    ("optimizer", "middle", "status"), [(False, 1e-3, "pass"), (True, 1e-3, "fail"), (False, 0.9, "fail")]
)
def test_a_jump_may_come_one_step_before_that_of_the_reference(optimizer, middle, status, monkeypatch):
    runs = iter([(1e-15, 1e-14, 1e-13), (2e-8, 1e-6, 0.02), (2e-8, 1e-6, 0.02)])
    monkeypatch.setattr(train, "_moved_runs", lambda *_: [records(*(1 + value for value in next(runs)))])
    right, actual = records(1, 1, 1), records(1 + 2e-8, 1 + middle, 1 + 0.01)
    monkeypatch.setattr(train, "_checks_from_other_weights", lambda *_: step_checks(actual, right, 1e-6))
    settings = TrainSettings("float64", [0.5, 0.25, 0.0], {}, {}, 0, {}, 5, None, None)
    session = SimpleNamespace(case=case_with(optimizer=optimizer))
    checks = _amplified_checks(session, None, settings, None, actual, right, 1e-6)
    assert any(check.status == "fail" for check in checks) == (status == "fail")


@pytest.mark.parametrize(
    ("first", "last", "amplified", "again", "status"),
    [
        (2e-8, 0.02, 1e-3, None, "pass"),  # a constant in float32, which the training amplifies
        (2e-8, 0.02, 1e-4, 0.02, "fail"),  # more than the training amplifies
        (2e-8, 0.02, 1e-4, 0.001, "pass"),  # by chance: not so from other weights
        (2e-15, 0.02, 1e-3, None, "fail"),  # the first step has rounding alone, so the limit of rounding counts
        (2e-5, 0.02, 1e-3, None, "fail"),  # the first step differs already
    ],
)
def test_what_the_first_step_lets_pass_may_grow_as_in_the_reference(first, last, amplified, again, status, monkeypatch):
    asked = []

    def moved_runs(session, inputs, settings, runs, num_floats=1):
        asked.append((num_floats, settings.rates))
        grown = (1e-8, 1e-6, amplified) if asked[1:] else (1e-15, 1e-14, 1e-13)
        return [records(*(1 + value for value in grown)) for _ in runs]

    monkeypatch.setattr(train, "_moved_runs", moved_runs)
    settings = TrainSettings("float64", [0.5, 0.25, 0.0], {}, {}, 0, {}, 5, None, None)
    right, started = records(1, 1, 1), []
    session = SimpleNamespace(
        begin_training=lambda inputs, settings, file: lambda: ({}, right),
        converted=lambda weights: f"{weights} of the port",
        reference=SimpleNamespace(put=lambda arrays: "file", forget=lambda file: None),
        case=case_with(optimizer=False),
    )
    monkeypatch.setattr(train, "_moved", lambda session, dtype, run: "other weights")

    def train_from(weights):
        started.append(weights)
        return records(1 + first, 1 + 10 * first, 1 + again)

    actual = records(1 + first, 1 + 10 * first, 1 + last)
    checks = _amplified_checks(session, None, settings, train_from, actual, right, 1e-6)
    assert started == ([] if again is None else ["other weights of the port"])
    assert {check.status for check in checks} == {status}
    expected_runs = [(1, [0.5, 0.25, 0.0])]
    if first == 2e-8:
        faster = pytest.approx([0.5 * (1 + first), 0.25 * (1 + first), 0.0], rel=1e-12)
        expected_runs += [(pytest.approx(first / 1e-15, rel=0.2), [0.5, 0.25, 0.0]), (1, faster)]
    assert asked == expected_runs
