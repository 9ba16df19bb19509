"""The temperature minimises the loss, and is judged on pictures that it was not fitted on."""

import numpy as np
import pytest

from engine.metrics import UNREADABLE
from engine.report.calibration import bin_of, calibrate, confidences_at, fit_temperature, losses_at
from tests.engine.report.samples import from_predictions, make_results


def calibrated_logits(num: int, num_classes: int = 5, seed: int = 0):
    """Logits with the labels drawn from their own probabilities."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(num, num_classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(num_classes, p=row) for row in probabilities])
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_of_logits_that_were_multiplied_is_found(temperature):
    logits, labels = calibrated_logits(4000)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.06)


def test_the_temperature_is_the_minimum_of_the_loss():
    results = make_results(200, 4)
    best = fit_temperature(results.logits, results.labels)
    losses = [losses_at(results.logits, results.labels, t).mean() for t in (0.98 * best, best, 1.02 * best)]
    assert losses[1] < min(losses[0], losses[2])


def test_losses_and_confidences_by_their_definition():
    logits, labels = calibrated_logits(20)
    scaled = np.exp(logits.astype(float) / 1.7)
    probabilities = scaled / scaled.sum(1, keepdims=True)
    assert losses_at(logits, labels, 1.7) == pytest.approx(-np.log(probabilities[np.arange(20), labels]))
    assert confidences_at(logits, 1.7) == pytest.approx(probabilities.max(1))


def test_without_a_readable_picture_the_temperature_stays_1():
    results = make_results(5, 3)
    unreadable = type(results)(results.labels, results.logits, np.full(5, UNREADABLE), results.names, results.scores)
    calibration = calibrate(unreadable)
    assert calibration.temperature == 1 and calibration.remarks == [
        "no picture could be read, so the temperature stays 1"
    ]


def make_overconfident(num=3000):
    logits, labels = calibrated_logits(num)
    results = make_results(num, 5)
    positions = (logits > logits[np.arange(num), labels][:, None]).sum(1)
    return type(results)(labels, 3 * logits, positions, results.names, results.scores)


def test_calibration_lowers_the_error_on_held_out_pictures():
    calibration = calibrate(make_overconfident())
    assert calibration.temperature == calibration.fitted == pytest.approx(3, rel=0.08)
    assert calibration.error_held_out < 0.3 * calibration.error_before
    assert calibration.log_loss_held_out < calibration.log_loss_before
    assert calibration.remarks == []


def test_no_half_is_measured_with_its_own_temperature(monkeypatch):
    """Where the temperature of a half follows from its labels, the halves must have exchanged them."""
    results = make_results(50, 3)
    fitted_on, measured = [], []

    def fit(logits, labels):
        fitted_on.append({row.tobytes() for row in logits})
        return 2.0 + len(fitted_on)

    def losses(logits, labels, temperature):
        measured.append((temperature, {row.tobytes() for row in logits}))
        return np.ones(len(logits))

    monkeypatch.setattr("engine.report.calibration.fit_temperature", fit)
    monkeypatch.setattr("engine.report.calibration.losses_at", losses)
    calibrate(results)
    seen = dict(measured)
    assert seen[3.0].isdisjoint(fitted_on[0]) and seen[4.0].isdisjoint(fitted_on[1])
    assert len(fitted_on[2]) == 50 and len(seen[3.0] | seen[4.0]) == 50


def test_a_temperature_that_does_not_help_is_not_used():
    logits, labels = calibrated_logits(300, seed=5)
    results = make_results(300, 5)
    positions = (logits > logits[np.arange(300), labels][:, None]).sum(1)
    calibration = calibrate(type(results)(labels, logits, positions, results.names, results.scores))
    helps = calibration.log_loss_held_out < calibration.log_loss_before
    assert (calibration.temperature == calibration.fitted) == helps
    assert helps or "does not lower the loss" in calibration.remarks[0]


@pytest.mark.parametrize(
    ("results", "remark"),
    [
        (from_predictions([0, 1] * 4, [0, 1] * 4, 2), "every picture is right"),
        (make_results(40, 3), "40 pictures are few for a temperature"),
        (from_predictions([0], [0], 2), "every picture is right"),
    ],
)
def test_what_limits_a_temperature_is_said(results, remark):
    calibration = calibrate(results)
    assert remark in " ".join(calibration.remarks)
    assert np.isfinite(calibration.temperature) and calibration.temperature > 0


def test_pictures_that_could_not_be_read_are_left_out():
    whole, part = make_results(80, 3), make_results(80, 3, unreadable=range(40, 80))
    assert calibrate(part).num_pictures == 40
    assert calibrate(part).fitted == pytest.approx(fit_temperature(whole.logits[:40], whole.labels[:40]))


def test_the_intervals_are_closed_at_the_right_end():
    assert bin_of(np.array([0.0, 1e-9, 1 / 15, 1 / 15 + 1e-9, 1.0])).tolist() == [0, 0, 0, 1, 14]
