"""Stage 5: cross entropy with hard, smoothed and soft labels, and the learning rate of every step of whole runs."""

import numpy as np
import paddle

from ..compare import Difference, compare
from ..port import Port
from ..session import Session
from ..verdict import Check, StageResult, within

SMOOTHINGS = (0.0, 0.1)
TOLERANCE = 1e-12  # in float64, relative
# A cosine reaches zero, where a relative error means nothing: learning rates are compared relative to the highest.
RATE_TOLERANCE = 1e-12
EPOCHS, STEPS_PER_EPOCH = 90, 20


def run(session: Session) -> StageResult:
    checks = [*_losses(session), _cosine(session), _warmup(session), _steps(session)]
    return StageResult("loss", checks)


def _losses(session: Session) -> list[Check]:
    rng = np.random.default_rng(session.case.seed)
    logits = rng.normal(0, 3, (16, session.num_classes))
    labels = rng.integers(0, session.num_classes, 16)
    soft = rng.dirichlet(np.full(session.num_classes, 0.1), 16)
    inputs = session.reference.put({"logits": logits, "labels": labels, "soft_labels": soft})
    _, theirs = session.reference.ask_arrays("losses", inputs=inputs, smoothings=list(SMOOTHINGS))
    checks = []
    for name, targets, smoothing in [*((f"smoothing {s}", labels, s) for s in SMOOTHINGS), ("soft labels", soft, 0.0)]:
        value, gradient = _value_and_gradient(session.port, logits, targets, smoothing)
        errors = [compare(value, theirs[f"{name}/value"]), compare(gradient, theirs[f"{name}/gradient"])]
        worst = max(errors, key=lambda difference: difference.relative)
        ratio = float(value / theirs[f"{name}/value"])
        checks.append(within(f"cross entropy, {name}", worst, TOLERANCE, detail="value and gradient of the logits"))
        if worst.relative > TOLERANCE:
            checks[-1].hints.append(f"the value is {ratio:.6g} times the reference's: reduction, smoothing or scale?")
    return checks


def _value_and_gradient(port: Port, logits: np.ndarray, targets: np.ndarray, smoothing: float):
    tensor = paddle.to_tensor(logits, stop_gradient=False)
    loss = port.loss(smoothing)(tensor, paddle.to_tensor(targets))
    loss.backward()
    return loss.numpy(), tensor.grad.numpy()


def _rates(session: Session, rule, schedule: str, lr: float, options: dict, name: str) -> Check:
    theirs = np.array(
        session.reference.ask(
            "rates", schedule=schedule, lr=lr, epochs=EPOCHS, steps_per_epoch=STEPS_PER_EPOCH, options=options
        )["rates"]
    )
    ours = np.array([rule(epoch, step, STEPS_PER_EPOCH) for epoch in range(EPOCHS) for step in range(STEPS_PER_EPOCH)])
    apart = np.abs(ours - theirs) / theirs.max()
    check = within(name, Difference(float(apart.max())), RATE_TOLERANCE, detail=f"{len(ours)} steps")
    if apart.max() > RATE_TOLERANCE:
        check.detail += f"; first at step {int(np.argmax(apart > RATE_TOLERANCE))}"
        if np.allclose(ours[1:], theirs[:-1]) or np.allclose(ours[:-1], theirs[1:]):
            check.hints.append("the same rates one step early or late")
    return check


def _cosine(session: Session) -> Check:
    rule = session.port.rate(0.25, EPOCHS)
    return _rates(session, rule, "cosine", 0.25, {}, "schedule, cosine by step")


def _warmup(session: Session) -> Check:
    from configs.schema import ScheduleConfig
    from engine.schedule import warmup_cosine

    options = {"warmup_epochs": 5, "warmup_lr": 1e-6, "min_lr": 1e-5}
    rule = warmup_cosine(0.25, ScheduleConfig(epochs=EPOCHS, **options))
    return _rates(session, rule, "cosine", 0.25, options, "schedule, warm-up and cosine")


def _steps(session: Session) -> Check:
    from configs.schema import ScheduleConfig
    from engine.schedule import step_decay

    rule = step_decay(0.1, ScheduleConfig(decay_epochs=30, decay_rate=0.1, warmup_epochs=0))
    return _rates(session, rule, "step", 0.1, {"step_size": 30, "gamma": 0.1}, "schedule, steps")
