"""The questions that this process answers; each operation takes and returns plain values and names of files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from alignment.exchange import DropoutMasks, TraceSettings, TrainSettings, packed, read_arrays, write_arrays
from alignment.rules import Arrays, Rules
from alignment.trace import class_place

from . import pipeline, structure, torch_formulas
from .float32_constants import float32_constants
from .full_training import count_correct, train_part
from .operation_log import OperationLog
from .recorder import record
from .references import DTYPES, build, constant_layers, default_dtype, read_weights, set_random_weights, set_state
from .training import as_target, cross_entropy, projection, squares, train

MAX_DRAWS = 20  # a ReLU over four channels is 0 everywhere in about one of 20 draws


def versions() -> dict:
    """Versions of torch and numpy."""
    return {"torch": torch.__version__, "numpy": np.__version__}


def inventory(reference: dict) -> dict:
    """Every entry of the state, and file and line of the class of each module."""
    model = build(reference, is_drawn=False)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return {
        "entries": [
            {"name": name, "shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch."),
             "is_parameter": name in parameters,
             "is_trained": name in parameters and parameters[name].requires_grad}
            for name, value in model.state_dict().items()
        ],
        "shared": structure.shared_names(model),
        "classes": {path: class_place(type(module)) for path, module in model.named_modules()},
    }  # fmt: skip


def logits_shape(reference: dict, shape: list[int], *, is_training: bool = False) -> dict:
    """Shape and type of the logits for images of `shape`, in evaluation or in train mode."""
    with torch.no_grad():
        output = build(reference).train(is_training)(torch.zeros(shape))
    kind = str(output.dtype).removeprefix("torch.")
    return {"shape": list(output.shape), "type": kind, "is_packed": getattr(output, "is_packed", False)}


def initialise(reference: dict, seed: int, images: str, num_checked: int, output: str) -> dict:
    """Write random weights as float32; they are drawn again while a layer is constant on the checked images.

    Args:
        reference: the model, see `references.build`.
        seed: of the weights.
        images: file of a batch; all of it sets the statistics of the batch norms.
        num_checked: number of images of the batch on which no layer may be constant.
        output: file to write.
    """
    model = build(reference, "float64")
    batch = torch.from_numpy(read_arrays(Path(images))["images"]).double()
    with default_dtype("float64"):
        for draw in range(MAX_DRAWS):
            set_random_weights(model, [seed, draw], batch)
            if not constant_layers(model, batch[:num_checked]):
                break
    state = {name: value.numpy() for name, value in model.float().state_dict().items()}
    write_arrays(Path(output), state)
    return {"num_entries": len(state), "num_draws": draw + 1}


def fresh_state(reference: dict, seed: int, output: str) -> dict:
    """Write the state of a new model as its constructor draws it from this seed."""
    state = {name: value.numpy() for name, value in build(reference, seed=seed).state_dict().items()}
    write_arrays(Path(output), state)
    return {"num_entries": len(state)}


def tables(reference: dict, output: str) -> dict:
    """Write the tensors of real numbers that the constructors keep outside of the state; no weights made of others."""
    found = {}
    for path, module in build(reference, is_drawn=False).named_modules():
        buffers = {name: module._buffers[name] for name in module._non_persistent_buffers_set}
        values = {name: value for name, value in (buffers | vars(module)).items() if isinstance(value, torch.Tensor)}
        found |= {
            f"{path}.{name}": value.numpy()
            for name, value in values.items()
            if value.is_floating_point() and not value.requires_grad
        }
    write_arrays(Path(output), found)
    return {"num_tables": len(found)}


def record_trace(reference: dict, weights: str, inputs: str, output: str, **settings) -> dict:
    """Write the trace of one forward, and of one backward if there is a loss.

    Args:
        reference: the model, see `references.build`.
        weights: file of its weights.
        inputs: file with `images` [B, 3, H, W] and `labels`, what the loss is given beside the output.
        output: file to write.
        settings: fields of TraceSettings.
    """
    settings = TraceSettings(**settings)
    arrays = read_arrays(Path(inputs))
    model = set_state(build(reference, settings.dtype, is_drawn=False), read_weights(weights))
    model.train(settings.is_training)
    images = torch.from_numpy(arrays["images"]).to(DTYPES[settings.dtype])
    labels = as_target(arrays["labels"], DTYPES[settings.dtype])
    loss_of = (lambda logits: loss_function(settings.loss)(logits, labels)) if settings.loss else None
    rules = Rules.of_message(settings.rules)
    with float32_constants(settings.dtype == "float64"), default_dtype(settings.dtype):
        trace = record(
            model, images, loss_of, DropoutMasks(settings.seed), lambda gradients: pack(gradients, rules),
            has_layers_alone=settings.has_layers_alone,
        )  # fmt: skip
    answer, values = (trace if settings.has_layer_values else trace.without_layers()).as_message()
    write_arrays(Path(output), values)
    return answer


def operations_between(
    reference: dict, weights: str, inputs: str, dtype: str, *, is_training: bool, seed: int, window: list[int]
) -> dict:
    """The operations of one forward that the code calls between two layers.

    Args:
        reference: the model, see `references.build`.
        weights: file of its weights.
        inputs: file with `images` [B, 3, H, W].
        dtype: "float32" or "float64".
        is_training: whether the model is in train mode.
        seed: of the dropout masks.
        window: numbers of the two nodes of the trace.
    """
    model = set_state(build(reference, dtype, is_drawn=False), read_weights(weights)).train(is_training)
    images = torch.from_numpy(read_arrays(Path(inputs))["images"]).to(DTYPES[dtype])
    logs = []

    def watch(trace):
        logs.append(OperationLog(trace, tuple(window)))
        return logs[0]

    with float32_constants(dtype == "float64"), default_dtype(dtype):
        record(model, images, None, DropoutMasks(seed), dict, has_layers_alone=False, watch=watch)
    return {"operations": [list(operation) for operation in logs[0].operations]}


def pack(gradients: Arrays, rules: Rules) -> Arrays:
    """The gradients of parameters with the names and layouts of the port; a sketch of each that is large."""
    return {name: packed(gradient) for name, gradient in rules.each_to_port(gradients)}


def loss_function(loss: dict) -> Callable:
    """The loss of a question, a function of (logits, labels)."""
    if loss["name"] == "squares":
        return squares
    if loss["name"] == "cross_entropy":
        return cross_entropy(loss.get("smoothing", 0.0))
    if loss["name"] == "projection":
        return projection
    return pipeline.user_loss(loss)


def train_steps(reference: dict, weights: str, inputs: str, output: str, **settings) -> dict:
    """Train for some steps and write the losses and the records of `training.train`.

    Args:
        reference: the model, see `references.build`.
        weights: file of its weights.
        inputs: file with `images` [N, B, 3, H, W] and `labels` [N, B].
        output: file to write.
        settings: fields of TrainSettings.
    """
    settings = TrainSettings(**settings)
    arrays = read_arrays(Path(inputs))
    model = set_state(build(reference, settings.dtype, is_drawn=False), read_weights(weights))
    loss = loss_function(settings.loss)
    with float32_constants(settings.dtype == "float64"), default_dtype(settings.dtype):
        records = train(model, arrays["images"], arrays["labels"], loss, settings)
    write_arrays(Path(output), records)
    return {"num_steps": len(records["losses"])}


def save_file(inputs: str, path: str) -> dict:
    """Write arrays as a torch file."""
    state = {name: torch.from_numpy(array) for name, array in read_arrays(Path(inputs)).items()}
    torch.save(state, path)
    return {"num_entries": len(state)}


OPERATIONS = {
    "versions": versions,
    "inventory": inventory,
    "logits_shape": logits_shape,
    "initialise": initialise,
    "fresh_state": fresh_state,
    "tables": tables,
    "record_trace": record_trace,
    "operations_between": operations_between,
    "train_steps": train_steps,
    "save_file": save_file,
    "train_part": train_part,
    "count_correct": count_correct,
    "eval_pixels": torch_formulas.eval_pixels,
    "replay": torch_formulas.replay,
    "mixup": torch_formulas.mixup,
    "losses": torch_formulas.losses,
    "rates": torch_formulas.rates,
    "accuracy": torch_formulas.accuracy,
    "loader_order": torch_formulas.loader_order,
    **structure.OPERATIONS,
    **pipeline.OPERATIONS,
}
