"""`auto_diff` as in PaDiff: compares a Paddle model with a torch model, each in a process of its own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from paddle import nn

from common.errors import CaseError
from common.printable import print_safely

from ..case import Case, Tolerances, Training
from ..paddle_side.port import Port, state_arrays
from ..reference import Reference
from ..report.text import stage_lines
from ..session import Session
from ..stages import backward, forward, train
from ..verdict import PASS, StageResult

PHASES = ("forward", "backward", "both")
FLOAT32_TOLERANCE = 1e-5
LEAST_STEPS = 3  # the hints of the stage train need three steps


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
    """Compare a Paddle model with a torch model in float64; returns True if they agree, and prints the checks.

    An error passes if it is at most `rtol` times the largest element of the reference's array, plus `atol`.

    Args:
        port: makes the Paddle model: a class, or `lambda: model`.
        reference: makes the torch model: `package.module:callable` or `path/file.py:callable`.
        images: input of both models, [B, ...].
        auto_init: draw random weights under which every layer matters; False gives both models those of the port.
        single_step: judge each layer alone, on the input (and output gradient) of the reference's layer.
        diff_phase: forward, backward or both.
        loss_fn: smoothing -> (logits, labels) -> scalar, of the port; None is cross entropy, the loss of the reference.
        optimizer: (name, model, lr=, weight_decay=, momentum=) -> optimizer of the port; None is Momentum.
        steps: number of training steps; with 1 nothing is trained.
        atol: absolute error that passes.
        rtol: relative error that passes.
        reference_arguments: keyword arguments of the torch model.
        rename: {name of a weight in the reference: name in the port}, with `*`.
        layers: {path of a layer in the reference: path in the port}, with `*`.
        print_report: print the checks.

    Raises:
        CaseError: `diff_phase` is none of the three.
        WeightsError: the weights of one model do not fit the other.
        ReferenceFailedError: the torch model cannot be built or raises an exception.
        MissingDependencyError: PyTorch is missing.
    """
    if diff_phase not in PHASES:
        raise CaseError(f"diff_phase is one of {', '.join(PHASES)}, got {diff_phase!r}")
    model = port()
    linear_layers = [path for path, layer in model.named_sublayers() if isinstance(layer, nn.Linear)]
    tolerances = Tolerances(float64=rtol, float32=FLOAT32_TOLERANCE, gradient=rtol, step=rtol, absolute=atol)
    case = Case(
        name="auto_diff", folder=Path.cwd(), port="", reference=reference, shape=images.shape, rename=rename or {},
        reference_arguments=reference_arguments or {}, layers=layers or {}, tolerances=tolerances,
        transpose=tuple(f"{path}.weight" for path in linear_layers),
        train=Training(shape=images.shape, steps=max(steps, LEAST_STEPS), curve_side=0),
    )  # fmt: skip
    parts = {name: part for name, part in (("loss", loss_fn), ("optimizer", optimizer)) if part}
    with Reference() as torch_side:
        weights = None if auto_init else case.rules("torch").from_port(state_arrays(model))
        session = _FixedImages(images, case, torch_side, Port(port, **parts), weights)
        results = []
        if diff_phase != "backward":
            results.append(forward.run(session))
        if diff_phase != "forward":
            results.append(backward.run(session))
        if steps > 1 and diff_phase == "both" and not single_step:
            results.append(train.run(session))
    if single_step:
        results = [_alone(result) for result in results]
    if print_report:
        for line in [line for result in results for line in stage_lines(result)]:
            print_safely(line)
    return all(result.status == PASS for result in results)


class _FixedImages(Session):
    """A session with given images, where a case would draw random ones of the same shape."""

    def __init__(self, fixed_images: np.ndarray, *arguments):
        super().__init__(*arguments)
        self._fixed_images = fixed_images.astype(np.float32)

    def images(self, shape: tuple[int, ...], purpose: str = "images") -> np.ndarray:
        """The given images if they have this shape, else random ones."""
        if tuple(shape) == self._fixed_images.shape:
            return self._fixed_images
        return super().images(shape, purpose)


def _alone(result: StageResult) -> StageResult:
    """The checks of layers alone."""
    return StageResult(result.name, [check for check in result.checks if "alone" in check.name], result.seconds)
