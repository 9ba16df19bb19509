"""Stage 4: compare top-1 and top-5 counts over batches of unequal size, exactly."""

from contextlib import suppress

import numpy as np
import paddle

from common.errors import ReferenceFailedError

from ..pipeline.judge import nested_check, with_functions
from ..rules import Arrays
from ..session import Session
from ..verdict import FAIL, INCONCLUSIVE, PASS, Check, StageResult, exactly

KS = (1, 5)
USER_BATCHES = (16, 16, 5)
FEW_MARGIN = 10.0  # below the others, of the logits of classes that no target has
BATCHES = (64, 64, 7)  # the last batch is smaller, so that a mean of the batches' means differs


USER_TOLERANCE = 1e-6  # a metric of the user computes in float32


def run(session: Session) -> StageResult:
    """Compare the metric of the user if the case names one, and else top-1 and top-5 of this project."""
    if session.case.metric.is_given:
        return StageResult("metric", with_functions(session.case, "metric", _user_metric(session)))
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


def _random_output(
    rng: np.random.Generator, like: np.ndarray, num: int, target: np.ndarray, *, is_few: bool = False
) -> np.ndarray:
    """A random output of the shape and type of another, that is near the target where the shapes allow it.

    Args:
        rng: draws the numbers.
        like: output of the reference, [B, ...]; float64 becomes float32.
        num: number of samples in place of B.
        target: [num, ...].
        is_few: whether only classes of the target are chosen.
    """
    shape, rest = (num, *like.shape[1:]) if like.ndim else (), like.shape[1:]
    if like.dtype.kind != "f":  # classes that were chosen, or a mask
        return rng.integers(int(like.min()), int(like.max()) + 1, shape).astype(like.dtype)
    output = rng.normal(0, 1, shape).astype(np.float32)
    if target.dtype.kind in "iu" and len(rest) and target.shape[1:] == tuple(rest[1:]) and target.max() < rest[0]:
        labels = np.expand_dims(target, 1)  # half of the outputs are right
        np.put_along_axis(output, labels, np.take_along_axis(output, labels, 1) + 1.5, 1)
        if is_few:
            output[:, np.setdiff1d(np.arange(rest[0]), target)] -= FEW_MARGIN
    elif target.shape == output.shape:
        output = (target + 0.3 * output * np.ptp(target)).astype(np.float32)
    return output


def _user_metric(session: Session) -> list[Check]:
    """Compare the metric of the user for random outputs in the shapes of the reference's, nested as they are.

    With labels it is compared once more on batches in which most classes are missing.
    """
    from ..paddle_side import pipeline

    case = session.case
    images = session.images(case.shape)
    answer, found = session.reference.ask_arrays(
        "user_outputs", reference=case.reference_spec, weights=session.weights_file,
        inputs=session.reference.put({"images": images}),
    )  # fmt: skip
    nested = pipeline.returned(session.port, images)

    def compare(name: str, targets: list[np.ndarray], *, is_few: bool = False) -> Check:
        rng = np.random.default_rng(case.seed)
        batches = [
            ([_random_output(rng, array, len(target), target, is_few=is_few) for array in found.values()], target)
            for target in targets
        ]
        expected = _of_reference(session, images, batches)
        pairs = [
            (pipeline.filled(nested, list(map(paddle.to_tensor, outputs)), answer["paths"]), paddle.to_tensor(target))
            for outputs, target in batches
        ]
        actual = pipeline.metric(case, pairs)
        values = ", ".join(f"{float(np.mean(array)):.4g}" for array in list(expected.values())[:6])
        check = nested_check(name, actual, expected, USER_TOLERANCE, detail=f"{values} in the reference")
        if check.status == PASS and not any(np.any(array) for array in expected.values()):
            check.status, check.detail = INCONCLUSIVE, "0 on every batch on both sides; does `target` fit the metric?"
        return check

    targets = [session.targets(size, f"metric {index}", "metric") for index, size in enumerate(USER_BATCHES)]
    checks = [compare("metric", targets)]
    if session.has_labels and checks[0].status == PASS:
        with suppress(ReferenceFailedError):  # a metric may need all classes
            few = [target // 2 * 2 % 4 for target in targets]
            few = compare("metric, most classes missing", few, is_few=True)
            checks += [few] if few.status in (PASS, FAIL) else []
    return checks


def _of_reference(session: Session, images: np.ndarray, batches: list[tuple]) -> Arrays:
    """The values of the metric of the reference for pairs (outputs, target)."""
    case, arrays = session.case, {"images": images}
    for index, (outputs, target) in enumerate(batches):
        arrays |= {f"output{index}.{place}": output for place, output in enumerate(outputs)}
        arrays[f"target{index}"] = target
    return session.reference.ask_arrays(
        "user_metric",
        function=case.function_spec("metric", "reference"),
        reference=case.reference_spec,
        inputs=session.reference.put(arrays),
        num_batches=len(batches),
    )[1]
