"""Give every random draw of a Paddle model the numbers that the reference's draw has, whatever function draws."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import paddle
from paddle import nn
from paddle.nn.initializer import Constant, Initializer
from paddle.nn.initializer.kaiming import MSRAInitializer
from paddle.nn.initializer.normal import NormalInitializer, TruncatedNormalInitializer
from paddle.nn.initializer.uniform import UniformInitializer
from paddle.nn.initializer.xavier import XavierInitializer
from paddle.nn.layer.rnn import RNNBase

from ..exchange import DropoutMasks
from ..replacing import functions_replaced

UNPAIRED = ("randperm", "multinomial", "poisson", "exponential_", "randint")  # draws without numbers from outside

RANDOM = (MSRAInitializer, NormalInitializer, TruncatedNormalInitializer, UniformInitializer, XavierInitializer)


@contextmanager
def shared_dropout(masks: DropoutMasks) -> Iterator[None]:
    """Inside the context dropouts and draws of uniform, normal and Bernoulli numbers take them from `masks`.

    All functions of Paddle draw through `paddle._C_ops`, so it does not matter how a model imported them. The layer
    decides how values are scaled.
    """
    operators = paddle._C_ops
    replaced = {"dropout": _dropout_of(masks), "dropout_": _dropout_of(masks)} | _draws_of(masks)
    for name in UNPAIRED:
        if hasattr(operators, name):
            replaced[name] = _noted(masks, name, getattr(operators, name))
    with functions_replaced(operators, replaced):
        yield


@contextmanager
def without_initial_draws() -> Iterator[None]:
    """Inside the context random initializers of Paddle write zeros, for models whose weights are set afterwards.

    Drawing the weights of a VGG-11 takes 7 seconds, and one comparison builds 20 models.
    """
    original, zero = Initializer.__call__, Constant(0.0)

    def initialise(initializer, parameter, block=None):
        return original(zero if isinstance(initializer, RANDOM) else initializer, parameter, block)

    with functions_replaced(Initializer, {"__call__": initialise}):
        yield


def _dropout_of(masks: DropoutMasks) -> Callable:
    def dropout(x, seed_tensor, p, is_test, mode, *rest, **options):
        p = _number(p)
        if is_test:
            return x if mode == "upscale_in_train" else x * (1 - p)
        if p == 0:
            return x
        mask = paddle.to_tensor(masks.next_mask(tuple(x.shape), p)).astype(x.dtype)
        return x * mask / (1 - p) if mode == "upscale_in_train" else x * mask

    return dropout


def _draws_of(masks: DropoutMasks) -> dict[str, Callable]:
    """The operators that draw, {name in paddle._C_ops: function of the same first arguments}."""

    def uniform(shape, dtype, low, high, *rest, **options):
        span = _number(high) - _number(low)
        return _tensor(masks.next_uniform(_shape(shape)) * span + _number(low), dtype)

    def gaussian(shape, mean, std, seed, dtype, *rest, **options):
        return _tensor(masks.next_normal(_shape(shape)) * std + mean, dtype)

    def bernoulli(x, *rest, **options):
        drawn = paddle.to_tensor(masks.next_uniform(tuple(x.shape)))
        return (drawn >= 1 - x.astype("float64")).astype(x.dtype)

    def uniform_inplace(x, low, high, *rest, **options):
        return paddle.assign(_tensor(masks.next_uniform(tuple(x.shape)) * (high - low) + low, x.dtype), x)

    def gaussian_inplace(x, mean, std, *rest, **options):
        return paddle.assign(_tensor(masks.next_normal(tuple(x.shape)) * std + mean, x.dtype), x)

    leaky = paddle._C_ops.rrelu

    def rrelu(x, lower, upper, is_test, *rest, **options):
        if is_test:
            return leaky(x, lower, upper, is_test, *rest, **options)
        slopes = _tensor(masks.next_uniform(tuple(x.shape)) * (upper - lower) + lower, x.dtype)
        return paddle.where(x >= 0, x, x * slopes)

    return {
        "uniform": uniform, "gaussian": gaussian, "bernoulli": bernoulli, "uniform_inplace_": uniform_inplace,
        "gaussian_inplace_": gaussian_inplace, "rrelu": rrelu,
    }  # fmt: skip


def _noted(masks: DropoutMasks, name: str, function: Callable) -> Callable:
    def draw(*arguments, **keywords):
        masks.unpaired.add(f"paddle.{name}")
        return function(*arguments, **keywords)

    return draw


def _number(value) -> float:
    return float(value.item()) if isinstance(value, paddle.Tensor) else float(value)


def _shape(shape) -> tuple[int, ...]:
    values = shape.numpy().tolist() if isinstance(shape, paddle.Tensor) else shape
    return tuple(int(_number(length)) for length in values)


def _tensor(array: np.ndarray, dtype) -> paddle.Tensor:
    return paddle.to_tensor(array).astype(dtype)


def turn_off_inner_dropout(model: nn.Layer) -> list[str]:
    """Set the dropouts to 0 that Paddle draws inside an RNN or an attention; returns the paths of the layers."""
    found = []
    for path, layer in model.named_sublayers(include_self=True):
        if isinstance(layer, RNNBase | nn.MultiHeadAttention) and getattr(layer, "dropout", 0):
            layer.dropout = 0.0
            found.append(path)
    return found
