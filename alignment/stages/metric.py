"""Stage 4: compare top-1 and top-5 counts over batches of unequal size, exactly."""

import numpy as np

from ..session import Session
from ..verdict import Check, StageResult, exactly

KS = (1, 5)
BATCHES = (64, 64, 7)  # the last batch is smaller, so that a mean of the batches' means differs


def run(session: Session) -> StageResult:
    """Compare the counts for random logits, and check the rule for equal logits, which torch does not define."""
    rng = np.random.default_rng(session.case.seed)
    num_classes, ks = session.num_classes, _possible_ks(session)
    actual, expected = dict.fromkeys(ks, 0), dict.fromkeys(ks, 0)
    for size in BATCHES:
        logits = rng.normal(0, 1, (size, num_classes)).astype(np.float32)
        labels = rng.integers(0, num_classes, size)
        logits[np.arange(size), labels] += rng.uniform(0, 5, size).astype(np.float32)
        counts = session.port.counts(logits, labels, ks)
        inputs = session.reference.put({"logits": logits, "labels": labels})
        answer = session.reference.ask("accuracy", inputs=inputs, ks=list(ks))["counts"]
        for k in ks:
            actual[k] += counts[k]
            expected[k] += answer[str(k)]
    checks = []
    for k in ks:
        text = f"{actual[k]} in the port, {expected[k]} in the reference, of {sum(BATCHES)}"
        checks.append(exactly(f"top-{k}", actual[k] == expected[k], text))
    return StageResult("metric", [*checks, _equal_logits(session)])


def _possible_ks(session: Session) -> tuple[int, ...]:
    """The ks that are at most the number of classes."""
    return tuple(k for k in KS if k <= session.num_classes)


def _equal_logits(session: Session) -> Check:
    """Check that equal logits count as a random guess does: k labels of C are among the k highest, not all or none."""
    num_classes, ks = session.num_classes, _possible_ks(session)
    labels = np.arange(num_classes)
    counts = session.port.counts(np.zeros((num_classes, num_classes), np.float32), labels, ks)
    is_chance = all(counts[k] == k for k in ks)
    found, expected = (" and ".join(map(str, numbers)) for numbers in (counts.values(), ks))
    return exactly("equal logits", is_chance, f"{found} right of {num_classes}, by chance {expected}")
