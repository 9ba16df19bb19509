"""Stage 4: compare top-1 and top-5 counts over batches of unequal size, exactly."""

import numpy as np

from ..pipeline.judge import nested_check
from ..rules import Arrays
from ..session import Session
from ..verdict import INCONCLUSIVE, PASS, Check, StageResult, exactly

KS = (1, 5)
USER_BATCHES = (16, 16, 5)
BATCHES = (64, 64, 7)  # the last batch is smaller, so that a mean of the batches' means differs


USER_TOLERANCE = 1e-6  # a metric of the user computes in float32


def run(session: Session) -> StageResult:
    """Compare the metric of the user if the case names one, and else top-1 and top-5 of this project."""
    if session.case.metric.is_given:
        return StageResult("metric", [_user_metric(session)])
    return StageResult("metric", _top_counts(session))


def _top_counts(session: Session) -> list[Check]:
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
    return [*checks, _equal_logits(session)]


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


def _user_metric(session: Session) -> Check:
    """Compare the metric of the user for random outputs in the shape of the reference's."""
    from ..paddle_side import pipeline

    case, pairs = session.case, []
    rng, rest = np.random.default_rng(case.seed), session.output_shape[1:]
    for index, size in enumerate(USER_BATCHES):
        target = session.targets(size, f"metric {index}")
        output = rng.normal(0, 1, (size, *rest)).astype(np.float32)
        if target.dtype.kind in "iu" and len(rest) and target.shape[1:] == tuple(rest[1:]):
            labels = np.expand_dims(target, 1)  # half of the outputs are right, as after some training
            np.put_along_axis(output, labels, np.take_along_axis(output, labels, 1) + 1.5, 1)
        elif target.shape == output.shape:
            output = (target + 0.3 * output * np.ptp(target)).astype(np.float32)
        pairs.append((output, target))
    arrays: Arrays = {}
    for index, (output, target) in enumerate(pairs):
        arrays |= {f"output{index}": output, f"target{index}": target}
    _, expected = session.reference.ask_arrays(
        "user_metric",
        function=case.function_spec("metric", "reference"),
        inputs=session.reference.put(arrays),
        num_batches=len(pairs),
    )
    actual = pipeline.metric(case, pairs)
    values = ", ".join(f"{float(np.mean(array)):.4g}" for array in list(expected.values())[:6])
    check = nested_check("metric", actual, expected, USER_TOLERANCE, detail=f"{values} in the reference")
    if check.status == PASS and not any(np.any(array) for array in expected.values()):
        check.status, check.detail = INCONCLUSIVE, "0 on every batch on both sides; does `target` fit the metric?"
    return check
