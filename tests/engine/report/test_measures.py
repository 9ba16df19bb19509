"""The numbers of a report equal scikit-learn's where it has them, and a direct computation elsewhere."""

import math

import numpy as np
import pytest

from engine.report import intervals
from engine.report.intervals import Z, bootstrap, wilson
from engine.report.measures import measure
from engine.report.results import UNREADABLE_LABEL
from tests.engine.report.samples import from_predictions, make_results


@pytest.fixture(scope="module")
def results():
    return make_results(61, 4)


@pytest.fixture(scope="module")
def measures(results):
    return measure(results)


def probabilities_of(results):
    exponentials = np.exp(results.logits.astype(float))
    return exponentials / exponentials.sum(1, keepdims=True)


def test_the_numbers_of_scikit_learn(results, measures):
    from sklearn import metrics  # its import takes 2 s, which each process that reads this file would spend

    labels, probabilities = results.labels, probabilities_of(results)
    predicted = probabilities.argmax(1)
    assert measures.top1.value == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert measures.k == 3
    assert measures.topk.value == pytest.approx(metrics.top_k_accuracy_score(labels, probabilities, k=3))
    assert measures.balanced_accuracy.value == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert measures.macro_f1.value == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert measures.log_loss.value == pytest.approx(metrics.log_loss(labels, probabilities))
    matrix = metrics.confusion_matrix(labels, predicted)
    pairs = {(pair.label, pair.predicted): pair.num for pair in measures.confusions}
    assert pairs == {(a, b): matrix[a, b] for a in range(4) for b in range(4) if a != b and matrix[a, b]}
    assert [one.recall.value for one in measures.classes] == pytest.approx(matrix.diagonal() / matrix.sum(1))
    assert [one.precision for one in measures.classes] == pytest.approx(matrix.diagonal() / matrix.sum(0))


def test_brier_score_and_calibration_error_by_their_definitions(results, measures):
    labels, probabilities = results.labels, probabilities_of(results)
    right = np.eye(4)[labels]
    assert measures.brier.value == pytest.approx(np.mean(((probabilities - right) ** 2).sum(1)))
    error = 0.0
    for number in range(15):
        inside = (probabilities.max(1) > number / 15) & (probabilities.max(1) <= (number + 1) / 15)
        if inside.any():
            accuracy = (probabilities.argmax(1) == labels)[inside].mean()
            error += inside.mean() * abs(accuracy - probabilities.max(1)[inside].mean())
    assert measures.calibration_error.value == pytest.approx(error)
    assert measures.bins.error == pytest.approx(error)


@pytest.mark.parametrize(("num", "total"), [(0, 10), (10, 10), (7, 10), (930, 1000)])
def test_the_interval_of_wilson_by_its_equation(num, total):
    """Its ends are the shares p with |share - p| = z sqrt(p (1 - p) / n)."""
    estimate = wilson(num, total)
    assert estimate.low <= num / total <= estimate.high
    for end in (estimate.low, estimate.high):
        if 0 < end < 1:
            assert abs(num / total - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / total))
    assert (estimate.low == 0) == (num == 0) and (estimate.high == 1) == (num == total)
    assert wilson(0, 0).low is None


def test_the_bootstrap_interval_is_that_of_the_standard_error_of_a_mean():
    values = np.random.default_rng(3).random(400)
    [mean] = bootstrap(lambda weights: np.array([weights @ values / weights.sum()]), 400, upper=(1.0,))
    half = Z * values.std() / math.sqrt(400)
    assert mean.value == pytest.approx(values.mean())
    assert (mean.low, mean.high) == pytest.approx((mean.value - half, mean.value + half), abs=0.1 * half)


def test_an_interval_ends_at_the_least_and_the_largest_value():
    for values, end in (([1.0, 0.0, 0.0], 0), ([1.0, 1.0, 0.0], 1)):
        [mean] = bootstrap(lambda weights, values=values: np.array([weights @ values / 3]), 3, upper=(1.0,))
        assert (mean.low, mean.high)[end] == end


