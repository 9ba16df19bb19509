"""Rung 4: top-1 and top-5 counts, over several batches of unequal size, exactly."""

import numpy as np

from ..session import Session
from ..verdict import Check, RungResult, exactly

KS = (1, 5)
BATCHES = (64, 64, 7)  # the last one is smaller: averaging averages would show


def climb(session: Session) -> RungResult:
    """Random logits, and a percentage over all batches; then equal logits, where only our own rule is held."""
    rng = np.random.default_rng(session.case.seed)
    num_classes = session.num_classes
    ours, theirs, checks = dict.fromkeys(KS, 0), dict.fromkeys(KS, 0), []
    for size in BATCHES:
        logits = rng.normal(0, 1, (size, num_classes)).astype(np.float32)
        labels = rng.integers(0, num_classes, size)
        logits[np.arange(size), labels] += rng.uniform(0, 5, size).astype(np.float32)
        counts = session.port.counts(logits, labels, KS)
        inputs = session.reference.put({"logits": logits, "labels": labels})
        expected = session.reference.ask("accuracy", inputs=inputs, ks=list(KS))["counts"]
        for k in KS:
            ours[k] += counts[k]
            theirs[k] += expected[str(k)]
    for k in KS:
        text = f"{ours[k]} in the port, {theirs[k]} in the reference, of {sum(BATCHES)}"
        checks.append(exactly(f"top-{k}", ours[k] == theirs[k], text))
    return RungResult("metric", [*checks, _ties(session)])


def _ties(session: Session) -> Check:
    """A model that says the same of every class is right by luck: once in C images, not always and not never."""
    num_classes = session.num_classes
    labels = np.arange(num_classes)
    counts = session.port.counts(np.zeros((num_classes, num_classes), np.float32), labels, KS)
    is_luck = all(counts[k] == k for k in KS)
    return exactly("equal logits", is_luck, f"{counts[1]} and {counts[5]} right of {num_classes}, by luck 1 and 5")
