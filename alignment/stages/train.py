"""Stage 7: compare N training steps from the same weights on the same batches, and two loss curves on digits."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from ..compare import Difference, compare_sketches, not_finite
from ..exchange import TrainSettings
from ..layers.hints import setting_hints
from ..layers.optimizer_hints import differing_settings, update_hints
from ..layers.pairing import pair
from ..layers.table import LayerTable
from ..paddle_side.training import train_port
from ..pipeline.judge import function_lines, with_functions
from ..reference import File
from ..rules import Arrays
from ..session import Session
from ..verdict import FAIL, PASS, REMARK, Check, StageResult, exactly, within
from .loss import rate_check, user_rates
from .loss_curves import compare_curves, takes_digits
from .rounding import FLOAT64_MULTIPLE, NUM_RUNS, may_be_rounding, next_floats, worst_of
from .unjudged import divergence_reason, left_out, unjudged
from .weight_decay import decay_checks

WIDTH = 256  # of the sketch of each tensor after each step
LEAST_SHARE = 1e-6  # of the largest norm of a kind; a smaller tensor is judged by this share of it
# Kinds of records in the order in which a step computes them: the first that differs is nearest to the cause.
KINDS = {
    "gradient": "gradients",
    "velocity": "momentum buffers",
    "moment1": "first moments",
    "moment2": "second moments",
    "weight": "weights and statistics",
}
ANY = 1e30  # a tolerance that everything passes


def run(session: Session) -> StageResult:
    """Compare losses, gradients, optimizer states, weights and statistics after each step, then the loss curves."""
    train = session.case.train
    output_type = "float32" if session.case.loss.is_given or session.case.step.is_given else session.output_type
    num_trained = len(session.port_trained) + sum(entry["is_trained"] for entry in session.inventory["entries"])
    has_batch = session.has_batch or session.case.loss.is_given
    if nothing := left_out("train", output_type, num_trained, has_batch=has_batch):
        return nothing
    rates, reference_rates = _rates(session)
    images = session.images((train.steps, *train.shape), "train")
    targets = session.targets(train.steps * train.shape[0], is_training=True)
    labels = targets.reshape(train.steps, train.shape[0], *targets.shape[1:])
    settings = session.train_settings("float64", reference_rates, WIDTH)
    inputs = session.reference.put({"images": images, "labels": labels})
    finish = session.begin_training(inputs, settings, session.weights_file)

    def train_from(weights: Arrays) -> Arrays:
        return train_port(session.port, weights, images, labels, replace(settings, rates=rates))

    actual = train_from(session.port_weights)
    expected = finish()[1]
    tolerance = session.case.tolerances.step
    checks = step_checks(actual, expected, tolerance)
    if any(check.status == FAIL for check in checks) and (floor := _inner_rounding(session)) > tolerance:
        tolerance = floor
        checks = step_checks(actual, expected, tolerance)
    if _may_be_amplified(checks, actual, expected, tolerance):
        checks = _amplified_checks(session, inputs, settings, train_from, actual, expected, tolerance)
    if session.case.optimizer.is_given:
        rates_compared = rate_check("learning rates", actual["rates"], expected["rates"])
        checks = [*with_functions(session.case, "optimizer", [rates_compared]), *checks]
    checks += decay_checks(actual, expected, session.rules)
    failed = [check for check in checks if check.status == FAIL]
    if not failed and (settings_found := differing_settings(actual, expected)):
        detail = f"differs, not reached by these {train.steps} steps"
        lines = function_lines(session.case, "optimizer")
        checks.append(Check("settings of the optimizer", FAIL, 0.0, None, detail, hints=settings_found, source=lines))
    elif failed:
        failed[0].hints += (updates := update_hints(actual, expected))
        failed[0].source = failed[0].source or function_lines(session.case, "optimizer") * bool(updates)
        hints = _setting_hints(session) if any(check.layer for check in failed) else {}
        for check in failed:
            check.hints += hints.get(check.layer, [])
    elif np.isfinite(expected["losses"]).all():
        checks.append(_float32_check(session, images, labels, inputs, replace(settings, rates=rates), expected))
    curves = {"loss of the port": actual["losses"].tolist(), "loss of the reference": expected["losses"].tolist()}
    if train.curve_side and takes_digits(session):
        check, digits = compare_curves(session)
        checks.append(check)
        curves |= digits
    reason = session.unpaired_draws or divergence_reason(expected["losses"])
    return StageResult("train", unjudged(checks, reason), curves=curves)


def _rates(session: Session) -> tuple[list[float], list[float]]:
    """(port, reference): the learning rate of each step; both empty if the user's optimizers have their own."""
    case, train = session.case, session.case.train
    if case.optimizer.is_given:
        return [], []
    if case.schedule.is_given:
        rates = user_rates(session, train.steps)
        return rates.port, rates.reference
    expected = session.reference.ask(
        "rates", schedule="cosine", lr=train.lr, epochs=1, steps_per_epoch=train.steps, options={}
    )["rates"]
    return [session.port.rate(train.lr, 1)(0, step, train.steps) for step in range(train.steps)], expected


