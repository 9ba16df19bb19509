"""Train the reference for N steps and record what each step changes, as sketches that are small enough to send."""

import inspect
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from alignment.adapter import return_nested
from alignment.exchange import DropoutMasks, TrainSettings, sketch
from alignment.layers.optimizer_hints import optimizer_record
from alignment.layers.settings import TORCH
from alignment.pipeline.functions import as_number, call_step
from alignment.rules import Arrays, Rules
from alignment.stages.weight_decay import MAX_WARMUP, PREFIX, decay_record

from . import pipeline
from .draws import shared_dropout, turn_off_inner_dropout
from .float32_constants import share_as_float32
from .units import as_array, shared_names

# Names of optimizer states in torch, and in the records.
STATE_KINDS = {"momentum_buffer": "velocity", "exp_avg": "moment1", "exp_avg_sq": "moment2"}


def sgd(model: nn.Module, lr: float, weight_decay: float, momentum: float) -> torch.optim.Optimizer:
    """SGD with momentum; all parameters decay.

    Args:
        model: its parameters are optimized.
        lr: learning rate.
        weight_decay: added to the gradient, times the weight.
        momentum: share of the last step.
    """
    return torch.optim.SGD(model.parameters(), lr, momentum=momentum, weight_decay=weight_decay)


def adamw(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW; only weights of convolutions and linear layers decay, as in timm and in engine/optim.py."""
    groups = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[parameter.ndim > 1 and not name.endswith(".bias")].append(parameter)
    by_decay = [
        {"params": groups[True], "weight_decay": weight_decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(by_decay, lr, betas=(0.9, 0.999), eps=1e-8)


OPTIMIZERS = {"momentum": sgd, "adamw": adamw}


def cross_entropy(smoothing: float) -> Callable:
    """Cross entropy with label smoothing, a function of (logits [B, C], labels [B])."""

    def loss(logits, labels):
        return nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)

    return loss


def projection(output, labels) -> torch.Tensor:
    """A loss of any output, on which every number of it has another influence; the labels are not used."""
    weights = torch.cos(torch.arange(output.numel(), dtype=output.dtype)).reshape(output.shape)
    return (output * weights).sum()


def squares(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean of the squared distance, for outputs that are not the logits of classes."""
    return ((output - target) ** 2).mean()


class BiasedVariance:
    """The `running_var` of a batch norm as Paddle computes it, without torch's factor n / (n - 1) of the variance.

    Every call in train mode updates it: a training step may call a batch norm several times, once or never, and a
    frozen one is called in evaluation mode.
    """

    def __init__(self, norm: _BatchNorm):
        self.value, self._before = norm.running_var.clone(), norm.running_var.clone()
        is_double = norm.running_var.dtype == torch.float64
        self._share = share_as_float32(norm.momentum) if is_double else norm.momentum
        norm.register_forward_hook(self._update)

    def _update(self, norm: _BatchNorm, args: tuple, output: torch.Tensor) -> None:
        share = self._share
        if not norm.training or not share:
            return
        num_samples = output.numel() // output.shape[1]
        batch = (norm.running_var - (1 - share) * self._before) / share
        self.value = (1 - share) * self.value + share * batch * (num_samples - 1) / num_samples
        self._before = norm.running_var.clone()


class Records:
    """Sketches of tensors by `kind/name`, one for each step.

    The kinds are gradient, velocity, moment1, moment2 and weight (which includes statistics). Names and layouts are
    those of the port.
    """

    def __init__(self, model: nn.Module, settings: TrainSettings):
        self._model, self._settings = model, settings
        self._rows: dict[str, list[np.ndarray]] = {}
        self._rules, self._shared = Rules.of_message(settings.rules), shared_names(model)
        self._variances = {
            f"{path}.running_var": BiasedVariance(module)
            for path, module in model.named_modules()
            if isinstance(module, _BatchNorm) and module.running_var is not None
        }

    def add_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Record the model and the optimizer after a step."""
        found: dict[str, Arrays] = {}
        for name, parameter in () if self._settings.has_weights_alone else self._model.named_parameters():
            if parameter.grad is not None and self._settings.step is None:  # a step of the user clears or clips them
                found.setdefault("gradient", {})[name] = as_array(parameter.grad)
            for kind, value in optimizer.state[parameter].items():
                if kind in STATE_KINDS and value is not None:
                    found.setdefault(STATE_KINDS[kind], {})[name] = value.numpy()
        for name, value in self._model.state_dict().items():
            if value.is_floating_point() and name not in self._shared:
                value = self._variances[name].value if name in self._variances else value
                found.setdefault("weight", {})[name] = value.numpy()
        for kind, arrays in found.items():
            for name, array in self._rules.each_to_port(arrays):
                self._rows.setdefault(f"{kind}/{name}", []).append(sketch(array, self._settings.width))

    def arrays(self) -> dict[str, np.ndarray]:
        """{kind/name: [N, <= width]}."""
        return {key: np.stack(rows) for key, rows in self._rows.items()}


def train(
    model: nn.Module, images: np.ndarray, labels: np.ndarray, loss: Callable, settings: TrainSettings
) -> dict[str, np.ndarray]:
    """Train the model; returns `losses` and `rates`, [N], and, if `settings.width` is not 0, the records of every step.

    Args:
        model: with the weights of the start.
        images: [N, B, 3, H, W], one batch per step.
        labels: [N, B, ...], what the loss is given beside the output.
        loss: (output, labels) -> scalar.
        settings: how the model is trained.
    """
    model.train()
    turn_off_inner_dropout(model)
    optimizer = _optimizer(model, settings)
    schedule = pipeline.make_schedule(settings.schedule, optimizer) if settings.schedule else None
    step = pipeline.load(settings.step) if settings.step else plain_step
    records, masks = Records(model, settings), DropoutMasks(settings.seed)
    losses, rates, dtype = [], [], next(model.parameters()).dtype
    if settings.step:
        nested_loss = return_nested(model, loss)  # from here on the model returns what its own forward does
        loss = getattr(loss, "of_user", nested_loss)
    values = {"model": model, "optimizer": optimizer, "schedule": schedule, "loss": loss}
    with shared_dropout(masks):
        for index in range(len(images)):
            masks.start_step(index)
            for group in optimizer.param_groups if settings.rates else ():
                group["lr"] = settings.rates[index]
            rates.append(optimizer.param_groups[0]["lr"])
            values["inputs"] = torch.from_numpy(images[index]).to(dtype)
            values["target"] = as_target(labels[index], dtype)
            values["index"] = index
            losses.append(as_number(call_step(step, values)))
            if schedule and "schedule" not in inspect.signature(step).parameters:
                pipeline.step_schedule(schedule, index)
            if settings.width:
                records.add_step(optimizer)
    found = {"losses": np.array(losses), "rates": np.array(rates), "optimizer": optimizer_record(optimizer, TORCH)}
    found |= records.arrays()
    del optimizer, values  # the states of a large network take a gigabyte
    return found | _decay(model, settings) if settings.width and not settings.has_weights_alone else found


def _decay(model: nn.Module, settings: TrainSettings) -> dict[str, np.ndarray]:
    """The records of stages/weight_decay.py; none if the optimizer does not take a step without a loss."""
    optimizer = _optimizer(model, settings)
    schedule = pipeline.make_schedule(settings.schedule, optimizer) if settings.schedule else None
    for index in range(MAX_WARMUP if schedule else 0):
        if optimizer.param_groups[0]["lr"]:
            break
        pipeline.step_schedule(schedule, index)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    before = {name: parameter.detach().clone().numpy() for name, parameter in trained.items()}
    for parameter in trained.values():
        parameter.grad = torch.zeros_like(parameter)
    try:
        optimizer.step()
    except Exception:
        return {}
    return {f"{PREFIX}{name}": decay_record(before[name], value.detach().numpy()) for name, value in trained.items()}


def plain_step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable, inputs, target) -> torch.Tensor:
    """One training step, with the arguments that a step of the user may have; the gradients stay until the next."""
    optimizer.zero_grad()
    value = loss(model(inputs), target)
    value.backward()
    optimizer.step()
    return value


def as_target(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """The target of a loss: labels as they are, numbers in the type of the model."""
    tensor = torch.from_numpy(array)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    if settings.optimizer["name"] == "user":
        return pipeline.make_optimizer(settings.optimizer, model, is_rounded=settings.dtype == "float64")
    return OPTIMIZERS[settings.optimizer["name"]](model, settings.rates[0], **settings.optimizer_settings())
