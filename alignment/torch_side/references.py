"""Build the reference model that a case names, and give it weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from alignment.adapter import Adapter, Framework, adapt
from alignment.exchange import read_arrays
from alignment.trace import constructor_places
from alignment.user_code import UserCodeError, build_undrawn, construct, load_callable

from .draws import without_initial_draws
from .named_models import named_model
from .recorder import is_framework_file

DTYPES = {"float32": torch.float32, "float64": torch.float64}
FRAMEWORK = Framework(
    torch.is_tensor,
    lambda tensor, dtype: tensor.to(dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)),
    lambda tensor, low, high: tensor.clamp(low, high),
    lambda tensors, axis: torch.cat(tensors, axis),
    lambda tensor: torch.view_as_real(tensor.resolve_conj()),
)


@contextmanager
def default_dtype(dtype: str) -> Iterator[None]:
    """Set torch's default dtype inside the context: the type of constants that the code of a forward makes.

    The port has the same: 0.1 in float32 beside 0.1 in float64 would differ by 1.5e-8, and the ports would be right.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPES[dtype])
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def build(reference: dict, dtype: str = "float32", seed: int = 0, *, is_drawn: bool = True) -> nn.Module:
    """Build a model from {"callable": ..., "arguments": {...}}, and "package" where the case is not trusted.

    Args:
        reference: that table.
        dtype: "float32" or "float64".
        seed: of the fresh weights.
        is_drawn: False for a model whose weights are set afterwards.

    Raises:
        UserCodeError: there is no such model, it cannot be built, or it is no model of torch.
    """
    torch.manual_seed(seed)
    spec = reference["callable"]
    make = named_model(spec) or load_callable(spec, reference.get("package"))
    with constructor_places(nn.Module, is_framework_file):
        fresh = partial(construct, spec, make, reference["arguments"])
        model = fresh() if is_drawn else build_undrawn(fresh, without_initial_draws)
    if not isinstance(model, nn.Module):
        raise UserCodeError(f"{spec} makes an object of {type(model).__name__}, not a torch.nn.Module")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module  # the same model, and the names of its weights have no prefix
    return adapt(model.to(DTYPES[dtype]), Adapter.of_message(reference.get("adapter")), FRAMEWORK)


def set_state(model: nn.Module, arrays: dict[str, np.ndarray]) -> nn.Module:
    """Give the model these weights and return it.

    Raises:
        RuntimeError: by torch, for an entry that is missing, unexpected or of a wrong shape.
    """
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)
    return model


@lru_cache(maxsize=1)
def read_weights(path: str) -> dict[str, np.ndarray]:
    """The weights of a file, which most questions of a comparison name; the arrays are not changed."""
    return read_arrays(Path(path))


def set_random_weights(model: nn.Module, seed: int | list[int], images: torch.Tensor) -> None:
    """Draw weights under which every layer matters: activations near 1, biases and batch norms away from 0 and 1.

    A new MobileNetV3 answers 1e-10 for every image, so any two of them agree. One forward in train mode on `images`
    [B, 3, H, W] gives the batch norms statistics of real activations. All values are float32 numbers.
    """
    rng = np.random.default_rng(seed)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            value = _random_parameter(rng, module, name, parameter)
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(value))
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    shares = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
    for norm, share in zip(norms, shares, strict=True):
        norm.momentum = share
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.zero_()


def _random_parameter(rng: np.random.Generator, module: nn.Module, name: str, parameter: nn.Parameter) -> np.ndarray:
    shape = tuple(parameter.shape)
    if isinstance(module, _BatchNorm | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm | _InstanceNorm):
        return rng.uniform(0.5, 1.5, shape) if name == "weight" else rng.normal(0, 0.2, shape)
    if parameter.ndim <= 1:
        return rng.normal(0, 0.1, shape)
    if getattr(module, "padding_idx", None) is not None:  # Paddle gives zeros for this index, torch a row of zeros
        array = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        array[module.padding_idx] = 0
        return array
    # The gain of a linear layer is smaller, so that no logit is 64 below the highest: there Paddle's softmax on a CPU
    # stops falling, and the losses of two equal models differ.
    gain = 1 if isinstance(module, nn.Linear) else 2
    return rng.normal(0, np.sqrt(gain / np.prod(shape[1:])), shape)


def constant_layers(model: nn.Module, images: torch.Tensor) -> list[str]:
    """Paths of leaf modules whose output has one value everywhere, in evaluation mode on `images`."""
    constant, hooks = [], []
    for path, module in model.named_modules():
        if not list(module.children()):

            def check(module, arguments, output, path=path):
                if isinstance(output, torch.Tensor) and output.numel() > 1 and output.max() == output.min():
                    constant.append(path)

            hooks.append(module.register_forward_hook(check))
    with torch.no_grad():
        model.eval()(images)
    for hook in hooks:
        hook.remove()
    return constant