def _setting_hints(session: Session) -> dict[str, list[str]]:
    """{layer: hints about its constructor arguments}; the momentum of a batch norm has no effect in a forward."""
    port, reference = session.evaluation_traces(session.images(session.case.shape), "float32")
    return {
        port.nodes[a]["path"]: setting_hints(port.nodes[a]["settings"], reference.nodes[b]["settings"])
        for a, b, _ in pair(port, reference, session.case.layers).pairs
    }


def _inner_rounding(session: Session) -> float:
    """What a forward may differ by where operations of Paddle round to float32 inside, see layers/floors.py."""
    port, reference = session.evaluation_traces(session.images(session.case.train.shape), "float64")
    return LayerTable(session.case, port, reference, is_backward=False).chain_tolerance


def _may_be_amplified(checks: list[Check], actual: Arrays, expected: Arrays, tolerance: float) -> bool:
    """Whether the differences may be rounding that the training amplifies: they are small, or begin after step 0.

    Args:
        checks: of all steps.
        actual: records of the port.
        expected: records of the reference.
        tolerance: of these checks.
    """
    if all(check.status != FAIL for check in checks) or not np.isfinite(expected["losses"]).all():
        return False
    first = step_checks(_first_step(actual), _first_step(expected), tolerance)
    return may_be_rounding(checks) or all(check.status != FAIL for check in first)


def _amplified_checks(
    session: Session,
    inputs: File,
    settings: TrainSettings,
    train_from: Callable[[Arrays], Arrays],
    actual: Arrays,
    expected: Arrays,
    tolerance: float,
) -> list[Check]:
    """The checks of all steps, with limits that grow as the training of the reference amplifies small differences.

    A first limit is what one rounding of float64 in every weight changes. Frameworks may also differ by a constant that
    one of them has in float32, such as the 1 / 49 of Paddle's average pool, which the first step lets pass: a second
    limit is what becomes of a difference of that size in the reference alone. Now and then such a difference makes
    another pixel the largest of a max pool, and the gradients jump: that does not happen again from other weights, or
    it happens in every run within a step. With an optimizer of the user only the first counts.

    Args:
        session: the case.
        inputs: images and labels for the reference.
        settings: of the training in float64.
        train_from: trains the port from weights of its own names; returns its records.
        actual: records of the port.
        expected: records of the reference.
        tolerance: largest relative error that passes at least.
    """
    moved = range(1, NUM_RUNS + 1)
    own = _own_distances(_moved_runs(session, inputs, settings, moved), expected)
    limits = np.maximum(tolerance, FLOAT64_MULTIPLE * own)
    checks = step_checks(actual, expected, limits)
    text = f"; the reference moves by {own[-1]:.1e} if each weight is moved by one rounding of float64"
    first = max(check.value or 0.0 for check in step_checks(_first_step(actual), _first_step(expected), ANY))
    if any(check.status == FAIL for check in checks) and FLOAT64_MULTIPLE * own[0] < first <= tolerance:
        num_floats = round(first / max(own[0], np.finfo(np.float64).eps))
        runs = _moved_runs(session, inputs, settings, moved, num_floats)
        # A constant changes all gradients by the same factor, which adds up over the steps as a learning rate does.
        faster = replace(settings, rates=[rate * (1 + first) for rate in settings.rates])
        runs += _moved_runs(session, inputs, faster, [0])
        own = np.append(own[:1], _own_distances(runs, expected)[1:])
        limits = np.maximum(limits, FLOAT64_MULTIPLE * own)
        checks = step_checks(actual, expected, limits)
        text = f"; a difference of {first:.1e} as after step 0 becomes {own[-1]:.1e} in the reference alone"
        if any(check.status == FAIL for check in checks):
            again = _checks_from_other_weights(session, inputs, settings, train_from, limits)
            later = step_checks(actual, expected, np.maximum(limits, FLOAT64_MULTIPLE * np.append(own[1:], own[-1])))
            is_ours = not (session.case.optimizer.is_given or session.case.step.is_given)
            if all(check.status != FAIL for check in again):
                checks = again
                text += "; this is a second run, from other weights: in the first, steps after 0 differed"
            elif is_ours and all(check.status != FAIL for check in later):
                checks = later
                text += "; the gradients jump, in the reference one step later than in the port"
    checks[0].detail += text
    return checks


