"""Stage 4: compare top-1 and top-5 counts over batches of unequal size, exactly."""

import numpy as np

from ..pipeline.judge import nested_check, with_functions
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
        return StageResult("metric", with_functions(session.case, "metric", [_user_metric(session)]))
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


def _random_output(rng: np.random.Generator, like: np.ndarray, num: int, target: np.ndarray) -> np.ndarray:
    """A random output of the shape and type of another, that is near the target where the shapes allow it.

    Args:
        rng: draws the numbers.
        like: output of the reference, [B, ...]; float64 becomes float32.
        num: number of samples in place of B.
        target: [num, ...].
    """
    shape, rest = (num, *like.shape[1:]) if like.ndim else (), like.shape[1:]
    if like.dtype.kind != "f":  # classes that were chosen, or a mask
        return rng.integers(int(like.min()), int(like.max()) + 1, shape).astype(like.dtype)
    output = rng.normal(0, 1, shape).astype(np.float32)
    if target.dtype.kind in "iu" and len(rest) and target.shape[1:] == tuple(rest[1:]) and target.max() < rest[0]:
        labels = np.expand_dims(target, 1)  # half of the outputs are right
        np.put_along_axis(output, labels, np.take_along_axis(output, labels, 1) + 1.5, 1)
    elif target.shape == output.shape:
        output = (target + 0.3 * output * np.ptp(target)).astype(np.float32)
    return output


def _user_metric(session: Session) -> Check:
    """Compare the metric of the user for random outputs in the shapes of the reference's, nested as they are."""
    import paddle

    from ..paddle_side import pipeline

    case, batches = session.case, []
    images, rng = session.images(case.shape), np.random.default_rng(case.seed)
    answer, found = session.reference.ask_arrays(
        "user_outputs", reference=case.reference_spec, weights=session.weights_file,
        inputs=session.reference.put({"images": images}),
    )  # fmt: skip
    for index, size in enumerate(USER_BATCHES):
        target = session.targets(size, f"metric {index}", "metric")
        batches.append(([_random_output(rng, array, size, target) for array in found.values()], target))
    arrays: Arrays = {"images": images}
    for index, (outputs, target) in enumerate(batches):
        arrays |= {f"output{index}.{place}": output for place, output in enumerate(outputs)}
        arrays[f"target{index}"] = target
    _, expected = session.reference.ask_arrays(
        "user_metric",
        function=case.function_spec("metric", "reference"),
        reference=case.reference_spec,
        inputs=session.reference.put(arrays),
        num_batches=len(batches),
    )
    nested = pipeline.returned(session.port, images)
    pairs = [
        (pipeline.filled(nested, list(map(paddle.to_tensor, outputs)), answer["paths"]), paddle.to_tensor(target))
        for outputs, target in batches
    ]
    actual = pipeline.metric(case, pairs)
    values = ", ".join(f"{float(np.mean(array)):.4g}" for array in list(expected.values())[:6])
    check = nested_check("metric", actual, expected, USER_TOLERANCE, detail=f"{values} in the reference")
    if check.status == PASS and not any(np.any(array) for array in expected.values()):
        check.status, check.detail = INCONCLUSIVE, "0 on every batch on both sides; does `target` fit the metric?"
    return check
