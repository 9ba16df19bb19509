"""The numbers of a report: of the whole evaluation, of each class, and of each pair of classes that is confused."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .calibration import NUM_BINS, Bins, bin_of, bins_of
from .intervals import Estimate, bootstrap, wilson
from .results import UNREADABLE_LABEL, Results

MAX_TOPK = 5


class Confusion(NamedTuple):
    """Pictures of one class that were taken for another."""

    label: int
    predicted: int  # UNREADABLE_LABEL: they could not be read
    num: int
    num_of_label: int

    @property
    def share(self) -> float:
        """Share of the pictures of the right class."""
        return self.num / self.num_of_label


class ClassMeasures(NamedTuple):
    """Numbers of one class."""

    label: int
    name: str
    num_images: int
    num_correct: int
    num_predicted: int  # pictures of any class that were taken for this one
    recall: Estimate  # share of its pictures that were recognised
    precision: float  # share of the pictures taken for it that are of it; 0 where there is none
    f1: float
    confused_with: Confusion | None  # where most of its wrong pictures went


@dataclass(frozen=True)
class Measures:
    """Numbers of an evaluation. Shares are 0 to 1; mean values leave out pictures that could not be read."""

    num_images: int
    num_correct: int
    num_unreadable: int
    top1: Estimate
    topk: Estimate
    k: int
    balanced_accuracy: Estimate
    macro_f1: Estimate
    log_loss: Estimate
    brier: Estimate
    calibration_error: Estimate
    bins: Bins
    classes: tuple[ClassMeasures, ...]
    confusions: tuple[Confusion, ...]  # the most frequent ones first

    @property
    def classes_with_images(self) -> list[ClassMeasures]:
        """The classes that have a picture, those with the lowest share of recognised pictures first."""
        classes = [one for one in self.classes if one.num_images]
        return sorted(classes, key=lambda one: (one.recall.value, one.num_correct - one.num_images, one.label))

    @property
    def worst_class(self) -> ClassMeasures | None:
        """The class with the lowest share of recognised pictures; None if no picture is wrong."""
        return None if self.num_correct == self.num_images else self.classes_with_images[0]


def measure(results: Results) -> Measures:
    """Compute all numbers of a report.

    Balanced accuracy and macro F1 are means over the classes that have a picture. Recall, precision and F1 are
    scikit-learn's; it has no multi-class Brier score before 1.7, no calibration error, and no intervals.
    """
    num, is_readable, is_correct = len(results.labels), results.is_readable, results.is_correct
    k = max(1, min(MAX_TOPK, results.num_classes - 1))
    balanced, f1, log_loss, brier, error = bootstrap(
        WeightedMeasures(results), num, upper=(1.0, 1.0, math.inf, 2.0, 1.0)
    )
    confusions = _confusions(results)
    return Measures(
        num_images=num,
        num_correct=int(is_correct.sum()),
        num_unreadable=int((~is_readable).sum()),
        top1=wilson(int(is_correct.sum()), num),
        topk=wilson(int((results.positions < k).sum()), num),
        k=k,
        balanced_accuracy=balanced,
        macro_f1=f1,
        log_loss=log_loss,
        brier=brier,
        calibration_error=error,
        bins=bins_of(results.scores.confidences[is_readable], is_correct[is_readable]),
        classes=_by_class(results, confusions),
        confusions=confusions,
    )


class WeightedMeasures:
    """Computes balanced accuracy, macro F1, log loss, Brier score and calibration error for weights of the pictures."""

    def __init__(self, results: Results):
        self._labels = results.labels
        self._num_classes = results.num_classes
        self._is_correct = results.is_correct
        self._is_readable = results.is_readable
        self._predicted = np.where(self._is_readable, results.scores.predicted, results.num_classes)
        self._scores = results.scores
        self._bins = bin_of(results.scores.confidences)

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """The five numbers, float64 [5], for weights int64 [N]: how often each picture is counted."""
        size = self._num_classes + 1
        num = np.bincount(self._labels, weights, size)
        num_correct = np.bincount(self._labels, weights * self._is_correct, size)
        num_predicted = np.bincount(self._predicted, weights, size)
        has_images = num > 0
        recall = num_correct[has_images] / num[has_images]
        f1 = 2 * num_correct[has_images] / (num[has_images] + num_predicted[has_images])
        readable = weights * self._is_readable
        total = max(1, readable.sum())
        gaps = np.bincount(self._bins, readable * (self._scores.confidences - self._is_correct), NUM_BINS)
        log_loss = float(readable @ self._scores.losses) / total
        brier = float(readable @ self._scores.briers) / total
        return np.array([_mean(recall), _mean(f1), log_loss, brier, np.abs(gaps).sum() / total])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _confusions(results: Results) -> tuple[Confusion, ...]:
    """All pairs of classes that were confused; a table of pairs, because 10,000 classes have 100 million."""
    wrong = ~results.is_correct
    num = np.bincount(results.labels, minlength=results.num_classes)
    pairs, counts = np.unique(
        np.stack([results.labels[wrong], results.scores.predicted[wrong]]), axis=1, return_counts=True
    )
    confusions = [
        Confusion(label, predicted, count, int(num[label]))
        for (label, predicted), count in zip(pairs.T.tolist(), counts.tolist(), strict=True)
    ]
    return tuple(sorted(confusions, key=lambda one: (-one.num, -one.share, one.label, one.predicted)))


def _by_class(results: Results, confusions: tuple[Confusion, ...]) -> tuple[ClassMeasures, ...]:
    from sklearn.metrics import precision_recall_fscore_support

    labels = np.arange(results.num_classes)
    precision, _, f1, num = precision_recall_fscore_support(
        results.labels, results.scores.predicted, labels=labels, zero_division=0
    )
    num_correct = np.bincount(results.labels[results.is_correct], minlength=len(labels))
    readable = results.scores.predicted[results.scores.predicted != UNREADABLE_LABEL]
    num_predicted = np.bincount(readable, minlength=len(labels))
    most: dict[int, Confusion] = {}
    for confusion in confusions:
        if confusion.predicted != UNREADABLE_LABEL:
            most.setdefault(confusion.label, confusion)
    return tuple(
        ClassMeasures(
            label=label,
            name=results.names[label],
            num_images=int(num[label]),
            num_correct=int(num_correct[label]),
            num_predicted=int(num_predicted[label]),
            recall=wilson(int(num_correct[label]), int(num[label])),
            precision=float(precision[label]),
            f1=float(f1[label]),
            confused_with=most.get(label),
        )
        for label in labels.tolist()
    )
