"""Find the layers with weights of a Paddle model in order of execution."""

from collections.abc import Callable

import numpy as np
import paddle
from paddle import nn
from paddle.nn.layer.rnn import RNNBase

from ..adapter import tensors_of
from ..mapping.units import (
    IN_OUT,
    OUT_IN,
    Entry,
    Unit,
    UnitRecorder,
    attributes_watched,
    kind_of,
    outermost,
    second_names,
)
from ..user_code import USER_ERRORS

STATISTICS = ("_mean", "_variance")  # of a batch norm; Paddle counts them among the parameters


def is_whole(layer: nn.Layer) -> bool:
    """Whether a layer is compared as a whole: it has no sublayers, or Paddle computes with their weights itself."""
    return isinstance(layer, nn.MultiHeadAttention | RNNBase) or not list(layer.children())


def whole_layers(model: nn.Layer) -> dict[str, nn.Layer]:
    """{path: layer} of the layers that are compared as a whole; none of them is in another."""
    return outermost(model.named_sublayers(include_self=True), is_whole)


def shared_names(model: nn.Layer) -> dict[str, str]:
    """{name in the state: first name of the same tensor}, for tensors with several names, as those of an LSTM."""
    return second_names(model.state_dict())


def entries_of(model: nn.Layer) -> dict[str, list[Entry]]:
    """{path of a layer: entries of the state}, without second names of a tensor."""
    whole, shared = whole_layers(model), shared_names(model)
    parameters = {id(parameter) for parameter in model.parameters()}
    layers = dict(model.named_sublayers(include_self=True))
    found: dict[str, list[Entry]] = {path: [] for path in layers}
    for name, value in model.state_dict().items():
        if name in shared:
            continue
        owner = next((path for path in whole if not path or name.startswith(f"{path}.")), name.rpartition(".")[0])
        role = name.removeprefix(f"{owner}.") if owner else name
        layer = layers.get(name.rpartition(".")[0], model)
        is_parameter = id(value) in parameters and role not in STATISTICS
        entry = Entry(name, role, tuple(value.shape), is_parameter, value.is_floating_point(), "")
        if len(entry.shape) == 2 and role.rpartition(".")[2] in ("weight", "weight_v", "weight_orig"):
            entry.axes = _axes(layer)
        found.setdefault(owner, []).append(entry)
    return found


def activation_apart(layer: nn.Layer) -> Callable | None:
    """A hook that applies the activation that a legacy batch norm has built in, after it was taken out of the layer.

    The reference has a layer or a function for it, so the norm alone is compared with the norm of the reference.
    """
    name = getattr(layer, "_act", None) if isinstance(layer, nn.BatchNorm) else None
    if name is None:
        return None
    layer._act = None
    return lambda layer, arguments, output: getattr(nn.functional, name)(output)


def _axes(layer: nn.Layer) -> str:
    if isinstance(layer, nn.Linear):
        return IN_OUT
    # paddle.compat.nn.Linear, which converters write, keeps the layout of torch.
    return OUT_IN if type(layer).__name__ == "Linear" and "compat" in type(layer).__module__ else ""


def record_units(model: nn.Layer, inputs: dict[str, paddle.Tensor], call) -> tuple[list[Unit], str]:
    """The units of the model in the order in which one forward in evaluation mode uses them, and the error of the port.

    Args:
        model: the port.
        inputs: its inputs by name.
        call: (model, inputs) -> outputs.
    """
    whole = whole_layers(model)
    kinds = {path: kind_of(type(layer).__name__) for path, layer in whole.items()}
    recorder = UnitRecorder(entries_of(model), kinds)
    hooks = []
    for path, layer in whole.items():
        hooks.append(layer.register_forward_pre_hook(_before(recorder, path), with_kwargs=True))
        hooks.append(layer.register_forward_post_hook(_after(recorder, path)))
        if activation := activation_apart(layer):
            hooks.append(layer.register_forward_post_hook(activation))
    paths = {id(layer): path for path, layer in model.named_sublayers(include_self=True)}
    error = ""
    with attributes_watched(recorder, nn.Layer, paddle.Tensor, paths, whole), paddle.no_grad():
        try:
            model.eval()
            call(model, inputs)
        except USER_ERRORS as failure:  # what ran before it is paired nevertheless
            error = f"{type(failure).__name__}: {failure}"
    for hook in hooks:
        hook.remove()
    return recorder.all_units(), error


def _arrays(value) -> list[np.ndarray]:
    return [tensor.numpy() for _, tensor in tensors_of(value, paddle.is_tensor)]


def _before(recorder: UnitRecorder, path: str):
    return lambda layer, arguments, keywords: recorder.use_layer(path, _arrays([arguments, keywords]))


def _after(recorder: UnitRecorder, path: str):
    return lambda layer, arguments, output: recorder.finish_layer(path, _arrays(output))