def test_the_most_frequent_confusions_come_first(monkeypatch):
    monkeypatch.setattr(intervals, "NUM_RESAMPLES", 1)
    confusions = measure(from_predictions([0, 1, 1, 2, 2, 2], [1, 0, 2, 0, 0, 0], 3)).confusions
    assert [pair[:3] for pair in confusions] == [(2, 0, 3), (0, 1, 1), (1, 0, 1), (1, 2, 1)]


def test_where_all_resamples_are_alike_there_is_no_interval():
    measures = measure(from_predictions([0, 1, 2] * 5, [0, 1, 2] * 5, 3))
    assert measures.balanced_accuracy.value == 1 and measures.balanced_accuracy.low is None
    assert measures.top1.low < 1 and measures.top1.high == 1
    assert measures.worst_class is None


def test_an_interval_holds_its_value_and_stays_in_its_range(measures):
    for estimate in (measures.balanced_accuracy, measures.macro_f1, measures.brier, measures.calibration_error):
        assert 0 <= estimate.low < estimate.value < estimate.high


def test_a_picture_that_could_not_be_read_is_wrong_and_has_no_loss(monkeypatch):
    monkeypatch.setattr(intervals, "NUM_RESAMPLES", 2)
    whole, part = make_results(30, 3, strength=9), make_results(30, 3, strength=9, unreadable=(0, 4))
    measures = measure(part)
    assert (measures.num_unreadable, measures.num_correct) == (2, 28)
    assert measures.top1.value == 28 / 30 and measures.topk.value == 28 / 30
    assert measures.log_loss.value == pytest.approx(np.delete(whole.scores.losses, [0, 4]).mean())
    assert measures.brier.value == pytest.approx(np.delete(whole.scores.briers, [0, 4]).mean())
    assert measures.bins.counts.sum() == 28
    assert all((values[[0, 4]] == 0).all() for values in part.scores[1:])  # confidences, losses, Brier scores
    assert measures.balanced_accuracy.value == pytest.approx((9 / 10 + 9 / 10 + 1) / 3)
    assert measures.macro_f1.value == pytest.approx((18 / 19 + 18 / 19 + 1) / 3)
    assert {(pair.label, pair.predicted) for pair in measures.confusions} == {
        (0, UNREADABLE_LABEL),
        (1, UNREADABLE_LABEL),
    }
    assert measures.worst_class.confused_with is None


def test_classes_without_a_picture_do_not_count(monkeypatch):
    monkeypatch.setattr(intervals, "NUM_RESAMPLES", 2)
    measures = measure(from_predictions([1, 1, 3, 3], [1, 0, 3, 3], 5))
    assert measures.balanced_accuracy.value == 0.75
    assert [one.label for one in measures.classes_with_images] == [1, 3]
    assert measures.worst_class.confused_with[:3] == (1, 0, 1)
    assert measures.macro_f1.value == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.parametrize(("num_classes", "k"), [(1, 1), (2, 1), (3, 2), (6, 5), (40, 5)])
def test_k_is_below_the_number_of_classes(num_classes, k, monkeypatch):
    monkeypatch.setattr(intervals, "NUM_RESAMPLES", 1)
    measures = measure(make_results(80, num_classes))
    assert measures.k == k
    assert measures.topk.value < 1 or num_classes == 1 or k > 1


def test_the_worst_class_is_that_of_the_lowest_share_and_of_equal_ones_that_with_more_mistakes(monkeypatch):
    monkeypatch.setattr(intervals, "NUM_RESAMPLES", 1)
    labels = [0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    predicted = [0, 1, 1, 1, 0, 2, 2, 2, 2, 0]
    worst = measure(from_predictions(labels, predicted, 3)).worst_class
    assert (worst.label, worst.num_correct, worst.num_images) == (1, 2, 4)
