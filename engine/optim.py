"""Optimizers by name, with the formulas of torch, and their state under the structured names of the model."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import paddle
from paddle import nn
from paddle.optimizer import SGD, AdamW, Momentum, Optimizer
from paddle.regularizer import L2Decay

from common.errors import CheckpointError
from configs.schema import OptimConfig

from .layer_groups import lr_multipliers, set_lr_multipliers


class RMSProp(Optimizer):
    """RMSProp of torch: epsilon is added after the square root, not inside it as in paddle.optimizer.RMSProp.

    square = alpha * square + (1 - alpha) * g^2; buffer = momentum * buffer + g / (sqrt(square) + eps); w -= lr * buffer
    The two forms differ much where squares are small: weights by 0.2 after 20 steps with the default epsilon.

    Args:
        parameters: trainable parameters.
        lr: learning rate of the first step.
        alpha: share of the old squares that stays at each step.
        eps: added to the square root.
        momentum: share of the old buffer that stays at each step.
        weight_decay: added to the gradient (L2).
        grad_clip: clips the norm of the whole gradient; None clips nothing.
    """

    def __init__(self, parameters, lr, *, alpha, eps, momentum, weight_decay, grad_clip=None):
        super().__init__(lr, parameters, weight_decay or None, grad_clip)
        self._alpha, self._eps, self._momentum = alpha, eps, momentum

    def _create_accumulators(self, block, parameters):
        for parameter in parameters:
            self._add_accumulator("square_average", parameter)
            self._add_accumulator("momentum_buffer", parameter)

    @paddle.no_grad()
    def _append_optimize_op(self, block, param_and_grad):
        parameter, gradient = param_and_grad
        square = self._get_accumulator("square_average", parameter)
        buffer = self._get_accumulator("momentum_buffer", parameter)
        square.scale_(self._alpha).add_(gradient * gradient * (1 - self._alpha))
        buffer.scale_(self._momentum).add_(gradient / (square.sqrt() + self._eps))
        parameter.subtract_(buffer * (self.get_lr() * parameter.optimize_attr["learning_rate"]))


class Builder(NamedTuple):
    """Arguments of the functions in OPTIMIZERS.

    Attributes:
        parameters: trainable parameters.
        lr: learning rate of the first step.
        config: the branch `optim` of the config.
        grad_clip: clips the norm of the whole gradient; None clips nothing.
        exempt: Paddle's names of the parameters without weight decay.
    """

    parameters: list
    lr: float
    config: OptimConfig
    grad_clip: nn.ClipGradByGlobalNorm | None
    exempt: set[str]

    @property
    def common(self) -> dict:
        """Arguments that all optimizers share."""
        return {"weight_decay": float(self.config.weight_decay), "grad_clip": self.grad_clip}


OPTIMIZERS: dict[str, Callable[[Builder], Optimizer]] = {
    "momentum": lambda b: Momentum(b.lr, b.config.momentum, b.parameters, **b.common),
    "sgd": lambda b: SGD(b.lr, b.parameters, **b.common),
    "rmsprop": lambda b: RMSProp(
        b.parameters, b.lr, alpha=b.config.opt_alpha, eps=b.config.opt_eps, momentum=b.config.momentum, **b.common
    ),
    "adamw": lambda b: AdamW(
        b.lr,
        *b.config.betas,
        b.config.opt_eps,
        b.parameters,
        apply_decay_param_fun=lambda name: name not in b.exempt,
        **b.common,
    ),
}
DECOUPLED = {"adamw"}  # decay is not added to the gradient; by default norm and bias parameters do not decay


def create_optimizer(model: nn.Layer, config: OptimConfig, lr: float) -> Optimizer:
    """Create the optimizer that `config.opt` names, for the trainable parameters of the model.

    Weight decay is decoupled in adamw and added to the gradient (L2) in the other optimizers. `clip_grad` clips the
    norm of the whole gradient. `lr` is used until `set_lr` sets that of a step; a layer may learn at a share of it, see
    `lr_multipliers`, and the decoupled decay has the same share.
    """
    is_decoupled = config.opt in DECOUPLED
    trainable = _trainable(model)
    set_lr_multipliers(list(trainable.values()), lr_multipliers(model, config))
    exempt = names_without_weight_decay(trainable, config)
    for parameter in trainable.values():
        # The regularizer of a parameter replaces that of the optimizer. (Parameter groups would be clipped one by one.)
        parameter.regularizer = L2Decay(0.0) if parameter.name in exempt and not is_decoupled else None
    grad_clip = None if config.clip_grad is None else nn.ClipGradByGlobalNorm(config.clip_grad)
    return OPTIMIZERS[config.opt](Builder(list(trainable.values()), float(lr), config, grad_clip, exempt))


def names_without_weight_decay(parameters: dict[str, paddle.Tensor], config: OptimConfig) -> set[str]:
    """Choose the parameters that do not decay, and return Paddle's names of them.

    With `decay_norm_and_bias` None all parameters decay, but in adamw only parameters that are neither 1-d nor a bias,
    as published.
    """
    decays_all = config.opt not in DECOUPLED if config.decay_norm_and_bias is None else config.decay_norm_and_bias
    return set() if decays_all else {p.name for n, p in parameters.items() if p.ndim < 2 or n.endswith(".bias")}


def _trainable(model: nn.Layer) -> dict[str, paddle.Tensor]:
    """The trainable parameters; Paddle lists batch-norm statistics among the parameters, too."""
    return {name: p for name, p in model.named_parameters() if not p.stop_gradient}


def optimizer_arrays(optimizer: Optimizer, model: nn.Layer) -> dict[str, np.ndarray]:
    """Copy the state of the optimizer, named `parameter.accumulator`, for example `features.0.weight.velocity`.

    The result is empty before the first step. Paddle's own names count the layers created in the process
    (`conv2d_7.w_0_velocity_0`), so they fit no other process.
    """
    return {
        f"{name}.{kind}": by_parameter[parameter.name].numpy()
        for kind, by_parameter in optimizer._accumulators.items()
        for name, parameter in _trainable(model).items()
        if parameter.name in by_parameter
    }


def set_optimizer_arrays(
    optimizer: Optimizer, model: nn.Layer, arrays: dict[str, np.ndarray], *, source: object
) -> None:
    """Restore the state that `optimizer_arrays` copied; this also works before the first step.

    Args:
        optimizer: changed in place.
        model: gives the structured names.
        arrays: the state; empty restores nothing.
        source: name of the checkpoint, for messages.

    Raises:
        CheckpointError: the state is that of another optimizer or model.
    """
    if not arrays:  # saved before the first step, or by sgd, which has no state
        return
    trainable = _trainable(model)
    optimizer._create_accumulators(paddle.static.default_main_program().global_block(), list(trainable.values()))
    accumulators = {
        f"{name}.{kind}": by_parameter[parameter.name]
        for kind, by_parameter in optimizer._accumulators.items()
        for name, parameter in trainable.items()
    }
    wrong = sorted(accumulators.keys() ^ arrays.keys())
    wrong += [n for n in accumulators.keys() & arrays.keys() if list(accumulators[n].shape) != list(arrays[n].shape)]
    if wrong:
        raise CheckpointError(
            f"{source} holds the state of another optimizer or model: {len(wrong)} of its entries do not fit "
            f"{type(optimizer).__name__}, for example {wrong[0]}"
        )
    for name, accumulator in accumulators.items():
        accumulator.set_value(arrays[name])
