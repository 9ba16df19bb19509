"""What an evaluation found for every picture, and what every picture was: the input of all parts of a report."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..metrics import UNREADABLE, SampleScores

ROWS_AT_ONCE = 4096  # of the logits that are converted to float64
UNREADABLE_LABEL = -1  # predicted label of a picture that could not be read


class PictureScores(NamedTuple):
    """Results by picture. Those of a picture that could not be read are 0, and `predicted` is UNREADABLE_LABEL."""

    predicted: np.ndarray  # int64 [N], label of the most probable class
    confidences: np.ndarray  # float64 [N], probability of that class
    losses: np.ndarray  # float64 [N], minus the logarithm of the probability of the right class
    briers: np.ndarray  # float64 [N], squared distance between the probabilities and the right answer, 0 to 2


@dataclass(frozen=True)
class Results:
    """The pictures of an evaluation with the outputs of the model.

    Attributes:
        labels: int64 [N], right class of each picture.
        logits: float32 [N, C].
        positions: int64 [N], place of the right class in the order of the logits; UNREADABLE without a picture.
        names: name of each class, C of them.
        scores: results by picture.
    """

    labels: np.ndarray
    logits: np.ndarray
    positions: np.ndarray
    names: tuple[str, ...]
    scores: PictureScores

    @property
    def num_classes(self) -> int:
        """Number of outputs of the model."""
        return self.logits.shape[1]

    @property
    def is_readable(self) -> np.ndarray:
        """bool [N]: the picture could be read."""
        return self.positions != UNREADABLE

    @property
    def is_correct(self) -> np.ndarray:
        """bool [N]: the right class has the largest logit. A picture that could not be read is wrong."""
        return self.positions == 0

    def most_confident_mistakes(self, limit: int) -> np.ndarray:
        """Indices of the wrong pictures that could be read, the most confident ones first."""
        wrong = np.flatnonzero(self.is_readable & ~self.is_correct)
        return wrong[np.argsort(-self.scores.confidences[wrong], kind="stable")][:limit]


def results_of(samples: SampleScores, labels: np.ndarray, names: tuple[str, ...] | None) -> Results:
    """Compute the results by picture from the logits that `evaluate_samples` kept.

    Args:
        samples: of all pictures, with logits.
        labels: int64 [N], of the same pictures in the order of their list.
        names: of the classes; None calls class 3 "class 3".
    """
    logits, positions = samples.logits, samples.positions
    names = names or tuple(f"class {label}" for label in range(logits.shape[1]))
    return Results(np.asarray(labels), logits, positions, tuple(names), _score(logits, labels, positions != UNREADABLE))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the probabilities of `logits` [N, C], in float64; the largest logit is subtracted first."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _score(logits: np.ndarray, labels: np.ndarray, is_readable: np.ndarray) -> PictureScores:
    parts = []
    for start in range(0, len(logits), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        rows = np.arange(len(logits[part]))
        logs = log_softmax(logits[part])
        probabilities = np.exp(logs)
        predicted = logits[part].argmax(axis=1)
        right = probabilities[rows, labels[part]]
        brier = (probabilities**2).sum(axis=1) - 2 * right + 1
        parts.append((predicted, probabilities[rows, predicted], -logs[rows, labels[part]], brier))
    predicted, confidences, losses, briers = map(np.concatenate, zip(*parts, strict=True))
    predicted[~is_readable] = UNREADABLE_LABEL
    for values in (confidences, losses, briers):
        values[~is_readable] = 0.0
    return PictureScores(predicted, confidences, losses, briers)
