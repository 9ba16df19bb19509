"""Train the reference for N steps and record what changed at each, small enough to send."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from alignment.exchange import DropoutMasks, sketch

from .float32_constants import share_as_float32
from .recorder import shared_dropout

STATE_NAMES = {"momentum_buffer": "velocity", "exp_avg": "moment1", "exp_avg_sq": "moment2"}


def sgd(model, lr, weight_decay, momentum, **_):
    return torch.optim.SGD(model.parameters(), lr, momentum=momentum, weight_decay=weight_decay)


def adamw(model, lr, weight_decay, betas=(0.9, 0.999), epsilon=1e-8, **_):
    """Decay on convolution and linear weights alone, as timm and our engine do."""
    groups = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[parameter.ndim > 1 and not name.endswith(".bias")].append(parameter)
    decayed = [
        {"params": groups[True], "weight_decay": weight_decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(decayed, lr, betas=tuple(betas), eps=epsilon)


OPTIMIZERS = {"momentum": sgd, "adamw": adamw}


def cross_entropy(smoothing: float) -> Callable:
    def loss(logits, labels):
        return nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)

    return loss


class BiasedVariance:
    """What `running_var` would be if torch, like Paddle, did not multiply the batch's variance by n / (n - 1)."""

    def __init__(self, norm: nn.BatchNorm2d):
        self.norm, self.value, self.before = norm, norm.running_var.clone(), norm.running_var.clone()
        norm.register_forward_pre_hook(self._count)
        self.num_samples = 0
        is_double = norm.running_var.dtype == torch.float64
        self.share = share_as_float32(norm.momentum) if is_double else norm.momentum

    def _count(self, norm, args):
        self.num_samples = args[0].numel() // args[0].shape[1]

    def update(self) -> None:
        share = self.share
        batch = (self.norm.running_var - (1 - share) * self.before) / share
        self.value = (1 - share) * self.value + share * batch * (self.num_samples - 1) / self.num_samples
        self.before = self.norm.running_var.clone()


def train(
    model: nn.Module, images: np.ndarray, labels: np.ndarray, rates: list[float], optimizer: dict, loss: Callable,
    masks: DropoutMasks, axes: dict[str, list[int]], width: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """`images` [N, B, ...]; returns losses [N] and, when width > 0, sketches [N, <= width] of all that a step changes.

    Keys: gradient/NAME, weight/NAME, STATE/NAME (velocity, moment1, moment2). `axes` transposes into the port's layout.
    """
    model.train()
    rule = OPTIMIZERS[optimizer["name"]](model, rates[0], **{k: v for k, v in optimizer.items() if k != "name"})
    variances = {f"{path}.running_var": BiasedVariance(module) for path, module in model.named_modules()
                 if isinstance(module, nn.BatchNorm2d)}  # fmt: skip
    records: dict[str, list[np.ndarray]] = {}

    def record(kind: str, name: str, tensor: torch.Tensor) -> None:
        array = tensor.detach().numpy()
        array = array.transpose(axes[name]) if name in axes else array
        records.setdefault(f"{kind}/{name}", []).append(sketch(array, width))

    losses, dtype = [], next(model.parameters()).dtype
    with shared_dropout(masks):
        for step, rate in enumerate(rates):
            masks.start_step(step)
            for group in rule.param_groups:
                group["lr"] = rate
            rule.zero_grad()
            value = loss(model(torch.from_numpy(images[step]).to(dtype)), torch.from_numpy(labels[step]))
            value.backward()
            losses.append(value.item())
            rule.step()
            if not width:
                continue
            for variance in variances.values():
                variance.update()
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    record("gradient", name, parameter.grad)
                for kind, value in rule.state[parameter].items():
                    if kind in STATE_NAMES and value is not None:
                        record(STATE_NAMES[kind], name, value)
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    record("weight", name, variances[name].value if name in variances else value)
    return {"losses": np.array(losses)} | {key: np.stack(rows) for key, rows in records.items()}
