"""Stage 5: compare cross entropy with hard, smoothed and soft labels, and the learning rates of three whole runs."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import paddle

from common.errors import ReferenceFailedError, UserFunctionError

from ..case import Case
from ..compare import Difference, compare, least_scale
from ..layers.source import whole_numbers
from ..paddle_side.port import Port
from ..pipeline.coverage import is_of_project
from ..pipeline.judge import with_functions
from ..rules import Arrays
from ..session import Session
from ..verdict import FAIL, INCONCLUSIVE, Check, StageResult, within

SMOOTHINGS = (0.0, 0.1)
TOLERANCE = 1e-12  # in float64, relative
# Relative to the highest rate: a cosine reaches zero, where an error relative to the rate itself means nothing.
RATE_TOLERANCE = 1e-12
EPOCHS, STEPS_PER_EPOCH = 90, 20
# The user's: more operations, and constants that Paddle keeps as float32.
USER_TOLERANCE = 1e-7
MAX_LABELS = 6  # beyond the classes, that are tried
USER_RATE_STEPS, MAX_RATE_STEPS = 100, 10_000  # at least, at most; without a length of the reference's schedule


def run(session: Session) -> StageResult:
    """Compare value and gradient of the loss, and the learning rates: of the user if the case names any."""
    case = session.case
    if case.loss.is_given or case.schedule.is_given or not is_of_project(case):
        checks = with_functions(session.case, "loss", user_loss(session)) if case.loss.is_given else []
        checks += with_functions(session.case, "schedule", [_user_schedule(session)]) if case.schedule.is_given else []
        return StageResult("loss", checks)
    return StageResult("loss", [*_losses(session), _cosine(session), _warmup(session), _steps(session)])


def _losses(session: Session) -> list[Check]:
    rng = np.random.default_rng(session.case.seed)
    logits = rng.normal(0, 3, (16, session.num_classes))
    labels = rng.integers(0, session.num_classes, 16)
    soft = rng.dirichlet(np.full(session.num_classes, 0.1), 16)
    inputs = session.reference.put({"logits": logits, "labels": labels, "soft_labels": soft})
    _, expected = session.reference.ask_arrays("losses", inputs=inputs, smoothings=list(SMOOTHINGS))
    checks = []
    for name, targets, smoothing in [*((f"smoothing {s}", labels, s) for s in SMOOTHINGS), ("soft labels", soft, 0.0)]:
        value, gradient = _value_and_gradient(session.port, logits, targets, smoothing)
        errors = [compare(value, expected[f"{name}/value"]), compare(gradient, expected[f"{name}/gradient"])]
        worst = max(errors, key=lambda difference: difference.relative)
        ratio = float(value / expected[f"{name}/value"])
        checks.append(within(f"cross entropy, {name}", worst, TOLERANCE, detail="value and gradient of the logits"))
        if worst.relative > TOLERANCE:
            checks[-1].hints.append(f"the value is {ratio:.6g} times the reference's: reduction, smoothing or scale?")
    return checks


def _value_and_gradient(
    port: Port, logits: np.ndarray, targets: np.ndarray, smoothing: float
) -> tuple[np.ndarray, np.ndarray]:
    tensor = paddle.to_tensor(logits, stop_gradient=False)
    loss = port.loss(smoothing)(tensor, paddle.to_tensor(targets))
    loss.backward()
    return loss.numpy(), tensor.grad.numpy()


def _cosine(session: Session) -> Check:
    rule = session.port.rate(0.25, EPOCHS)
    return _compare_rates(session, "schedule, cosine by step", rule, schedule="cosine", lr=0.25, options={})


def _warmup(session: Session) -> Check:
    from configs.schema import ScheduleConfig
    from engine.schedule import warmup_cosine

    options = {"warmup_epochs": 5, "warmup_lr": 1e-6, "min_lr": 1e-5}
    rule = warmup_cosine(0.25, ScheduleConfig(epochs=EPOCHS, **options))
    return _compare_rates(session, "schedule, warm-up and cosine", rule, schedule="cosine", lr=0.25, options=options)


def _steps(session: Session) -> Check:
    from configs.schema import ScheduleConfig
    from engine.schedule import step_decay

    rule = step_decay(0.1, ScheduleConfig(decay_epochs=30, decay_rate=0.1, warmup_epochs=0))
    options = {"step_size": 30, "gamma": 0.1}
    return _compare_rates(session, "schedule, steps", rule, schedule="step", lr=0.1, options=options)


def _compare_rates(session: Session, name: str, rule: Callable, *, schedule: str, lr: float, options: dict) -> Check:
    """Compare the rates of a rule (epoch, step, steps_per_epoch) -> rate with those of torch's scheduler."""
    answer = session.reference.ask(
        "rates", schedule=schedule, lr=lr, epochs=EPOCHS, steps_per_epoch=STEPS_PER_EPOCH, options=options
    )
    expected = np.array(answer["rates"])
    steps = [(epoch, step) for epoch in range(EPOCHS) for step in range(STEPS_PER_EPOCH)]
    actual = np.array([rule(epoch, step, STEPS_PER_EPOCH) for epoch, step in steps])
    return rate_check(name, actual, expected)


