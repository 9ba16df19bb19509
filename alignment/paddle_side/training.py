"""Train the port for N steps and record the same sketches as the reference records."""

from collections.abc import Callable

import numpy as np
import paddle

from ..exchange import DropoutMasks, TrainSettings, sketch
from ..rules import Arrays
from .port import Port, default_dtype, set_state
from .recorder import shared_dropout

STATE_KINDS = ("velocity", "moment1", "moment2")  # names in engine/optim.py


def train_port(
    port: Port, weights: Arrays, images: np.ndarray, labels: np.ndarray, settings: TrainSettings
) -> dict[str, np.ndarray]:
    """Train the port; returns the losses [N] and the records that torch_side/training.py describes.

    Args:
        port: the model and its loss and optimizer.
        weights: {name in the port: array} at the start.
        images: [N, B, 3, H, W], one batch per step.
        labels: [N, B].
        settings: how the model is trained; `rules` is not used.
    """
    records: dict[str, list[np.ndarray]] = {}

    def record(kind: str, name: str, array: np.ndarray) -> None:
        records.setdefault(f"{kind}/{name}", []).append(sketch(array, settings.width))

    masks, losses = DropoutMasks(settings.seed), []
    with default_dtype(settings.dtype), shared_dropout(masks):
        model = set_state(port.build(), weights, "the weights of the case", settings.dtype)
        model.train()
        name, rates = settings.optimizer["name"], settings.rates
        optimizer = port.optimizer(name, model, lr=rates[0], **settings.optimizer_settings())
        loss_of = port.loss(settings.loss["smoothing"])
        for step, rate in enumerate(rates):
            masks.start_step(step)
            optimizer.set_lr(rate)
            batch = paddle.to_tensor(images[step].astype(settings.dtype))
            loss = loss_of(model(batch), paddle.to_tensor(labels[step]))
            loss.backward()
            losses.append(loss.item())
            if settings.width:
                _record_gradients(record, model)
            optimizer.step()
            optimizer.clear_grad()
            if settings.width:
                _record_state(record, model, optimizer)
    return {"losses": np.array(losses)} | {key: np.stack(rows) for key, rows in records.items()}


def _record_gradients(record: Callable, model: paddle.nn.Layer) -> None:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            record("gradient", name, parameter.grad.numpy())


def _record_state(record: Callable, model: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer) -> None:
    from engine.optim import optimizer_arrays

    for key, array in optimizer_arrays(optimizer, model).items():
        name, kind = key.rsplit(".", 1)
        if kind in STATE_KINDS:
            record(kind, name, array)
    for name, value in model.state_dict().items():
        record("weight", name, value.numpy())
