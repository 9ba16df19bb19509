"""Finds the weights in what a training program has saved, and gives them the names and layouts of a Paddle model."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common.errors import CheckpointError

from .restricted_pickle import Placeholder
from .torch_pickle import Tensor, Unreadable, read_torch_file

if TYPE_CHECKING:
    from paddle import nn

Arrays = dict[str, np.ndarray]

# Under these names training programs keep the weights; first of all those of the model, then its moving average.
MODEL_KEYS = ("state_dict", "model", "model_state_dict", "net", "weights", "params", "module")
AVERAGE_KEYS = ("model_ema", "ema", "state_dict_ema", "ema_state_dict", "params_ema")
WITHIN_KEYS = (*MODEL_KEYS, *AVERAGE_KEYS)
MAX_NESTING = 3  # tables in a table, such as {"model": {"module": {"state_dict": ...}}}
MAX_MODULES = 10_000  # of a pickled model, where each may contain the others again and again
# What wrappers put before every name: DataParallel, torch.compile, Lightning, detectors; Paddle's DataParallel.
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "_layers.")
COUNTER = ".num_batches_tracked"  # of torch's batch norms; Paddle has none
STATISTICS = {"running_mean": "_mean", "running_var": "_variance"}  # torch's names and Paddle's
NUM_NAMES_SHOWN = 5


# --- Where the weights are ------------------------------------------------------------------------------------------


class Sections(NamedTuple):
    """Arrays of a file by torch's names, and what was done to find them."""

    arrays: dict[str, Arrays]  # "model", perhaps "model_ema"
    remarks: list[str]


def read_torch_sections(data: bytes, path: Path) -> Sections:
    """The weights of a file of torch.save: a bare table of tensors, a checkpoint around it, or a pickled model.

    Raises:
        CheckpointError: the file is damaged or crafted, has no weights, or a weight is a sparse, quantized or otherwise
            special tensor.
    """
    file = read_torch_file(data, path)
    remarks, arrays = [], {}
    model, average = _find(file.content, MODEL_KEYS), _find(file.content, AVERAGE_KEYS)
    top = _table(file.content)
    if model is None and average is None and top is not None and _holds_tensors(top):
        model = Found("", top)
    if model is None and average is not None:
        remarks.append(f"the file has no weights beside the moving average under {average.place!r}: these are taken")
        model = average
    if model is None:
        raise CheckpointError(f"{path} has no table of tensors {_described(file.content)}")
    for section, found in (("model", model), ("model_ema", average)):
        if found is None:
            continue
        tensors = {n: v for n, v in found.table.items() if type(n) is str and isinstance(v, Tensor | Unreadable)}
        arrays[section] = file.read_arrays(tensors)
        if section == "model" and found.place:
            remarks.append(f"the weights are the entry {found.place!r} of the file")
        if others := [name for name in found.table if type(name) is not str or name not in tensors]:
            remarks.append(f"{len(others)} entries of {found.place or 'the file'} are no tensors: {_listed(others)}")
    return Sections(arrays, remarks)


class Found(NamedTuple):
    place: str
    table: dict


def _find(content: object, keys: tuple[str, ...], depth: int = 0, place: str = "") -> Found | None:
    """The first table of tensors under one of the keys, and there perhaps under further ones."""
    table = _table(content)
    if table is None or depth >= MAX_NESTING:
        return None
    for key in keys:
        inner = _table(table.get(key))
        if inner is None:
            continue
        here = f"{place}.{key}" if place else key
        if found := _find(inner, WITHIN_KEYS, depth + 1, here):
            return found
        if _holds_tensors(inner):
            return Found(here, inner)
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


# --- Names and layouts of a Paddle model ----------------------------------------------------------------------------


class Translated(NamedTuple):
    """Arrays by the names of a Paddle model, and what was done to them."""

    arrays: Arrays
    remarks: list[str]


class Reading(NamedTuple):
    """One way to understand the names of a file: its layout, the prefix to take off, and how many names are known."""

    layout: str
    prefix: str
    names: dict[str, str]  # the file's names -> the model's
    num_known: int


