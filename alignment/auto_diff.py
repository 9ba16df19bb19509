"""`auto_diff`, for people who come from PaDiff: the same question and options, both models in their own process."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from paddle import nn

from common.errors import CaseError

from .__main__ import print_stage
from .case import Case, Tolerances, Training
from .port import Port
from .reference import Reference
from .session import Session
from .stages import backward, forward, train
from .verdict import PASS, StageResult

PHASES = ("forward", "backward", "both")


def auto_diff(
    port: Callable[[], nn.Layer],
    reference: str,
    images: np.ndarray,
    *,
    auto_init: bool = True,
    single_step: bool = False,
    diff_phase: str = "both",
    loss_fn: Callable | None = None,
    optimizer: Callable | None = None,
    steps: int = 1,
    atol: float = 0.0,
    rtol: float = 1e-7,
    reference_arguments: dict | None = None,
    rename: dict[str, str] | None = None,
    layers: dict[str, str] | None = None,
    print_report: bool = True,
) -> bool:
    """True if the Paddle model and the torch model agree, in float64; prints what does not.

    Args:
        port: makes the Paddle model, a class or `lambda: model`.
        reference: what makes the torch model, `package.module:callable` or `path/file.py:callable`.
        images: what both are fed, [B, ...].
        auto_init: draw weights under which every layer matters; False keeps the port's own, for both.
        single_step: judge every layer by itself, fed the reference's input (and gradient), not the chain.
        diff_phase: forward, backward or both.
        loss_fn: smoothing -> (logits, labels) -> scalar, of the port; None is cross entropy, as on the other side.
        optimizer: (name, model, lr=, weight_decay=, momentum=) -> optimizer of the port; None is Momentum.
        steps: of training; with 1 no optimizer is needed.
        atol, rtol: allowed is rtol times the largest element of the reference's tensor, plus atol.
        rename: names of weights, {theirs: port's}, with `*`; layers: the same for paths of layers.
    """
    if diff_phase not in PHASES:
        raise CaseError(f"diff_phase is one of {', '.join(PHASES)}, got {diff_phase!r}")
    model = port()
    linear = [path for path, layer in model.named_sublayers() if isinstance(layer, nn.Linear)]
    limits = Tolerances(float64=rtol, float32=1e-5, gradient=rtol, step=rtol, absolute=atol)
    case = Case(
        name="auto_diff", folder=Path.cwd(), port="", reference=reference, shape=images.shape, rename=rename or {},
        reference_arguments=reference_arguments or {}, layers=layers or {}, tolerances=limits,
        transpose=tuple(f"{path}.weight" for path in linear),
        train=Training(shape=images.shape, steps=max(steps, 3), curve_side=0),
    )  # fmt: skip
    pieces = {name: piece for name, piece in (("loss", loss_fn), ("optimizer", optimizer)) if piece}
    with Reference() as torch_side:
        weights = None
        if not auto_init:
            own = {name: value.numpy() for name, value in model.state_dict().items()}
            weights = case.rules("torch").from_port(own)
        session = _with_images(Session(case, torch_side, Port(port, **pieces), weights), images)
        results = []
        if diff_phase != "backward":
            results.append(forward.run(session))
        if diff_phase != "forward":
            results.append(backward.run(session))
        if steps > 1 and diff_phase == "both" and not single_step:
            results.append(train.run(session))
    judged = [_single(result) if single_step else result for result in results]
    if print_report:
        for result in judged:
            print_stage(result, print)
    return all(result.status == PASS for result in judged)


def _with_images(session: Session, images: np.ndarray) -> Session:
    """The given images where a case would draw some of the same shape."""
    draw = session.images
    given = images.astype(np.float32)
    session.images = lambda shape, purpose="images": given if tuple(shape) == given.shape else draw(shape, purpose)
    return session


def _single(result: StageResult) -> StageResult:
    return StageResult(result.name, [check for check in result.checks if "alone" in check.name], result.seconds)