def _checks_from_other_weights(
    session: Session,
    inputs: File,
    settings: TrainSettings,
    train_from: Callable[[Arrays], Arrays],
    limits: np.ndarray,
) -> list[Check]:
    """The checks of both trainings from weights that are all moved by one float32; the arguments are as above."""
    weights = _moved(session, "float32", 2 * NUM_RUNS)
    file = session.reference.put(weights)
    finish = session.begin_training(inputs, settings, file)
    actual, expected = train_from(session.converted(weights)), finish()[1]
    session.reference.forget(file)
    return step_checks(actual, expected, limits)


def _first_step(records: Arrays) -> Arrays:
    return {key: rows[:1] for key, rows in records.items() if "/" in key or key == "losses"}


def _loss_check(actual: np.ndarray, expected: np.ndarray, tolerances: np.ndarray) -> Check:
    detail = f"{len(expected)} steps, from {expected[0]:.4f} to {expected[-1]:.4f}"
    if unusable := not_finite(actual, expected):
        return within("losses", unusable, tolerances[0], detail=detail)
    errors = np.abs(actual - expected) / np.abs(expected)
    step = int(np.argmax(errors / tolerances))
    if (errors > tolerances).any():
        detail = f"first at step {int(np.argmax(errors > tolerances))}; " + detail
    return within("losses", Difference(float(errors[step])), float(tolerances[step]), detail=detail)


def step_checks(actual: Arrays, expected: Arrays, tolerance: float | np.ndarray) -> list[Check]:
    """One check for the losses, and one for each kind of record.

    Args:
        actual: records of the port.
        expected: records of the reference.
        tolerance: largest relative error that passes, of each step or of all.
    """
    tolerances = np.broadcast_to(tolerance, expected["losses"].shape)
    by_kind: dict[str, Arrays] = {}
    for key, rows in expected.items():
        if "/" in key:
            kind, name = key.split("/", 1)
            by_kind.setdefault(kind, {})[name] = rows
    checks = [_kind_check(kind, actual, by_kind[kind], tolerances) for kind in KINDS if kind in by_kind]
    return [_loss_check(actual["losses"], expected["losses"], tolerances), *checks]


def _kind_check(kind: str, records: Arrays, expected: Arrays, tolerances: np.ndarray) -> Check:
    """Compare the records of one kind; the detail names what differs first.

    Args:
        kind: of KINDS.
        records: of the port.
        expected: {name in the port: [N, width]} of the reference.
        tolerances: largest relative error that passes, of each step.
    """
    missing = [name for name in expected if f"{kind}/{name}" not in records]
    if missing:
        if len(missing) == len(expected):
            detail = "the optimizer of the port keeps none under a name of Paddle's; the weights tell what it does"
            return Check(KINDS[kind], REMARK, detail=detail)
        layer = missing[0].rsplit(".", 1)[0] if len(missing) < len(expected) / 2 else ""
        text = f"none in the port for {len(missing)}: {', '.join(missing[:3])}"
        return exactly(KINDS[kind], False, text, layer=layer)
    actual = {name: records[f"{kind}/{name}"] for name in expected}
    num_steps = len(next(iter(expected.values())))
    worst, worst_name, worst_tolerance = Difference(0.0), "", float(tolerances[0])
    for step in range(num_steps):
        tolerance = float(tolerances[step])
        least = LEAST_SHARE * max(float(np.linalg.norm(rows[step])) for rows in expected.values())
        differences = {n: compare_sketches(actual[n][step], expected[n][step], least_scale=least) for n in expected}
        wrong = [name for name, difference in differences.items() if not difference.relative <= tolerance]
        if wrong:
            text = f"first after step {step}, in {len(wrong)} of {len(expected)}: {', '.join(wrong[:4])}"
            layers = {name.rsplit(".", 1)[0] for name in wrong}
            layer = layers.pop() if len(layers) == 1 else ""
            return within(KINDS[kind], differences[wrong[0]], tolerance, layer=layer, detail=text)
        name = max(differences, key=lambda name: differences[name].relative)
        if differences[name].relative * worst_tolerance > worst.relative * tolerance:
            worst, worst_name, worst_tolerance = differences[name], name, tolerance
    detail = f"{len(expected)} tensors after each of {num_steps} steps; largest error: {worst_name}"
    return within(KINDS[kind], worst, worst_tolerance, detail=detail)


