"""Run the functions of the user's pipeline on torch's side: data, loss, optimizer, schedule and metric."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from alignment.adapter import original_of, tensors_of, with_tensors
from alignment.exchange import read_arrays, write_arrays
from alignment.pipeline.functions import (
    call_loss,
    dataset_items,
    loader_batches,
    made,
    metric_values,
    num_positional,
    plateau_loss,
    preprocess_images,
    schedule_settings,
)

from .float32_constants import as_float32, float32_constants
from .references import build, default_dtype, load_callable, read_weights, set_state

# Settings of an optimizer that Paddle keeps as float32 numbers.
ROUNDED = ("momentum", "weight_decay")


def load(spec: dict) -> Callable:
    """The function that a case names, from {"callable": ...} and, where the case is not trusted, "package"."""
    return load_callable(spec["callable"], spec.get("package"))


def preprocessed(function: dict, paths: list[str], seed: int, output: str) -> dict:
    """Write what the function makes of each picture; `pipeline.functions.preprocess_images` has the arguments."""
    return _write(output, preprocess_images(load(function), paths, seed, torch.manual_seed))


def items(function: dict, num: int, seed: int, output: str) -> dict:
    """Write items of a data set; `pipeline.functions.dataset_items` has the arguments."""
    return _write(output, dataset_items(load(function), num, seed, torch.manual_seed))


def batches(function: dict, num: int, seed: int, output: str) -> dict:
    """Write batches of a loader; `pipeline.functions.loader_batches` has the arguments."""
    return _write(output, loader_batches(load(function), num, seed, torch.manual_seed))


def user_loss(function: dict) -> Callable:
    """The loss of the user as a function of (output, target)."""
    loss = made(load(function))

    def call(output: object, target: object) -> object:
        return call_loss(loss, output, target)

    call.of_user = loss
    return call


def outputs(reference: dict, weights: str, inputs: str, output: str) -> dict:
    """Write the tensors that the model returns in evaluation mode and float64 as `output0` and so on; their paths.

    Args:
        reference: the model, see `references.build`.
        weights: file of its weights.
        inputs: file with `images`.
        output: file to write.
    """
    with float32_constants(True):
        found = tensors_of(_returned(reference, inputs, weights), torch.is_tensor)
    write_arrays(Path(output), {f"output{index}": tensor.detach().numpy() for index, (_, tensor) in enumerate(found)})
    return {"paths": [path for path, _ in found]}


def _returned(reference: dict, inputs: str, weights: str | None) -> object:
    """What the model itself returns for the images of a file, in evaluation mode and float64."""
    model = build(reference, "float64", is_drawn=weights is None)
    if weights is not None:
        set_state(model, read_weights(weights))
    with default_dtype("float64"), torch.no_grad():
        return original_of(model.eval()(torch.from_numpy(read_arrays(Path(inputs))["images"]).double()))


def loss_value(function: dict, reference: dict, inputs: str, output: str) -> dict:
    """Write `value` of the loss, and `gradient0` and so on of its outputs.

    Args:
        function: the loss of the user.
        reference: the model, whose outputs show how the tensors are nested.
        inputs: file with `images`, `output0` and so on, and `target`.
        output: file to write.
    """
    arrays = read_arrays(Path(inputs))
    given = [torch.from_numpy(array) for name, array in arrays.items() if name.startswith("output")]
    for tensor in given:
        tensor.requires_grad_(tensor.is_floating_point())
    nested = with_tensors(_returned(reference, inputs, None), torch.is_tensor, [*given])
    value = user_loss(function)(nested, torch.from_numpy(arrays["target"]))
    value.backward()
    gradients = [torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in given]
    named = {f"gradient{index}": gradient.numpy() for index, gradient in enumerate(gradients)}
    return _write(output, {"value": value.detach().numpy()} | named)


def metric(function: dict, reference: dict, inputs: str, num_batches: int, output: str) -> dict:
    """Write the values of the metric.

    Args:
        function: the metric of the user.
        reference: the model, whose outputs show how the tensors are nested.
        inputs: file with `images`, and `output0.0`, `target0` and so on: output0.1 is the second tensor of a batch.
        num_batches: number of batches.
        output: file to write.
    """
    arrays = read_arrays(Path(inputs))
    returned, pairs = _returned(reference, inputs, None), []
    for index in range(num_batches):
        given = [torch.from_numpy(array) for name, array in arrays.items() if name.startswith(f"output{index}.")]
        nested = with_tensors(returned, torch.is_tensor, given)
        pairs.append((nested, torch.from_numpy(arrays[f"target{index}"])))
    return _write(output, metric_values(load(function), pairs))


def make_optimizer(function: dict, model: nn.Module, *, is_rounded: bool = False) -> torch.optim.Optimizer:
    """The optimizer of the user for the model.

    With `is_rounded` the settings that Paddle keeps as float32 are rounded as Paddle does, for a comparison in float64.
    """
    optimizer = load(function)(model)
    for group in optimizer.param_groups if is_rounded else ():
        group |= {key: as_float32(group[key]) for key in ROUNDED if isinstance(group.get(key), float)}
    return optimizer


def make_schedule(function: dict, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedule of the user for the optimizer."""
    schedule = load(function)
    return schedule(optimizer) if num_positional(schedule) else schedule()


def step_schedule(schedule: torch.optim.lr_scheduler.LRScheduler, index: int) -> None:
    """One step of a schedule; ReduceLROnPlateau is given a loss that falls only at every third step."""
    is_plateau = isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau)
    schedule.step(plateau_loss(index)) if is_plateau else schedule.step()


def rates_of(schedule: dict, optimizer: dict | None, reference: dict, lr: float, num: int) -> dict:
    """The learning rate of the first parameter group before each of `num` steps, length and settings of the schedule.

    Args:
        schedule: the function of the user.
        optimizer: the function of the user, or None for SGD.
        reference: the model.
        lr: learning rate of SGD.
        num: number of steps; a schedule that is over before ends the list.
    """
    model = build(reference)
    made_for = torch.optim.SGD(model.parameters(), lr) if optimizer is None else make_optimizer(optimizer, model)
    rule = make_schedule(schedule, made_for)
    rates = []
    for index in range(num):
        rates.append(made_for.param_groups[0]["lr"])
        made_for.step()
        try:
            step_schedule(rule, index)
        except ValueError:  # OneCycleLR, after its last step
            break
    length = next((getattr(rule, name) for name in ("T_max", "total_steps") if hasattr(rule, name)), 0)
    return {"rates": rates, "length": int(length or 0), "settings": schedule_settings(rule)}


def _write(output: str, arrays: dict[str, np.ndarray]) -> dict:
    write_arrays(Path(output), arrays)
    return {"num_arrays": len(arrays)}


OPERATIONS = {
    "user_outputs": outputs,
    "user_images": preprocessed,
    "user_items": items,
    "user_batches": batches,
    "user_loss": loss_value,
    "user_metric": metric,
    "user_rates": rates_of,
}
