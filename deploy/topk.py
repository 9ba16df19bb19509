"""From logits to records: softmax and the k most probable classes."""

from collections.abc import Sequence

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of `logits` [B, C], in float64; the largest is subtracted first, so nothing overflows."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def topk_records(
    logits: np.ndarray,
    file_names: Sequence[str],
    class_names: Sequence[str] | None,
    k: int = 5,
    threshold: float = 0.0,
) -> list[dict]:
    """A record for each row of `logits` [B, C]: the `k` most probable classes (fewer if there are fewer).

    Keys and their order are those of PeleeNet-paddle: class_ids, scores, file_name, label_names. Of equal logits the
    lower class comes first. Without `class_names` class 3 is called "class 3". Classes below `threshold` are left out.
    """
    probabilities = softmax(logits)
    records = []
    for row, scores, file_name in zip(logits, probabilities, file_names, strict=True):
        best = np.argsort(-row, kind="stable")[:k]
        best = best[scores[best] >= threshold]
        records.append(
            {
                "class_ids": best.tolist(),
                "scores": scores[best].tolist(),
                "file_name": str(file_name),
                "label_names": [class_names[label] if class_names else f"class {label}" for label in best.tolist()],
            }
        )
    return records