def _moved_runs(
    session: Session, inputs: File, settings: TrainSettings, runs: Iterable[int], num_floats: int = 1
) -> list[Arrays]:
    """Records of the reference in the precision of `settings`, from weights that are moved as `rounding.moved` says.

    Args:
        session: the case.
        inputs: images and labels for the reference.
        settings: of the training.
        runs: numbers of the runs; run 0 has the weights of the session.
        num_floats: how many floats away each weight is moved.
    """
    moved = {run: session.reference.put(_moved(session, settings.dtype, run, num_floats)) for run in runs if run}
    files = [moved.get(run, session.weights_file) for run in runs]
    waiting = [session.begin_training(inputs, settings, file) for file in files]
    found = [finish()[1] for finish in waiting]
    for file in moved.values():
        session.reference.forget(file)
    return found


def _moved(session: Session, dtype: str, run: int, num_floats: int = 1) -> Arrays:
    rng = np.random.default_rng([session.case.seed, run])
    return next_floats(rng, session.reference_weights, np.dtype(dtype), num_floats)


def _own_distances(runs: Iterable[Arrays], expected: Arrays) -> np.ndarray:
    """Largest relative change of a record of the reference up to each step, over runs in which something is moved.

    Batch norms over a few pixels amplify one rounding to any size within some steps.
    """
    own = np.zeros(len(expected["losses"]))
    for run in runs:
        for step in range(len(own)):
            pair = (
                {key: rows[: step + 1] for key, rows in one.items() if key != "optimizer"} for one in (run, expected)
            )
            found = [check.value or 0.0 for check in step_checks(*pair, ANY)]
            own[step] = max(own[step], *(value for value in found if np.isfinite(value)))
    return own


def _float32_check(
    session: Session, images: np.ndarray, labels: np.ndarray, inputs: File, settings: TrainSettings, exact: Arrays
) -> Check:
    """Judge the weights after each step in float32 by the reference's own distance from the training in float64.

    As in stages/rounding.py a second comparison from moved weights decides if the first is above the limit.

    Args:
        session: the case.
        images: [N, B, 3, H, W].
        labels: [N, B].
        inputs: both for the reference.
        settings: of the training in float64.
        exact: records of the reference in float64.
    """
    settings = replace(settings, dtype="float32", has_weights_alone=True)
    check = None
    for first_run in (0, NUM_RUNS):
        runs = _moved_runs(session, inputs, settings, range(first_run, first_run + NUM_RUNS))
        weights = session.reference_weights if not first_run else _moved(session, "float32", 2 * NUM_RUNS)
        actual = train_port(session.port, session.converted(weights), images, labels, settings)
        own = np.sqrt(sum(_weight_squares(run, exact) for run in runs) / NUM_RUNS)
        distances = np.sqrt(_weight_squares(actual, exact))
        steps = [
            (f"step {step}", Difference(float(distance)), session.allowed_rounding(float(rounding)))
            for step, (distance, rounding) in enumerate(zip(distances, own, strict=True))
        ]
        check = worst_of("training steps, float32", steps)
        if check.status == PASS:
            break
    return replace(check, layer="", detail=f"{check.detail}; the reference's own rounding is {own[-1]:.1e} at the end")


def _weight_squares(records: Arrays, exact: Arrays) -> np.ndarray:
    """Sum over the tensors of the squared relative distance from the exact weights after each step, [N]."""
    squares = []
    for key, rows in exact.items():
        if not key.startswith("weight/"):
            continue
        found = records.get(key)
        scale = np.maximum(np.square(rows).sum(1), 1e-300)
        squares.append(np.square(found - rows).sum(1) / scale if found is not None else 0 * scale)
    return np.sum(squares, axis=0) / max(len(squares), 1)