def user_loss(session: Session) -> list[Check]:
    """Compare the loss of the user and its gradients for the outputs of the reference, nested as on each side."""
    from ..paddle_side import pipeline

    case = session.case
    images = session.images(case.train.shape, "loss")
    target = session.targets(len(images))
    target = target.astype(np.float64) if target.dtype.kind == "f" else target
    answer, outputs = session.reference.ask_arrays(
        "user_outputs", reference=case.reference_spec, weights=session.weights_file,
        inputs=session.reference.put({"images": images, "target": target}),
    )  # fmt: skip
    nested, values = pipeline.returned(session.port, images), list(outputs.values())

    def of_reference(target: np.ndarray) -> Arrays:
        inputs = session.reference.put({"images": images, "target": target} | outputs)
        spec = case.function_spec("loss", "reference")
        return session.reference.ask_arrays("user_loss", function=spec, reference=case.reference_spec, inputs=inputs)[1]

    def of_port(target: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        return pipeline.loss_and_gradients(session.port.loss(0.0), nested, values, answer["paths"], target)

    expected, (value, gradients) = of_reference(target), of_port(target)
    number = float(np.reshape(expected["value"], ()))
    shapes = ", ".join(str(list(array.shape)) for array in values)
    checks = [within("value of the loss", compare(value.reshape(()), expected["value"].reshape(())), USER_TOLERANCE)]
    checks[0].detail = checks[0].detail or f"{number:.6g} for an output {shapes} and a target {list(target.shape)}"
    if checks[0].status == FAIL and number:
        ratio = float(np.reshape(value, ())) / number
        checks[0].hints.append(f"the value is {ratio:.6g} times the reference's: reduction, weights or scale?")
    checks += _gradient_checks(answer["paths"], gradients, expected)
    return checks + _other_labels(case, target, of_reference, of_port) * session.has_labels


def _other_labels(case: Case, target: np.ndarray, of_reference: Callable, of_port: Callable) -> list[Check]:
    """Compare the loss with labels beyond the classes that its code names, such as the one that it ignores.

    Args:
        case: names the loss.
        target: labels of classes.
        of_reference: (target) -> arrays of the loss of the reference.
        of_port: (target) -> value and gradients of that of the port.
    """
    specs = [case.function_spec("loss", side)["callable"] for side in ("port", "reference")]
    known = range(int(target.max()) + 1)
    numbers = sorted(set().union(*map(whole_numbers, specs)) - set(known), key=abs, reverse=True)
    checks = []
    for label in numbers[:MAX_LABELS]:
        labels = target.copy()
        labels.reshape(-1)[::3] = label
        try:
            expected = of_reference(labels)["value"]
        except ReferenceFailedError:
            continue  # it is no label
        if not np.isfinite(expected).all():
            continue
        name = f"value of the loss, label {label}"
        try:
            value = of_port(labels)[0]
        except UserFunctionError as error:
            text = f"the reference takes this label, the port does not: {str(error)[:200]}"
            checks.append(Check(name, FAIL, detail=text))
            continue
        checks.append(within(name, compare(value.reshape(()), expected.reshape(())), USER_TOLERANCE))
        if checks[-1].status == FAIL:
            checks[-1].hints.append(f"{label} is in the code of one loss: is it the label that is ignored?")
    return checks


def _gradient_checks(paths: list[str], actual: list[np.ndarray], expected: Arrays) -> list[Check]:
    """One check for the gradient of each output that the loss of the reference, or that of the port, depends on.

    Args:
        paths: of the outputs of the reference.
        actual: gradients of the port.
        expected: {gradient0: array, ...} of the reference.
    """
    checks = []
    least = least_scale(expected[f"gradient{index}"] for index in range(len(paths)))
    for index, (path, own) in enumerate(zip(paths, actual, strict=True)):
        other = expected[f"gradient{index}"]
        if len(paths) > 1 and not np.any(own) and not np.any(other):
            continue  # an output that this loss does not use
        name = f"gradient of the loss, {path}" if path else "gradient of the loss"
        checks.append(within(name, compare(own, other, least_scale=least), USER_TOLERANCE))
        if checks[-1].status == INCONCLUSIVE and not np.any(other):
            checks[-1].detail = "zero everywhere in the reference: the loss does not depend on this output"
    nothing = "zero everywhere: the loss does not depend on any output"
    return checks or [Check("gradient of the loss", INCONCLUSIVE, detail=nothing)]


class UserRates(NamedTuple):
    """The learning rates of the user's schedules.

    Attributes:
        port: rate before each step.
        reference: the same.
        length: number of steps that the schedule of the reference states, or 0.
        last: the largest of its settings, which may be a step at which the rate changes.
        hints: settings of the two schedules that have the same name and differ.
    """

    port: list[float]
    reference: list[float]
    length: int
    last: float
    hints: list[str]


def user_rates(session: Session, num: int) -> UserRates:
    """The learning rates of `num` steps."""
    from ..paddle_side import pipeline

    case = session.case
    answer = session.reference.ask(
        "user_rates",
        schedule=case.function_spec("schedule", "reference"),
        optimizer=case.function_spec("optimizer", "reference") if case.optimizer.is_given else None,
        reference=case.reference_spec,
        lr=case.train.lr if case.optimizer.is_given else pipeline.base_rate(case) or case.train.lr,
        num=num,
    )
    rates, settings = answer["rates"], answer["settings"]
    own, own_settings = pipeline.rates_of(case, session.port.build(), len(rates))
    hints = [
        f"{name} of the schedule is {_numbers(own_settings[name])}, in the reference {_numbers(settings[name])}"
        for name in own_settings.keys() & settings.keys()
        if own_settings[name] != settings[name]
    ]
    last = max((value for values in settings.values() for value in values), default=0.0)
    return UserRates(own, rates, answer["length"], last, sorted(hints))


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _user_schedule(session: Session) -> Check:
    """Compare the schedule of the user up to the length that the reference's states, else past its last setting.

    After the end of a cosine the two frameworks go on differently, which no training sees.
    """
    found = user_rates(session, 1)
    num = found.length + 1 if found.length else max(USER_RATE_STEPS, min(int(found.last) + 2, MAX_RATE_STEPS))
    rates = user_rates(session, num)
    both = min(len(rates.port), len(rates.reference))
    if both < min(num, found.length):
        detail = f"{len(rates.port)} steps until it ends, in the reference {len(rates.reference)}"
        return Check("schedule", FAIL, detail=detail, hints=rates.hints)
    check = rate_check("schedule", np.array(rates.port[:both]), np.array(rates.reference[:both]))
    if check.status == FAIL:
        check.hints = [*rates.hints, *check.hints]
    elif rates.hints:
        detail = f"differs, not reached by {both} steps"
        return Check("schedule", FAIL, 0.0, None, detail, hints=rates.hints)
    return check


def rate_check(name: str, actual: np.ndarray, expected: np.ndarray) -> Check:
    """Compare learning rates [N] of steps, relative to the highest."""
    errors = np.abs(actual - expected) / max(float(np.abs(expected).max()), 1e-300)
    is_wrong = errors > RATE_TOLERANCE
    detail = f"{len(expected)} steps, from {expected[0]:.4g} to {expected[-1]:.4g}"
    if is_wrong.any():
        first = int(np.argmax(is_wrong))
        detail += f"; first at step {first}: {actual[first]:.6g}, in the reference {expected[first]:.6g}"
    check = within(name, Difference(float(errors.max())), RATE_TOLERANCE, detail=detail)
    if check.status == FAIL and _is_shifted(actual, expected):
        check.hints.append("the same rates one step early or late")
    return check


def _is_shifted(actual: np.ndarray, expected: np.ndarray) -> bool:
    return np.allclose(actual[1:], expected[:-1]) or np.allclose(actual[:-1], expected[1:])