def to_paddle_names(arrays: Arrays, model: "nn.Layer", *, layout: str | None = None, source: object) -> Translated:
    """Give the arrays of a file the names and layouts of a Paddle model.

    Weights of linear layers are transposed where the file has PyTorch's layout, because the layer of the model is a
    Linear; the statistics of batch norms are renamed and the counters left out. A model may declare the names of other
    publishers of the same network as `published_layouts`.

    Args:
        arrays: by the file's names.
        model: gives the wanted names and the kinds of its layers.
        layout: "torch" or "paddle" where the file says it; None: the names say it, or else the shapes of the linear
            layers.
        source: the file, for messages.

    Returns:
        The arrays, of which some may still not fit (`set_weights` says which), and remarks for the log.

    Raises:
        CheckpointError: no name of the file is one of the model's, or the layout stays in doubt.
    """
    best = max(_readings(arrays, model, layout), key=lambda reading: (reading.num_known, -len(reading.prefix)))
    if best.num_known == 0:
        raise CheckpointError(
            f"{source} does not fit the model: no name is the same\n"
            f"the file has  {_listed(arrays)}\nthe model has {_listed(model.state_dict())}"
        )
    remarks = [f"the prefix {best.prefix!r} was taken off all names"] if best.prefix else []
    translated = {new: arrays[old] for old, new in best.names.items()}
    chosen = best.layout
    if chosen == "either":
        chosen = _layout_by_shapes(translated, model, source)
    if chosen == "torch":
        translated, num_transposed = _transposed(translated, model)
        num_counters = len(arrays) - len(translated)
        remarks.append(
            f"names and layouts of PyTorch: {num_transposed} matrices of linear layers transposed, "
            f"{num_counters} counters of batch norms left out"
        )
    elif chosen != "paddle":
        remarks.append(f"names of {chosen}")
        for name, factor in model.published_layouts[chosen].scale.items():
            if name in translated:
                translated[name] = translated[name] * translated[name].dtype.type(factor)
                remarks.append(f"{name} times {factor}: dropout scales elsewhere in this network of {chosen}")
    return Translated(translated, remarks)


def _readings(arrays: Arrays, model: "nn.Layer", layout: str | None) -> Iterator[Reading]:
    wanted = set(model.state_dict())
    of_torch = {_torch_name(name): name for name in wanted}
    tables = {"torch": of_torch, "paddle": {name: name for name in wanted}}
    if layout is None and of_torch == tables["paddle"]:  # without batch norms the names do not say it
        tables = {"either": of_torch}
    elif layout is not None:
        tables = {layout: tables[layout]}
    for publisher, published in getattr(model, "published_layouts", {}).items():
        if layout != "torch":
            tables[publisher] = {their_name: name for name in wanted if (their_name := published.name_of(name))}
    for prefix in _common_prefixes(list(arrays)):
        for kind, table in tables.items():
            names = {}
            for full_name in arrays:
                name = full_name.removeprefix(prefix)
                if not (kind in ("torch", "either") and name.endswith(COUNTER)):
                    names[full_name] = table.get(name, name)
            yield Reading(kind, prefix, names, sum(name.removeprefix(prefix) in table for name in names))


def _torch_name(name: str) -> str:
    owner, _, leaf = name.rpartition(".")
    torch_leaf = next((theirs for theirs, ours in STATISTICS.items() if ours == leaf), leaf)
    return f"{owner}.{torch_leaf}" if owner else torch_leaf


def _common_prefixes(names: list[str]) -> Iterator[str]:
    """The empty prefix, and every chain of PREFIXES that all names begin with."""
    prefix = ""
    while True:
        yield prefix
        longer = (f"{prefix}{one}" for one in PREFIXES if all(name.startswith(prefix + one) for name in names))
        following = next(longer, None)
        if following is None or not names or len(following) > 200:
            return
        prefix = following


def _linear_weights(model: "nn.Layer") -> dict[str, tuple[int, int]]:
    """{name of a weight: (in_features, out_features)} of the linear layers."""
    from paddle import nn

    layers = [(name, layer) for name, layer in model.named_sublayers(include_self=True) if isinstance(layer, nn.Linear)]
    return {f"{name}.weight" if name else "weight": tuple(layer.weight.shape) for name, layer in layers}


def _layout_by_shapes(arrays: Arrays, model: "nn.Layer", source: object) -> str:
    """The layout of all the file, by the input sides of its linear layers; a new head may have another output side."""
    votes = set()
    for name, (num_inputs, _) in _linear_weights(model).items():
        if name in arrays and arrays[name].ndim == 2 and arrays[name].shape[0] != arrays[name].shape[1]:
            sides = arrays[name].shape
            votes |= {"paddle"} if sides[0] == num_inputs else {"torch"} if sides[1] == num_inputs else set()
    if len(votes) != 1:
        raise CheckpointError(
            f"{source} does not say whether its linear layers have the layout of PyTorch or of Paddle; convert it with "
            "`python -m alignment.weights convert --layout`"
        )
    return votes.pop()


def _transposed(arrays: Arrays, model: "nn.Layer") -> tuple[Arrays, int]:
    linear = _linear_weights(model)
    turned = {name for name in arrays if name in linear and arrays[name].ndim == 2}
    return {n: np.ascontiguousarray(a.T) if n in turned else a for n, a in arrays.items()}, len(turned)


def first_names(arrays: Arrays, state: dict) -> str:
    """Two lines for a message about weights that do not fit: the first names of the file and of the model."""
    return (
        f"the file has  {', '.join(islice(arrays, NUM_NAMES_SHOWN))}, ...\n"
        f"the model has {', '.join(islice(state, NUM_NAMES_SHOWN))}, ..."
    )
