"""Run the code between the layers of a port alone: each layer's output is replaced by that of the reference.

A layer compared alone says nothing about the code that calls it. Here every paired layer returns the reference's
output, and passes the reference's gradient on. So what the code makes of them is seen without the errors before it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import paddle
from paddle import nn

from ..exchange import DropoutMasks
from .draws import shared_dropout
from .units import activation_apart


@dataclass
class Substitutes:
    """What the reference computed for the layers of the port, by the path of the call (`layer`, `layer#2`, ...).

    Attributes:
        paths: of the layers that are compared.
        outputs: the outputs of each call that has a match.
        input_gradients: {path: gradient of each input, None where the reference has none}, of the call alone.
    """

    paths: set[str]
    outputs: dict[str, list[np.ndarray]]
    input_gradients: dict[str, list[np.ndarray | None]] = field(default_factory=dict)


@dataclass
class Found:
    """What the code of the port made of the substitutes.

    Attributes:
        inputs: {path: the inputs that the code gave to the call}.
        output_gradients: {path: the gradient that the code gave to each output of the call}.
        output: what the model returned.
    """

    inputs: dict[str, list[np.ndarray]] = field(default_factory=dict)
    output_gradients: dict[str, list[np.ndarray | None]] = field(default_factory=dict)
    output: object = None


class _Hooks:
    """The hooks on the leaf layers of a model."""

    def __init__(self, model: nn.Layer, substitutes: Substitutes):
        self.found = Found()
        self._substitutes = substitutes
        self._num_calls: dict[str, int] = {}
        self._hooks = []
        for path, layer in model.named_sublayers(include_self=True):
            if path in substitutes.paths:
                self._hooks.append(layer.register_forward_pre_hook(self._before(path)))
                self._hooks.append(layer.register_forward_post_hook(self._after(path)))
                if activation := activation_apart(layer):
                    self._hooks.append(layer.register_forward_post_hook(activation))

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _before(self, path: str) -> Callable:
        def hook(layer, arguments):
            self._num_calls[path] = number = self._num_calls.get(path, 0) + 1
            call = _call(path, number)
            tensors = [value for value in arguments if isinstance(value, paddle.Tensor)]
            self.found.inputs[call] = [tensor.numpy() for tensor in tensors]
            gradients = iter(self._substitutes.input_gradients.get(call, []))
            return tuple(
                _with_gradient(value, next(gradients, None)) if isinstance(value, paddle.Tensor) else value
                for value in arguments
            )

        return hook

    def _after(self, path: str) -> Callable:
        def hook(layer, arguments, output):
            call = _call(path, self._num_calls[path])
            values = self._substitutes.outputs.get(call)
            tensors = list(output) if isinstance(output, list | tuple) else [output]
            if not all(isinstance(tensor, paddle.Tensor) for tensor in tensors):
                return None  # the states of an LSTM, for example, stay those of the port
            if values is None or len(values) != len(tensors) or not _are_like(tensors, values):
                return None
            kept: list[np.ndarray | None] = [None] * len(values)
            self.found.output_gradients[call] = kept
            replaced = [_replaced(tensor, values[k], kept, k) for k, tensor in enumerate(tensors)]
            return type(output)(replaced) if isinstance(output, list | tuple) else replaced[0]

        return hook


def run_code_between(
    model: nn.Layer, run: Callable[[nn.Layer], object], substitutes: Substitutes, masks: DropoutMasks
) -> Found:
    """Run the model once with the substitutes.

    Args:
        model: in the mode and type of the comparison.
        run: model -> its output; it also runs the backward if gradients are compared.
        substitutes: of the reference.
        masks: of the dropout layers, set to the first call.
    """
    hooks = _Hooks(model, substitutes)
    try:
        with shared_dropout(masks):
            hooks.found.output = run(model)
    finally:
        hooks.remove()
    return hooks.found


def _call(path: str, number: int) -> str:
    return path if number == 1 else f"{path}#{number}"


def _are_like(tensors: list, values: list[np.ndarray]) -> bool:
    return all(
        isinstance(tensor, paddle.Tensor) and tuple(tensor.shape) == value.shape
        for tensor, value in zip(tensors, values, strict=True)
    )


def _replaced(tensor: paddle.Tensor, value: np.ndarray, kept: list, index: int) -> paddle.Tensor:
    """`value` in place of an output; `kept[index]` becomes the gradient that arrives there.

    The gradient is read behind the sum, so that the hooks that the code sets on the output are run before.
    """
    replacement = paddle.to_tensor(value).astype(tensor.dtype)
    if tensor.stop_gradient or not paddle.is_floating_point(tensor):
        return replacement
    nothing = tensor - tensor.detach()

    def keep(gradient: paddle.Tensor) -> None:
        kept[index] = gradient.numpy()

    nothing.register_hook(keep)
    return nothing + replacement


def _with_gradient(tensor: paddle.Tensor, gradient: np.ndarray | None) -> paddle.Tensor:
    """The tensor, which passes `gradient` on in place of the one that arrives."""
    if gradient is None or tensor.stop_gradient or tuple(tensor.shape) != gradient.shape:
        return tensor
    passed_on, same = paddle.to_tensor(gradient).astype(tensor.dtype), tensor.clone()
    same.register_hook(lambda arriving: passed_on)
    return same
