"""Train the port for N steps and record the same sketches as the reference records."""

import inspect
from collections.abc import Callable

import numpy as np
import paddle
from paddle import nn

from ..adapter import return_nested
from ..exchange import DropoutMasks, TrainSettings, sketch
from ..layers.optimizer_hints import optimizer_record
from ..layers.settings import PADDLE
from ..memory import free_recorded_models
from ..pipeline.functions import as_number, call_step
from ..rules import Arrays
from ..stages.weight_decay import MAX_WARMUP, PREFIX, decay_record
from .draws import shared_dropout, turn_off_inner_dropout
from .pipeline import schedule_of, step_schedule
from .port import Port, build_with, default_dtype, loss_of_port
from .recorder import gradient_array

STATE_KINDS = ("velocity", "moment1", "moment2")  # names in engine/optim.py


def train_port(
    port: Port, weights: Arrays, images: np.ndarray, labels: np.ndarray, settings: TrainSettings
) -> dict[str, np.ndarray]:
    """Train the port; returns `losses` and `rates`, [N], and the records that torch_side/training.py describes.

    Args:
        port: the model and its loss, optimizer, schedule and training step.
        weights: {name in the port: array} at the start.
        images: [N, B, 3, H, W], one batch per step.
        labels: [N, B, ...], what the loss is given beside the output.
        settings: how the model is trained; `rules` is not used.
    """
    records: dict[str, list[np.ndarray]] = {}
    free_recorded_models()
    paddle.seed(0)
    masks, losses, rates = DropoutMasks(settings.seed), [], []
    with default_dtype(settings.dtype), shared_dropout(masks):
        model = build_with(port, weights, "the weights of the case", settings.dtype)
        model.train()
        turn_off_inner_dropout(model)
        schedule = port.schedule()
        optimizer = _optimizer(port, model, schedule, settings)
        schedule = schedule or schedule_of(optimizer)
        step = port.step or plain_step
        loss = loss_of_port(port, settings.loss)
        if port.step:
            nested_loss = return_nested(model, loss)  # from here on the model returns what its own forward does
            loss = getattr(loss, "of_user", nested_loss)
        values = {"model": model, "optimizer": optimizer, "schedule": schedule, "loss": loss}
        for index in range(len(images)):
            masks.start_step(index)
            if settings.rates:
                optimizer.set_lr(settings.rates[index])
            rates.append(optimizer.get_lr())
            values["inputs"] = paddle.to_tensor(images[index].astype(settings.dtype))
            values["target"] = as_target(labels[index], settings.dtype)
            values["index"] = index
            losses.append(as_number(call_step(step, values)))
            if schedule and "schedule" not in inspect.signature(step).parameters:
                step_schedule(schedule, index)
            if settings.width:
                _record(records, model, optimizer, settings)
        found = {"losses": np.array(losses), "rates": np.array(rates)}
        found["optimizer"] = optimizer_record(optimizer, PADDLE)
        del optimizer, values  # the states of a large network take a gigabyte
        if settings.width and not settings.has_weights_alone:
            found |= _decay(port, model, settings)
    return found | {key: np.stack(rows) for key, rows in records.items()}


def plain_step(model: nn.Layer, optimizer: paddle.optimizer.Optimizer, loss: Callable, inputs, target) -> paddle.Tensor:
    """One training step, with the arguments that a step of the user may have; the gradients stay until the next."""
    optimizer.clear_grad()
    value = loss(model(inputs), target)
    value.backward()
    optimizer.step()
    return value


def as_target(array: np.ndarray, dtype: str) -> paddle.Tensor:
    """The target of a loss: labels as they are, numbers in the type of the model."""
    return paddle.to_tensor(array.astype(dtype) if array.dtype.kind == "f" else array)


def _optimizer(port: Port, model: nn.Layer, schedule, settings: TrainSettings) -> paddle.optimizer.Optimizer:
    if port.user_optimizer:
        return port.user_optimizer(model, schedule)
    name = settings.optimizer["name"]
    return port.optimizer(name, model, lr=settings.rates[0], **settings.optimizer_settings())


def _decay(port: Port, model: nn.Layer, settings: TrainSettings) -> dict[str, np.ndarray]:
    """The records of stages/weight_decay.py; none if the optimizer does not take a step without a loss.

    torch_side/training.py has the same for the reference: the two share the record and no code that calls a framework,
    because a call of the wrong framework that is hidden behind a common name would compare a model with itself.
    """
    schedule = port.schedule()
    optimizer = _optimizer(port, model, schedule, settings)
    schedule = schedule or schedule_of(optimizer)
    for index in range(MAX_WARMUP if schedule else 0):
        if optimizer.get_lr():
            break
        step_schedule(schedule, index)
    trained = {name: parameter for name, parameter in model.named_parameters() if not parameter.stop_gradient}
    before = {name: parameter.numpy() for name, parameter in trained.items()}
    model.clear_gradients(set_to_zero=False)
    for parameter in trained.values():
        (parameter * 0).sum().backward()  # zeros cannot be set where an embedding had the gradient of some rows
    try:
        optimizer.step()
    except Exception:
        return {}
    return {f"{PREFIX}{name}": decay_record(before[name], parameter.numpy()) for name, parameter in trained.items()}


def _record(
    records: dict[str, list[np.ndarray]],
    model: nn.Layer,
    optimizer: paddle.optimizer.Optimizer,
    settings: TrainSettings,
) -> None:
    """Add the sketches of gradients, optimizer states, weights and statistics after a step."""
    from engine.optim import optimizer_arrays

    def add(kind: str, name: str, array: np.ndarray) -> None:
        records.setdefault(f"{kind}/{name}", []).append(sketch(array, settings.width))

    for name, parameter in () if settings.has_weights_alone else model.named_parameters():
        if parameter.grad is not None and settings.step is None:  # a step of the user clears or clips them
            add("gradient", name, gradient_array(parameter.grad))
    states = {} if settings.has_weights_alone else optimizer_arrays(optimizer, model)
    for key in list(states):
        name, kind = key.rsplit(".", 1)
        array = states.pop(key)
        if kind in STATE_KINDS:
            add(kind, name, array)
    for name, value in model.state_dict().items():
        add("weight", name, value.numpy())
