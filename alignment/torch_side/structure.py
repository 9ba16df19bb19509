"""What a reference is made of: its inputs and outputs, and its layers with weights in order of execution."""

from pathlib import Path

import torch
from torch import nn

from alignment.adapter import keyword_inputs, original_of, required_inputs, tensors_of
from alignment.exchange import read_arrays
from alignment.mapping.units import fingerprint

from .references import build, default_dtype, read_weights, set_state
from .units import as_array, record_units, shared_names

INTEGER_WORDS = ("Long", "Int", "indices", "integer", "int64")  # of messages about an input that must be whole numbers


def describe(reference: dict, shape: list[int]) -> dict:
    """Names and types of the inputs, and (path, shape, type) of the outputs in both modes, for inputs of `shape`.

    An input that the model takes only as whole numbers is of the type int64, and `num_values` is how many values the
    smallest of its embeddings has.
    """
    model = build(reference).eval()
    names = required_inputs(model.forward)
    types, output, error = _accepted_types(model, names, shape)
    keywords = keyword_inputs(model.forward)
    answer = {"error": error, "inputs": [
        {"name": name, "type": kind, "is_keyword": name in keywords} for name, kind in zip(names, types, strict=True)
    ]}  # fmt: skip
    sizes = [layer.num_embeddings for layer in model.modules() if isinstance(layer, nn.Embedding)]
    answer["num_values"] = min(sizes, default=0)
    answer["outputs"] = [] if error else _outputs(output)
    answer["train_outputs"] = [] if error else _outputs(_in_train_mode(model, names, types, shape))
    return answer


def _accepted_types(model: nn.Module, names: list[str], shape: list[int]) -> tuple[list[str], object, str]:
    """(the first types of inputs that the model takes, what it returns for them, the error if it takes none).

    They are floats, then whole numbers for all, then for one of them.
    """
    num, first_error = len(names), ""
    attempts = [["float32"] * num, ["int64"] * num]
    attempts += [["int64" if k == j else "float32" for k in range(num)] for j in range(num if num > 1 else 0)]
    for types in attempts:
        try:
            return types, _call(model, names, types, shape), ""
        except Exception as error:
            first_error = first_error or f"{type(error).__name__}: {error}"
            if not any(word in str(error) for word in INTEGER_WORDS):
                break
    return ["float32"] * num, None, first_error


def _call(model: nn.Module, names: list[str], types: list[str], shape: list[int]):
    """What the model itself returns for zeros."""
    keywords = keyword_inputs(model.forward)
    given = [(name, torch.zeros(shape, dtype=getattr(torch, kind))) for name, kind in zip(names, types, strict=True)]
    with torch.no_grad():
        return original_of(
            model(*(value for name, value in given if name not in keywords),
                  **{name: value for name, value in given if name in keywords})
        )  # fmt: skip


def _in_train_mode(model: nn.Module, names: list[str], types: list[str], shape: list[int]):
    """What the model returns in train mode, where some have more outputs; None if it cannot be run in it."""
    try:
        return _call(model.train(), names, types, [2 * length if k == 0 else length for k, length in enumerate(shape)])
    except Exception:  # of zeros, or of a size of the images that a batch norm refuses: the stages will say it
        return None


def _outputs(output: object) -> list[list]:
    found = tensors_of(output, torch.is_tensor)
    return [[path, list(tensor.shape), str(tensor.dtype).removeprefix("torch.")] for path, tensor in found]


def units(reference: dict, inputs: str, weights: str | None = None) -> dict:
    """The layers with weights in the order in which one forward uses them, and fingerprints of the outputs.

    Args:
        reference: the model, see `references.build`.
        inputs: file with `images`.
        weights: file of weights; by default those of a new model.
    """
    model = build(reference, "float64", is_drawn=weights is None)
    if weights:
        set_state(model, read_weights(weights))
    images = torch.from_numpy(read_arrays(Path(inputs))["images"]).double()
    outputs = []

    def call(model, inputs):
        outputs.append(as_array(model(inputs["images"])))

    with default_dtype("float64"):
        found = record_units(model, {"images": images}, call)
    return {"units": found, "outputs": [fingerprint(array) for array in outputs], "shared": shared_names(model)}


OPERATIONS = {"describe": describe, "units": units}
