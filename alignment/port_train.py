"""Train the port for N steps and record what the reference records, in the same sketches."""

import numpy as np
import paddle

from .exchange import DropoutMasks, sketch
from .port import Port, default_dtype, set_state
from .port_trace import shared_dropout
from .rules import Arrays

STATE_NAMES = {"velocity": "velocity", "moment1": "moment1", "moment2": "moment2"}


def train_port(
    port: Port, weights: Arrays, images: np.ndarray, labels: np.ndarray, rates: list[float], settings: dict,
    smoothing: float, dtype: str, seed: int, width: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """`images` [N, B, ...]; keys and shapes as in torch_side/training.py, names of the port."""
    records: dict[str, list[np.ndarray]] = {}

    def record(kind: str, name: str, array: np.ndarray) -> None:
        records.setdefault(f"{kind}/{name}", []).append(sketch(array, width))

    masks, losses = DropoutMasks(seed), []
    with default_dtype(dtype), shared_dropout(masks):
        model = set_state(port.build(), weights, "the weights of the case", dtype)
        model.train()
        optimizer = port.optimizer(settings["name"], model, lr=rates[0], **_plain(settings))
        loss_of = port.loss(smoothing)
        for step, rate in enumerate(rates):
            masks.start_step(step)
            optimizer.set_lr(rate)
            loss = loss_of(model(paddle.to_tensor(images[step].astype(dtype))), paddle.to_tensor(labels[step]))
            loss.backward()
            losses.append(loss.item())
            if width:
                for name, parameter in model.named_parameters():
                    if parameter.grad is not None:
                        record("gradient", name, parameter.grad.numpy())
            optimizer.step()
            optimizer.clear_grad()
            if width:
                _record_state(record, model, optimizer)
    return {"losses": np.array(losses)} | {key: np.stack(rows) for key, rows in records.items()}


def _plain(settings: dict) -> dict:
    return {key: value for key, value in settings.items() if key != "name"}


def _record_state(record, model: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer) -> None:
    from engine.optim import optimizer_arrays

    for key, array in optimizer_arrays(optimizer, model).items():
        name, kind = key.rsplit(".", 1)
        if kind in STATE_NAMES:
            record(STATE_NAMES[kind], name, array)
    for name, value in model.state_dict().items():
        record("weight", name, value.numpy())
