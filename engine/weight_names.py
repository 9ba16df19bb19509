"""Translates the arrays of a file to the names and layouts of a Paddle model, by the kinds of its layers."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common.errors import CheckpointError

if TYPE_CHECKING:
    from paddle import nn

Arrays = dict[str, np.ndarray]

# What wrappers put before every name: DataParallel, torch.compile, Lightning, detectors; Paddle's DataParallel.
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "_layers.")
COUNTER = ".num_batches_tracked"  # of torch's batch norms; Paddle has none
STATISTICS = {"running_mean": "_mean", "running_var": "_variance"}  # torch's names and Paddle's
NUM_NAMES_SHOWN = 5


def first_names(arrays: Iterable[str], state: Iterable[str]) -> str:
    """Format the first names of the file and of the model, as two lines of a message."""
    lines = []
    for names in (arrays, state):
        first = [name[:80] for name in islice(names, NUM_NAMES_SHOWN + 1)]
        lines.append(", ".join(first[:NUM_NAMES_SHOWN]) + ", ..." * (len(first) > NUM_NAMES_SHOWN))
    return f"the file has  {lines[0]}\nthe model has {lines[1]}"


class Translated(NamedTuple):
    """Arrays by the names of a Paddle model, and remarks for the log on what was changed."""

    arrays: Arrays
    remarks: list[str]


class Reading(NamedTuple):
    """One interpretation of the names of a file: layout, prefix to remove, and number of known names."""

    layout: str
    prefix: str
    names: dict[str, str]  # the file's names -> the model's
    num_known: int


def to_paddle_names(
    arrays: Arrays, model: "nn.Layer", *, layout: str | None = None, source: object, trained_with: str = ""
) -> Translated:
    """Translate the arrays of a file to the names and layouts of a Paddle model.

    Weights of linear layers are transposed where the file has PyTorch's layout, because the layer of the model is a
    Linear; the statistics of batch norms are renamed and the counters left out. A model may declare the names of other
    publishers of the same network as `published_layouts`, and a hint for files of networks that are mistaken for it as
    `other_networks`.

    Args:
        arrays: by the file's names.
        model: gives the wanted names and the kinds of its layers.
        layout: "torch" or "paddle" where the file says it; None: the names say it, or else the shapes of the linear
            layers.
        source: the file, for messages.
        trained_with: flags with which the weights were trained, for messages.

    Returns:
        The arrays, of which some may still not fit (`set_weights` says which), and remarks for the log.

    Raises:
        CheckpointError: no name of the file is one of the model's, or the layout stays in doubt.
    """
    best = max(_readings(arrays, model, layout), key=lambda reading: (reading.num_known, -len(reading.prefix)))
    if best.num_known == 0:
        hints = [hint for name, hint in getattr(model, "other_networks", {}).items() if name in arrays]
        known = f"it was trained with {trained_with}; " if trained_with else ""
        raise CheckpointError(
            f"{source} does not fit the model: {known}{hints[0] if hints else 'no name is the same'}\n"
            f"{first_names(arrays, model.state_dict())}"
        )
    remarks = [f"the prefix {best.prefix!r} was taken off all names"] if best.prefix else []
    translated = {new: arrays[old] for old, new in best.names.items()}
    if len(translated) != len(best.names):
        twice = [name for name, times in Counter(best.names.values()).items() if times > 1]
        raise CheckpointError(f"{source} has two entries that would both be {twice[0][:80]!r}")
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
    """Yield the empty prefix, and every chain of PREFIXES with which all names begin."""
    prefix = ""
    while True:
        yield prefix
        longer = (f"{prefix}{one}" for one in PREFIXES if all(name.startswith(prefix + one) for name in names))
        following = next(longer, None)
        if following is None or not names or len(following) > 200:
            return
        prefix = following


def find_tensor(arrays: Arrays, names: Iterable[str]) -> np.ndarray | None:
    """Find the first tensor with one of these names, with or without the prefix of a wrapper; needs no Paddle."""
    for prefix in _common_prefixes(list(arrays)):
        for name in names:
            if prefix + name in arrays:
                return arrays[prefix + name]
    return None


def _linear_weights(model: "nn.Layer") -> dict[str, tuple[int, int]]:
    """Shapes (in_features, out_features) of the linear layers, by the name of the weight."""
    from paddle import nn

    layers = [(name, layer) for name, layer in model.named_sublayers(include_self=True) if isinstance(layer, nn.Linear)]
    return {f"{name}.weight" if name else "weight": tuple(layer.weight.shape) for name, layer in layers}


def _layout_by_shapes(arrays: Arrays, model: "nn.Layer", source: object) -> str:
    """Decide the layout of the file by the inputs of its linear layers; a new classifier may have other outputs."""
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
