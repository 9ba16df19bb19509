"""`auto_diff`, `assign_weight` and `check_dataloader` as in PaDiff; the torch model is in a process of its own."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from paddle import nn

from common.errors import CaseError, ProjectError
from common.printable import print_safely

from ..case import Tolerances
from ..paddle_side.port import set_state
from ..pipeline.functions import flatten
from ..pipeline.judge import nested_check
from ..reference import Reference
from ..report.text import problem_lines, stage_lines
from ..verdict import PASS, StageResult, Verdict
from .comparison import Choice, Comparison
from .given import Batch, Side, batches_of, pairs_of_loaders
from .sides import Sides, pair_of

PHASES = ("forward", "backward", "both")
FLOAT32_TOLERANCE = 1e-5


def auto_diff(
    port: Callable[[], nn.Layer] | nn.Layer,
    reference: str | Callable | nn.Layer,
    inputs: object,
    *,
    auto_init: bool = True,
    single_step: bool = False,
    diff_phase: str = "both",
    loss_fn: tuple | None = None,
    labels: object = None,
    optimizer: tuple | None = None,
    step: tuple | None = None,
    steps: int | None = None,
    atol: float = 0.0,
    rtol: float = 1e-7,
    reference_arguments: dict | None = None,
    weights: str | Path | None = None,
    rename: dict[str, str] | None = None,
    layers: dict[str, str] | None = None,
    layer_map: dict[str, str] | None = None,
    white_list: Iterable | None = None,
    black_list: Iterable = (),
    print_report: bool = True,
    process: Reference | None = None,
) -> bool:
    """Compare a Paddle model with a torch model in float64; returns True if they agree, and prints the checks.

    An error passes if it is at most `rtol` times the largest element of the reference's array, plus `atol`. Functions
    and models of torch are given by name, `path/file.py:name` or `package.module:name`, or as a function or class that
    stands at the top level of a file; they run in a process of their own.

    Args:
        port: the Paddle model, or a class or function that makes it.
        reference: makes the torch model; or a second Paddle model, which then is the reference.
        inputs: an array, or a table {argument of forward: array}; a pair of these, (port, reference); or an iterable
            of such inputs, for example `zip(loader, other_loader)` of tables: then each batch is compared, or with an
            optimizer each is one training step. Tensors of both frameworks are taken.
        auto_init: draw random weights under which every layer matters; False keeps the weights that each model has.
        single_step: judge each layer alone, on the input (and output gradient) of the reference's layer, and the code
            between the layers on the outputs of the reference's layers.
        diff_phase: forward, backward or both.
        loss_fn: (loss of the port, loss of the reference), functions of (output) or of (output, labels); None is a
            weighted sum of all outputs.
        labels: second argument of the losses: an array, a pair, a list for several batches, or the name of an entry of
            the tables of inputs, which then is not given to the models.
        optimizer: (port, reference), functions of the model that make the optimizers; None is SGD with momentum.
        step: (port, reference), functions that make one training step, with the signature of the key `step` of a case;
            for accumulation and clipping.
        steps: number of training steps on one input, or largest number of batches.
        atol: absolute error that passes.
        rtol: relative error that passes.
        reference_arguments: keyword arguments of the torch model.
        weights: file of weights for both models.
        rename: {name of a weight in the reference: name in the port}, with `*`. Not needed where names or order agree.
        layers: {path of a layer in the reference: path in the port}, with `*`.
        layer_map: {layer of the reference: layer of the port}: both of the above for a whole layer.
        white_list: paths or classes of layers of the port; the others are not compared.
        black_list: paths or classes of layers of the port that are not compared; the white list goes before it.
        print_report: print the checks.
        process: `alignment.reference.Reference()` that several calls share, so that PyTorch is started once.

    Raises:
        CaseError: an argument has none of these forms.
        WeightsError: the weights of one model do not fit the other.
        ReferenceFailedError: the torch model cannot be built or raises an exception.
        MissingDependencyError: PyTorch is missing.
    """
    if diff_phase not in PHASES:
        raise CaseError(f"diff_phase is one of {', '.join(PHASES)}, got {diff_phase!r}")
    batches = batches_of(inputs, labels, steps)
    losses, optimizers = pair_of("loss_fn", loss_fn), pair_of("optimizer", optimizer)
    sides = Sides(port, reference, losses=losses, optimizers=optimizers, steps=pair_of("step", step))
    tolerances = Tolerances(float64=rtol, float32=FLOAT32_TOLERANCE, gradient=rtol, step=rtol, absolute=atol)
    case = sides.case(
        batches[0],
        reference_arguments=reference_arguments or {},
        rename=_with_layer_map(rename, layer_map, "{}.*"),
        layers=_with_layer_map(_with_layer_map(layers, layer_map, "{}.*"), layer_map, "{}"),
        tolerances=tolerances,
    )
    choice = Choice(None if white_list is None else _names(white_list), _names(black_list))
    with sides.process(process) as running:
        session = sides.session(case, running, batches[0], auto_init=auto_init, weights=weights)
        comparison = Comparison(session, sides.loss_spec(), choice)
        results = [] if auto_init or weights else [StageResult("weights", [session.weights_check()])]
        is_training = (steps or 1) > 1 or (optimizers is not None)
        for batch in batches[:1] if is_training else batches:
            if diff_phase != "backward":
                results.append(
                    comparison.single_step(batch, is_backward=False)
                    if single_step
                    else comparison.forward(batch, has_loss=losses is not None)
                )
            if diff_phase != "forward":
                results.append(
                    comparison.single_step(batch, is_backward=True) if single_step else comparison.backward(batch)
                )
            if any(result.status != PASS for result in results):
                break
        if is_training and diff_phase == "both" and not single_step:
            given = batches * (steps or 1) if len(batches) == 1 else batches
            results.append(comparison.train(given, sides.train_settings(session, len(given))))
    if print_report:
        _print(results)
    return all(result.status == PASS for result in results)


def assign_weight(
    port: nn.Layer,
    reference: str | Callable | nn.Layer,
    inputs: object = None,
    *,
    weights: str | Path | None = None,
    layer_map: dict[str, str] | None = None,
    rename: dict[str, str] | None = None,
    reference_arguments: dict | None = None,
    process: Reference | None = None,
) -> bool:
    """Give a Paddle model the weights and buffers of the reference; returns False, and says why, if they do not fit.

    Args:
        port: changed in place.
        reference: as in `auto_diff`; a new model has the weights of its constructor, with the seed 0.
        inputs: as in `auto_diff`; needed if the names of the weights differ, to pair them by order of execution.
        weights: file of the reference's weights.
        layer_map: {layer of the reference: layer of the port}.
        rename: {name of a weight in the reference: name in the port}, with `*`.
        reference_arguments: keyword arguments of the torch model.
        process: as in `auto_diff`.

    Raises:
        CaseError: the port is no Paddle model.
    """
    if not isinstance(port, nn.Layer):
        raise CaseError(f"assign_weight changes a Paddle model, got {type(port).__name__}: give the port first")
    batch = batches_of(inputs)[0] if inputs is not None else Batch(*[Side({"": np.zeros((1, 1), np.float32)})] * 2)
    sides = Sides(port, reference)
    case = sides.case(
        batch, reference_arguments=reference_arguments or {}, rename=_with_layer_map(rename, layer_map, "{}.*")
    )
    if inputs is None and case.transpose is None:  # no forward can pair the weights: the names must say it
        linear = [path for path, layer in port.named_sublayers() if isinstance(layer, nn.Linear)]
        case = replace(case, transpose=tuple(f"{path}.weight" for path in linear))
    try:
        with sides.process(process) as running:
            session = sides.session(case, running, batch, auto_init=False, weights=weights)
            arrays = session.converted(session.reference_weights)
        set_state(port, arrays, "the weights of the reference")
    except ProjectError as error:
        print_safely(f"assign_weight: failed: {error}")
        return False
    return True


def check_dataloader(port: Iterable, reference: Iterable, *, atol: float = 0.0, rtol: float = 1e-7) -> bool:
    """Compare two data loaders batch by batch; returns True if they agree, and prints the first difference.

    Args:
        port: yields tensors, arrays, or tables and lists of these.
        reference: the same; tensors of torch are taken. Tables with other keys are paired in order.
        atol: absolute error that passes.
        rtol: relative error that passes.
    """
    num = 0
    for first, second in pairs_of_loaders(port, reference):
        if first is None or second is None:
            print_safely(f"check_dataloader: the {'port' if first is None else 'reference'} ends after {num} batches")
            return False
        actual, expected = flatten(first), flatten(second)
        largest = max(
            (float(np.abs(a).max()) for a in expected.values() if a.dtype.kind == "f" and a.size), default=1.0
        )
        check = nested_check(f"batch {num}", actual, expected, rtol + atol / max(largest, 1e-300))
        if check.status != PASS:
            _print([StageResult("loader", [check])])
            return False
        num += 1
    if num:
        print_safely(f"check_dataloader: {num} batches agree")
    return num > 0


def _names(layers: Iterable) -> tuple[str, ...]:
    """Patterns of paths and names of classes."""
    return tuple(layer.__name__ if inspect.isclass(layer) else str(layer) for layer in layers)


def _with_layer_map(table: dict[str, str] | None, layer_map: dict[str, str] | None, form: str) -> dict[str, str]:
    return {form.format(a): form.format(b) for a, b in (layer_map or {}).items()} | (table or {})


def _print(results: list[StageResult]) -> None:
    """The stages, the problems with their hints, and SUCCESS or FAILED with the worst problem."""
    verdict = Verdict("auto_diff", results)
    for line in [*(line for result in results for line in stage_lines(result)), *problem_lines(verdict)]:
        print_safely(line)
    problem = verdict.first_problem()
    place = f": {problem.name}, {problem.detail}" if problem else ""
    print_safely(f"auto_diff: {'FAILED' if problem else 'SUCCESS'}{place}")
