"""Train the port for N steps and record the same sketches as the reference records."""

import inspect
from collections.abc import Callable

import numpy as np
import paddle
from paddle import nn

from ..exchange import DropoutMasks, TrainSettings, sketch
from ..pipeline.functions import as_number, call_step
from ..rules import Arrays
from .draws import shared_dropout, turn_off_inner_dropout
from .pipeline import schedule_of, step_schedule
from .port import Port, default_dtype, loss_of_port, set_state

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
    paddle.seed(0)
    masks, losses, rates = DropoutMasks(settings.seed), [], []
    with default_dtype(settings.dtype), shared_dropout(masks):
        model = set_state(port.build(), weights, "the weights of the case", settings.dtype)
        model.train()
        turn_off_inner_dropout(model)
        schedule = port.schedule()
        optimizer = _optimizer(port, model, schedule, settings)
        schedule = schedule or schedule_of(optimizer)
        step = port.step or plain_step
        values = {
            "model": model,
            "optimizer": optimizer,
            "schedule": schedule,
            "loss": loss_of_port(port, settings.loss),
        }
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

    for name, parameter in model.named_parameters():
        if parameter.grad is not None and settings.step is None:  # a step of the user clears or clips them
            add("gradient", name, parameter.grad.numpy())
    for key, array in optimizer_arrays(optimizer, model).items():
        name, kind = key.rsplit(".", 1)
        if kind in STATE_KINDS:
            add(kind, name, array)
    for name, value in model.state_dict().items():
        add("weight", name, value.numpy())
