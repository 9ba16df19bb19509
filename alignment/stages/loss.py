"""Stage 5: compare cross entropy with hard, smoothed and soft labels, and the learning rates of three whole runs."""

from collections.abc import Callable

import numpy as np
import paddle

from ..compare import Difference, compare
from ..paddle_side.port import Port
from ..session import Session
from ..verdict import Check, StageResult, within

SMOOTHINGS = (0.0, 0.1)
TOLERANCE = 1e-12  # in float64, relative
# Relative to the highest rate: a cosine reaches zero, where an error relative to the rate itself means nothing.
RATE_TOLERANCE = 1e-12
EPOCHS, STEPS_PER_EPOCH = 90, 20


def run(session: Session) -> StageResult:
    """Compare value and gradient of the loss, and three schedules."""
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
    errors = np.abs(actual - expected) / expected.max()
    check = within(name, Difference(float(errors.max())), RATE_TOLERANCE, detail=f"{len(actual)} steps")
    if errors.max() > RATE_TOLERANCE:
        check.detail += f"; first at step {int(np.argmax(errors > RATE_TOLERANCE))}"
        if np.allclose(actual[1:], expected[:-1]) or np.allclose(actual[:-1], expected[1:]):
            check.hints.append("the same rates one step early or late")
    return check
