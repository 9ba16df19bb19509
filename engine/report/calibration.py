"""Calibration: does a confidence of 80 % mean 80 % right answers, and the temperature that brings the two together."""

from typing import NamedTuple

import numpy as np

from .results import Results, log_softmax

NUM_BINS = 15  # of equal width, as in Guo et al., On Calibration of Modern Neural Networks, 2017, section 3
LOWEST, HIGHEST = 0.05, 20.0  # temperatures that are searched
SEED = 0  # of the two halves
MIN_PICTURES = 200  # fewer in the evaluated set make the temperature uncertain


class Bins(NamedTuple):
    """Pictures by their confidence, in NUM_BINS intervals of equal width from 0 to 1."""

    counts: np.ndarray  # int64 [NUM_BINS]
    confidences: np.ndarray  # float64 [NUM_BINS], mean; 0 in an empty interval
    accuracies: np.ndarray  # float64 [NUM_BINS], share of right answers; 0 in an empty interval

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of confidence and accuracy, weighted by the number of pictures."""
        gaps = np.abs(self.confidences - self.accuracies)
        return float((gaps * self.counts).sum() / max(1, self.counts.sum()))


def bin_of(confidences: np.ndarray) -> np.ndarray:
    """Number of the interval of each confidence; the intervals are open at the left end and closed at the right."""
    return np.clip(np.ceil(confidences * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)


def bins_of(confidences: np.ndarray, is_correct: np.ndarray) -> Bins:
    """Sort pictures into bins by their confidence [N]; `is_correct` is bool [N]."""
    bins = bin_of(confidences)
    counts = np.bincount(bins, minlength=NUM_BINS)
    divisor = np.maximum(1, counts)
    sums = [np.bincount(bins, values, NUM_BINS) / divisor for values in (confidences, is_correct.astype(float))]
    return Bins(counts, *sums)


class Calibration(NamedTuple):
    """A temperature, and what dividing the logits by a temperature does to pictures that it was not fitted on."""

    temperature: float  # the one to use: fitted on all pictures, or 1 where that does not help
    fitted: float  # on all pictures
    of_halves: tuple[float, float]
    log_loss_before: float
    log_loss_held_out: float
    error_before: float  # expected calibration error
    error_held_out: float
    num_pictures: int
    is_without_mistake: bool = False

    @property
    def remarks(self) -> list[str]:
        """Sentences on what limits the temperature."""
        remarks = []
        if not self.num_pictures:
            return ["no picture could be read, so the temperature stays 1"]
        if self.is_without_mistake:
            return ["every picture is right, and a temperature is found by mistakes; it stays 1"]
        if not LOWEST * 1.01 < self.fitted < HIGHEST / 1.01:
            remarks.append(f"the loss has no minimum between the temperatures {LOWEST} and {HIGHEST}")
        if self.temperature != self.fitted:
            remarks.append(
                f"the fitted temperature {self.fitted:.3f} does not lower the loss of pictures that it was not fitted "
                "on, so the temperature stays 1"
            )
        if self.num_pictures < MIN_PICTURES:
            remarks.append(
                f"{self.num_pictures} pictures are few for a temperature; {MIN_PICTURES} or more make it more certain"
            )
        return remarks


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature T that minimises the mean loss of `logits` [N, C] / T.

    The loss is convex in 1/T, so it has one minimum.
    """
    from scipy.optimize import minimize_scalar  # comes with scikit-learn

    def loss(log_temperature: float) -> float:
        return float(losses_at(logits, labels, np.exp(log_temperature)).mean())

    bounds = (np.log(LOWEST), np.log(HIGHEST))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x))


def losses_at(logits: np.ndarray, labels: np.ndarray, temperature: float) -> np.ndarray:
    """Loss of each picture, float64 [N], with the logits [N, C] divided by a temperature."""
    losses = [
        -log_softmax(part / temperature)[np.arange(len(part)), own]
        for part, own in zip(_blocks(logits), _blocks(labels), strict=True)
    ]
    return np.concatenate(losses)


def confidences_at(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Probability of the most probable class, float64 [N], with the logits [N, C] divided by a temperature."""
    return np.concatenate([np.exp(log_softmax(part / temperature).max(axis=1)) for part in _blocks(logits)])


def _blocks(array: np.ndarray, rows: int = 4096) -> list[np.ndarray]:
    return [array[start : start + rows] for start in range(0, max(1, len(array)), rows)]


def calibrate(results: Results) -> Calibration:
    """Fit a temperature, and measure it by cross-fitting: each half of the pictures with that of the other half.

    Measured on the pictures that it was fitted on, a temperature would look better than it is.
    """
    usable = np.flatnonzero(results.is_readable)
    logits, labels, is_correct = results.logits[usable], results.labels[usable], results.is_correct[usable]
    losses, confidences = losses_at(logits, labels, 1.0), confidences_at(logits, 1.0)
    held_out_losses, held_out_confidences = losses.copy(), confidences.copy()
    order, of_halves = np.random.default_rng(SEED).permutation(len(usable)), [1.0, 1.0]
    halves = np.array_split(order, 2)
    can_fit = len(usable) >= 2 and not is_correct.all()
    if can_fit:
        for number, (fitted_on, measured_on) in enumerate((halves, halves[::-1])):
            of_halves[number] = fit_temperature(logits[fitted_on], labels[fitted_on])
            held_out_losses[measured_on] = losses_at(logits[measured_on], labels[measured_on], of_halves[number])
            held_out_confidences[measured_on] = confidences_at(logits[measured_on], of_halves[number])
    fitted = fit_temperature(logits, labels) if can_fit else 1.0
    helps = held_out_losses.sum() < losses.sum() and LOWEST * 1.01 < fitted < HIGHEST / 1.01
    return Calibration(
        temperature=fitted if helps else 1.0,
        fitted=fitted,
        of_halves=tuple(of_halves),
        log_loss_before=float(losses.mean()) if len(usable) else 0.0,
        log_loss_held_out=float(held_out_losses.mean()) if len(usable) else 0.0,
        error_before=bins_of(confidences, is_correct).error,
        error_held_out=bins_of(held_out_confidences, is_correct).error,
        num_pictures=len(usable),
        is_without_mistake=len(usable) > 0 and bool(is_correct.all()),
    )
