"""Find the layers with weights of a PyTorch model in order of execution."""

import numpy as np
import torch
from torch import nn

from alignment.adapter import tensors_of
from alignment.mapping.units import (
    IN_OUT,
    OUT_IN,
    Entry,
    UnitRecorder,
    attributes_watched,
    kind_of,
    outermost,
    second_names,
)

COUNTER = "num_batches_tracked"
LINEAR_ROLES = (
    "weight", "weight_v", "weight_orig", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight",
    "parametrizations.weight.original", "parametrizations.weight.original1",
)  # fmt: skip


def is_whole(module: nn.Module) -> bool:
    """Whether a module is compared as a whole: it has no submodules, or torch computes with their weights itself."""
    if isinstance(module, nn.MultiheadAttention | nn.RNNBase):
        return True
    return all(name == "parametrizations" for name, _ in module.named_children())


def whole_modules(model: nn.Module) -> dict[str, nn.Module]:
    """{path: module} of the modules that are compared as a whole; none of them is in another."""
    return outermost(model.named_modules(), is_whole)


def shared_names(model: nn.Module) -> dict[str, str]:
    """{name in the state: first name of the same tensor}, for tensors with several names."""
    return second_names(model.state_dict(keep_vars=True))


def entries_of(model: nn.Module) -> dict[str, list[Entry]]:
    """{path of a module: entries of the state}, without counters and without second names of a tensor."""
    whole, shared = whole_modules(model), shared_names(model)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    modules = dict(model.named_modules(remove_duplicate=False))
    found: dict[str, list[Entry]] = {path: [] for path in modules}
    for name, value in model.state_dict().items():
        if name in shared or name.rpartition(".")[2] == COUNTER:
            continue
        owner = next((path for path in whole if not path or name.startswith(f"{path}.")), name.rpartition(".")[0])
        role = name.removeprefix(f"{owner}.") if owner else name
        layer = modules.get(name.rpartition(".")[0], model)
        axes = _axes(modules[owner], layer, role, value)
        entry = Entry(name, role, tuple(value.shape), name in parameters, value.is_floating_point(), axes)
        found.setdefault(owner, []).append(entry)
    return found


def _axes(owner: nn.Module, layer: nn.Module, role: str, value: torch.Tensor) -> str:
    if value.ndim != 2:
        return ""
    if type(layer).__name__ == "Conv1D":
        return IN_OUT  # of transformers, a linear layer in spite of its name
    is_linear = isinstance(owner, nn.Linear | nn.MultiheadAttention) or isinstance(layer, nn.Linear)
    return OUT_IN if is_linear and (role in LINEAR_ROLES or role.endswith("proj.weight")) else ""


def record_units(model: nn.Module, inputs: dict[str, torch.Tensor], call) -> list[dict]:
    """The units of the model as plain values, in the order in which one forward in evaluation mode uses them.

    Args:
        model: the reference.
        inputs: its inputs by name.
        call: (model, inputs) -> outputs.
    """
    whole = whole_modules(model)
    recorder = UnitRecorder(entries_of(model), {path: kind_of(_class_name(module)) for path, module in whole.items()})
    hooks = []
    for path, module in whole.items():
        hooks.append(module.register_forward_pre_hook(_before(recorder, path), with_kwargs=True))
        hooks.append(module.register_forward_hook(_after(recorder, path)))
    paths = {id(module): path for path, module in model.named_modules()}
    with attributes_watched(recorder, nn.Module, torch.Tensor, paths, whole), torch.no_grad():
        call(model.eval(), inputs)
    for hook in hooks:
        hook.remove()
    return [unit.as_message() for unit in recorder.all_units()]


def _class_name(module: nn.Module) -> str:
    name = type(module).__name__
    return "Linear" if name == "Conv1D" and not isinstance(module, nn.Conv1d) else name


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """The values of a tensor; a conjugate that torch has not computed yet, or a sign, is computed first.

    The gradient of an embedding with sparse=True, which has some rows alone, gets all rows.
    """
    tensor = tensor.detach()
    tensor = tensor.to_dense() if tensor.is_sparse else tensor
    return tensor.resolve_conj().resolve_neg().numpy()


def _arrays(value) -> list:
    return [as_array(tensor) for _, tensor in tensors_of(value, torch.is_tensor)]


def _before(recorder: UnitRecorder, path: str):
    return lambda module, args, kwargs: recorder.use_layer(path, _arrays([args, kwargs]))


def _after(recorder: UnitRecorder, path: str):
    return lambda module, args, output: recorder.finish_layer(path, _arrays(output))
