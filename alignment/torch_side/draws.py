"""Give every random draw of a PyTorch model the numbers that the port's draw has, whatever function draws."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from alignment.exchange import DropoutMasks
from alignment.replacing import functions_replaced

ALPHA = -1.7580993408473766  # the value of a dropped element in alpha dropout, Klambauer et al. 2017
# Draws whose numbers cannot be given from outside.
UNPAIRED = ("randperm", "multinomial", "poisson", "exponential_", "geometric_", "cauchy_", "log_normal_", "randint")
# Functions of torch.nn.init that draw.
INITIALIZERS = ("uniform_", "normal_", "trunc_normal_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_",
                "kaiming_normal_")  # fmt: skip


@contextmanager
def without_initial_draws() -> Iterator[None]:
    """Inside the context the random functions of torch.nn.init write zeros, for models whose weights are set later."""

    @torch.no_grad()
    def zeros(tensor, *arguments, **keywords):
        return tensor.zero_()

    with functions_replaced(nn.init, dict.fromkeys(INITIALIZERS, zeros)):
        yield


class SharedDraws(TorchFunctionMode):
    """Inside the context dropouts and draws of uniform, normal and Bernoulli numbers take them from `masks`."""

    def __init__(self, masks: DropoutMasks):
        super().__init__()
        self._masks = masks

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in UNPAIRED:
            self._masks.unpaired.add(f"torch.{name}")
        handle = _HANDLERS.get(name)
        return func(*args, **kwargs) if handle is None else handle(self._masks, func, *args, **kwargs)


def _mask(masks: DropoutMasks, shape, drop_rate: float, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(masks.next_mask(tuple(shape), drop_rate)).to(like.dtype)


def _dropout(masks, func, input, p=0.5, training=True, inplace=False):
    if not training or p == 0:
        return input
    return _written(func, input, input * _mask(masks, input.shape, p, input) / (1 - p), inplace)


def _channel_dropout(masks, func, input, p=0.5, training=True, inplace=False):
    if not training or p == 0:
        return input
    shape = (*input.shape[:2], *(1 for _ in input.shape[2:]))
    return _written(func, input, input * _mask(masks, shape, p, input) / (1 - p), inplace)


def _alpha_dropout(masks, func, input, p=0.5, training=False, inplace=False):
    if not training or p == 0:
        return input
    shape = (*input.shape[:2], *(1 for _ in input.shape[2:])) if "feature" in func.__name__ else input.shape
    kept = _mask(masks, shape, p, input)
    scale = 1 / math.sqrt((1 - p) * (1 + p * ALPHA**2))
    return _written(func, input, (input * kept + ALPHA * (1 - kept)) * scale - scale * ALPHA * p, inplace)


def _rrelu(masks, func, input, lower=1 / 8, upper=1 / 3, training=False, inplace=False):
    if not training:
        return func(input, lower, upper, False)
    slopes = (_uniform(masks, input.shape) * (upper - lower) + lower).to(input.dtype)
    return _written(func, input, torch.where(input >= 0, input, input * slopes), inplace)


def _attention(masks, func, *args, **kwargs):
    """The attention as a softmax with a dropout, because no mask can be given to the function of torch."""
    given = dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), args, strict=False)) | kwargs
    if not (p := given.get("dropout_p")):
        return func(*args, **kwargs)
    query, key, value, mask, scale = (given.get(name) for name in ("query", "key", "value", "attn_mask", "scale"))
    if given.get("enable_gqa"):
        key, value = (one.repeat_interleave(query.shape[-3] // one.shape[-3], -3) for one in (key, value))
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if given.get("is_causal"):
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    weights = scores.softmax(-1)
    return weights * _mask(masks, weights.shape, p, weights) / (1 - p) @ value


def _written(func, input: torch.Tensor, result: torch.Tensor, inplace: bool) -> torch.Tensor:
    """The result of a dropout, which the call in place writes into its input: the model may use that once more."""
    return input.copy_(result) if inplace or func.__name__.endswith("_") else result


def _uniform(masks: DropoutMasks, shape) -> torch.Tensor:
    return torch.from_numpy(masks.next_uniform(tuple(shape)))


def _bernoulli_(masks, func, tensor, p=0.5, **options):
    keep = p if isinstance(p, torch.Tensor) else torch.tensor(p)
    return tensor.copy_((_uniform(masks, tensor.shape) >= 1 - keep).to(tensor.dtype))


def _bernoulli(masks, func, input, p=None, **options):
    keep = input if p is None else p
    return (_uniform(masks, input.shape) >= 1 - keep).to(input.dtype)


def _uniform_(masks, func, tensor, *args, **kwargs):
    low, high = (*args, *kwargs.values(), *(0.0, 1.0)[len(args) + len(kwargs) :])[:2]
    return tensor.copy_(_uniform(masks, tensor.shape) * (high - low) + low)


def _normal_(masks, func, tensor, mean=0.0, std=1.0, **options):
    return tensor.copy_(torch.from_numpy(masks.next_normal(tuple(tensor.shape))) * std + mean)


def _normal(masks, func, *args, **kwargs):
    """torch.normal(mean, std), where both may be tensors: the function itself says type and shape of the result."""
    result, names = func(*args, **kwargs), dict(zip(("mean", "std"), args, strict=False)) | kwargs
    with torch.no_grad():
        return _normal_(masks, func, result, names.get("mean", 0.0), names.get("std", 1.0))


def _new(fill: Callable) -> Callable:
    """The function that makes a tensor with `func` and fills it."""

    def make(masks, func, *args, **kwargs):
        return fill(masks, None, func(*args, **kwargs))

    return make


_HANDLERS = {
    "dropout": _dropout, "dropout_": _dropout, "alpha_dropout": _alpha_dropout,
    "dropout1d": _channel_dropout, "dropout2d": _channel_dropout, "dropout3d": _channel_dropout,
    "feature_dropout": _channel_dropout, "feature_alpha_dropout": _alpha_dropout, "rrelu": _rrelu, "rrelu_": _rrelu,
    "scaled_dot_product_attention": _attention, "bernoulli_": _bernoulli_, "bernoulli": _bernoulli,
    "uniform_": _uniform_, "normal_": _normal_, "normal": _normal, "rand": _new(_uniform_),
    "rand_like": _new(_uniform_), "randn": _new(_normal_), "randn_like": _new(_normal_),
}  # fmt: skip


def turn_off_inner_dropout(model: nn.Module) -> list[str]:
    """Set the dropouts to 0 that torch draws inside an RNN or an attention; returns the paths of the layers."""
    found = []
    for path, module in model.named_modules():
        if isinstance(module, nn.RNNBase | nn.MultiheadAttention) and module.dropout:
            module.dropout = 0.0
            found.append(path)
    return found


def shared_dropout(masks: DropoutMasks) -> SharedDraws:
    """The context in which every random draw of this process takes its numbers from `masks`."""
    return SharedDraws(masks)
