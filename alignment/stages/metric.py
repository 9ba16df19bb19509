"""Stage 4: top-1 and top-5 counts, over several batches of unequal size, exactly."""

import numpy as np

from ..session import Session
from ..verdict import Check, StageResult, exactly

KS = (1, 5)
BATCHES = (64, 64, 7)  # the last one is smaller: averaging averages would show


def run(session: Session) -> StageResult:
    """Random logits, and a percentage over all batches; then equal logits, where only our own rule is held."""
    rng = np.random.default_rng(session.case.seed)
    num_classes, ks = session.num_classes, _ks(session)
    ours, theirs, checks = dict.fromkeys(ks, 0), dict.fromkeys(ks, 0), []
    for size in BATCHES:
        logits = rng.normal(0, 1, (size, num_classes)).astype(np.float32)
        labels = rng.integers(0, num_classes, size)
        logits[np.arange(size), labels] += rng.uniform(0, 5, size).astype(np.float32)
        counts = session.port.counts(logits, labels, ks)
        inputs = session.reference.put({"logits": logits, "labels": labels})
        expected = session.reference.ask("accuracy", inputs=inputs, ks=list(ks))["counts"]
        for k in ks:
            ours[k] += counts[k]
            theirs[k] += expected[str(k)]
    for k in ks:
        text = f"{ours[k]} in the port, {theirs[k]} in the reference, of {sum(BATCHES)}"
        checks.append(exactly(f"top-{k}", ours[k] == theirs[k], text))
    return StageResult("metric", [*checks, _ties(session)])


def _ks(session: Session) -> tuple[int, ...]:
    """Those that a model of so few classes has."""
    return tuple(k for k in KS if k <= session.num_classes)


def _ties(session: Session) -> Check:
    """A model that says the same of every class is right by luck: once in C images, not always and not never."""
    num_classes, ks = session.num_classes, _ks(session)
    labels = np.arange(num_classes)
    counts = session.port.counts(np.zeros((num_classes, num_classes), np.float32), labels, ks)
    is_luck = all(counts[k] == k for k in ks)
    found, luck = (" and ".join(map(str, numbers)) for numbers in (counts.values(), ks))
    return exactly("equal logits", is_luck, f"{found} right of {num_classes}, by luck {luck}")
