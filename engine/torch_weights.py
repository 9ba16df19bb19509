"""Finds the weights in a file of a PyTorch program: under a key, in a container, or in a pickled model."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import CheckpointError

from .restricted_pickle import Placeholder
from .torch_pickle import Tensor, Unreadable, read_torch_file

Arrays = dict[str, np.ndarray]

# Under these names training programs keep the weights; first of all those of the model, then its moving average.
MODEL_KEYS = ("state_dict", "model", "model_state_dict", "net", "weights", "params", "module")
AVERAGE_KEYS = ("model_ema", "ema", "state_dict_ema", "ema_state_dict", "params_ema")
WITHIN_KEYS = (*MODEL_KEYS, *AVERAGE_KEYS)
MAX_NESTING = 3  # tables in a table, such as {"model": {"module": {"state_dict": ...}}}
MAX_MODULES = 10_000  # of a pickled model, where each may contain the others again and again
NUM_NAMES_SHOWN = 5


class Sections(NamedTuple):
    """Arrays of a file by torch's names, and remarks for the log on how they were found."""

    arrays: dict[str, Arrays]  # "model", perhaps "model_ema"
    remarks: list[str]


def read_torch_sections(data: bytes, path: Path) -> Sections:
    """Read the weights of a file of torch.save: a table of tensors, a checkpoint with such a table, or a pickled model.

    Raises:
        CheckpointError: the file is damaged or crafted, has no weights, or a weight is a sparse, quantized or otherwise
            special tensor.
    """
    file = read_torch_file(data, path)
    remarks, arrays = [], {}
    model, average = _find(file.content, MODEL_KEYS), _find(file.content, AVERAGE_KEYS)
    top = _table(file.content)
    if model is None and average is None and top is not None and _holds_tensors(top):
        model = TensorTable("", top)
    if model is None and average is not None:
        remarks.append(f"the file has no weights beside the moving average under {average.place!r}: these are taken")
        model = average
    if model is None:
        raise CheckpointError(f"{path} has no table of tensors {_described(file.content)}")
    for section, entry in (("model", model), ("model_ema", average)):
        if entry is None:
            continue
        tensors = {n: v for n, v in entry.table.items() if type(n) is str and isinstance(v, Tensor | Unreadable)}
        arrays[section] = file.read_arrays(tensors)
        if section == "model" and entry.place:
            remarks.append(f"the weights are the entry {entry.place!r} of the file")
        if others := [name for name in entry.table if type(name) is not str or name not in tensors]:
            remarks.append(f"{len(others)} entries of {entry.place or 'the file'} are no tensors: {_listed(others)}")
    return Sections(arrays, remarks)


class TensorTable(NamedTuple):
    """Table of tensors, and its place in the file: keys joined by dots, "" for the whole file."""

    place: str
    table: dict


def _find(content: object, keys: tuple[str, ...], depth: int = 0, place: str = "") -> TensorTable | None:
    """Find the first table of tensors under one of the keys, or under further keys in that entry."""
    table = _table(content)
    if table is None or depth >= MAX_NESTING:
        return None
    for key in keys:
        inner = _table(table.get(key))
        if inner is None:
            continue
        here = f"{place}.{key}" if place else key
        if below := _find(inner, WITHIN_KEYS, depth + 1, here):
            return below
        if _holds_tensors(inner):
            return TensorTable(here, inner)
    return None


def _table(value: object) -> dict | None:
    """A dict, the entries of an object that is a kind of dict, or the state dict of a pickled module."""
    if type(value) is dict:
        return value
    if isinstance(value, Placeholder):
        if type(value.state) is dict and {"_parameters", "_buffers", "_modules"} <= value.state.keys():
            return dict(_module_entries(value))
        return value.entries
    return None


def _module_entries(module: Placeholder) -> Iterator[tuple[str, object]]:
    """(name, tensor) of a pickled torch.nn.Module and those in it."""
    waiting, num_modules = [("", module)], 0
    while waiting:
        prefix, module = waiting.pop()
        num_modules += 1
        if num_modules > MAX_MODULES or len(prefix) > 1000:
            raise CheckpointError(
                f"refused: a pickled model of more than {MAX_MODULES:,} layers, or that contains itself"
            )
        state = module.state if type(module.state) is dict else {}
        for section in ("_parameters", "_buffers"):
            for name, value in (_table(state.get(section)) or {}).items():
                if value is not None and type(name) is str:
                    yield prefix + name, value
        inner = _table(state.get("_modules")) or {}
        waiting += [
            (f"{prefix}{name}.", layer)
            for name, layer in reversed(list(inner.items()))
            if type(name) is str and isinstance(layer, Placeholder)
        ]


def _holds_tensors(table: dict) -> bool:
    return any(isinstance(value, Tensor | Unreadable) for value in table.values())


def _described(content: object) -> str:
    table = _table(content)
    if table is None:
        return f"(it holds a {type(content).__name__}); save model.state_dict()"
    return f"under {', '.join(WITHIN_KEYS)}; its entries are {_listed(table)}"


def _listed(names: object, count: int = NUM_NAMES_SHOWN) -> str:
    """The first names of many."""
    names = list(names)
    first = [str(name)[:80] if type(name) in (str, int) else f"a {type(name).__name__}" for name in names[:count]]
    return ", ".join(first) + (", ..." if len(names) > count else "") if first else "none"
