"""Postprocessing: softmax of logits, and the most probable classes as predictions."""

from collections.abc import Sequence

import numpy as np

from .temperature import NO_TEMPERATURE


def softmax(logits: np.ndarray, temperature: float = NO_TEMPERATURE) -> np.ndarray:
    """Compute the probabilities of `logits` [B, C] / `temperature` in float64.

    The largest logit is subtracted first, against overflow. A temperature above 1 makes the probabilities less certain;
    none changes their order (Guo et al., 2017, On Calibration of Modern Neural Networks, section 4.2).
    """
    with np.errstate(over="ignore"):  # minus infinity by a tiny temperature, of which the exponential is 0
        exponentials = np.exp((logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)) / temperature)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def topk_predictions(
    logits: np.ndarray,
    file_names: Sequence[str],
    class_names: Sequence[str] | None,
    *,
    topk: int = 5,
    threshold: float = 0.0,
    temperature: float = NO_TEMPERATURE,
) -> list[dict]:
    """Make a prediction for each row of `logits`: its most probable classes.

    A prediction has the keys of PeleeNet-paddle in their order: class_ids, scores, file_name, label_names. Of equal
    logits the lower class comes first.

    Args:
        logits: [B, C].
        file_names: one name for each row.
        class_names: one name for each class; None: class 3 is named "class 3".
        topk: number of classes in a prediction, at most C.
        threshold: classes of a lower probability are left out.
        temperature: of the probabilities, from the card.
    """
    probabilities = softmax(logits, temperature)
    predictions = []
    for row, scores, file_name in zip(logits, probabilities, file_names, strict=True):
        best = np.argsort(-row, kind="stable")[:topk]
        best = best[scores[best] >= threshold]
        predictions.append(
            {
                "class_ids": best.tolist(),
                "scores": scores[best].tolist(),
                "file_name": str(file_name),
                "label_names": [class_names[label] if class_names else f"class {label}" for label in best.tolist()],
            }
        )
    return predictions
