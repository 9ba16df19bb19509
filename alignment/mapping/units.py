"""Units: the layers with weights of a model, and the parameters that its code uses directly, in order of execution."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import numpy as np

from ..exchange import as_floats

IN_OUT, OUT_IN = "in_out", "out_in"  # order of the axes of the matrix of a linear layer
PARAMETER = "parameter"  # kind of a unit that is one parameter or buffer, read by the code of a larger layer

# One word for the layers of both frameworks that compute the same: {name of the class in small letters: word}.
KINDS = {
    "nondynamicallyquantizablelinear": "linear", "lazylinear": "linear",
    "convtranspose1d": "conv1dtranspose", "convtranspose2d": "conv2dtranspose", "convtranspose3d": "conv3dtranspose",
    "simplernn": "rnn", "simplernncell": "rnncell", "swish": "silu",
    "syncbatchnorm": "batchnorm", "batchnorm1d": "batchnorm", "batchnorm2d": "batchnorm", "batchnorm3d": "batchnorm",
    "instancenorm1d": "instancenorm", "instancenorm2d": "instancenorm", "instancenorm3d": "instancenorm",
}  # fmt: skip
KNOWN = {*KINDS.values(), "conv1d", "conv2d", "conv3d", "embedding", "lstm", "gru", "lstmcell", "grucell", "prelu",
         "layernorm", "groupnorm", "bilinear", "multiheadattention", "embeddingbag"}  # fmt: skip


def kind_of(class_name: str) -> str:
    """Kind of a layer by the name of its class, one word for both frameworks."""
    name = class_name.removeprefix("Parametrized").lower()
    return KINDS.get(name, name)


@dataclass
class Entry:
    """A parameter or buffer of a unit.

    Attributes:
        name: in the state of the model.
        role: name in the layer that has it.
        shape: of the tensor.
        is_parameter: False for a buffer.
        is_float: whether it holds floating point numbers.
        axes: IN_OUT or OUT_IN for the matrix of a linear layer.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    is_parameter: bool = True
    is_float: bool = True
    axes: str = ""


@dataclass
class Unit:
    """A layer with weights, or a parameter that is read directly.

    Attributes:
        path: of the layer; of the parameter, its name.
        kind: see `kind_of`.
        entries: its parameters and buffers.
        is_called: whether the forward used it.
        inputs: fingerprints of the tensors of its first call.
        outputs: fingerprints of what the call returned.
    """

    path: str
    kind: str
    entries: list[Entry]
    is_called: bool = True
    inputs: list[list] = field(default_factory=list)
    outputs: list[list] = field(default_factory=list)

    @classmethod
    def of_message(cls, values: dict) -> "Unit":
        """The unit that the other process sent as plain values."""
        entries = [Entry(**entry | {"shape": tuple(entry["shape"])}) for entry in values["entries"]]
        return cls(**values | {"entries": entries})

    def as_message(self) -> dict:
        """The unit as plain values."""
        return asdict(self)


def fingerprint(array: np.ndarray) -> list:
    """[shape, sum of the sizes, weighted sum] of an array: equal for equal arrays, and different for most others."""
    return [list(np.shape(array)), *two_sums(np.asarray(array))]


def two_sums(array: np.ndarray) -> tuple[float, float]:
    """Sum of the sizes, and a weighted sum that depends on the order."""
    array = as_floats(array)
    weights = np.cos(np.arange(array.size, dtype=np.float64)).reshape(array.shape)
    return float(np.abs(array).sum()), float((array * weights).sum())


def is_equal(first: Iterable[list], second: Iterable[list], tolerance: float = 1e-7) -> bool:
    """Whether the fingerprints of two lists of arrays are equal but for rounding."""
    first, second = list(first), list(second)
    if len(first) != len(second):
        return False
    for (shape, size, weighted), (other_shape, other_size, other_weighted) in zip(first, second, strict=True):
        scale = tolerance * max(size, other_size, 1e-300)
        if shape != other_shape or abs(size - other_size) > scale or abs(weighted - other_weighted) > scale:
            return False
    return True


class UnitRecorder:
    """Collects the units of a model in the order in which one forward uses them.

    Args:
        entries: {path of a layer: its entries}, where a layer that is compared as a whole has those of its sublayers.
        whole_layers: {path: kind} of the layers that are compared as a whole.
    """

    def __init__(self, entries: dict[str, list[Entry]], whole_layers: dict[str, str]):
        self._entries, self._whole = entries, whole_layers
        self.units: dict[str, Unit] = {}

    def use_layer(self, path: str, inputs: Iterable[np.ndarray] = ()) -> None:
        """A layer is called, or its weights are read by other code."""
        if path in self._whole and path not in self.units and self._entries.get(path):
            prints = [fingerprint(array) for array in inputs]
            self.units[path] = Unit(path, self._whole[path], self._entries[path], inputs=prints)

    def finish_layer(self, path: str, outputs: Iterable[np.ndarray]) -> None:
        """The call of a layer ended."""
        if path in self.units and not self.units[path].outputs:
            self.units[path].outputs = [fingerprint(array) for array in outputs]

    def use_entry(self, path: str, role: str) -> None:
        """The code of a layer that has sublayers reads a parameter or buffer of its own."""
        for entry in self._entries.get(path, ()):
            if entry.role == role and entry.name not in self.units:
                self.units[entry.name] = Unit(entry.name, PARAMETER, [entry])

    def all_units(self) -> list[Unit]:
        """The units that were used in order of their use, and then the others in order of registration."""
        units = list(self.units.values())
        for path, entries in self._entries.items():
            if path in self._whole and path not in self.units and entries:
                units.append(Unit(path, self._whole[path], entries, is_called=False))
            elif path not in self._whole:
                units += [
                    Unit(entry.name, PARAMETER, [entry], is_called=False)
                    for entry in entries
                    if entry.name not in self.units
                ]
        return units


def outermost(layers: Iterable[tuple[str, object]], is_whole: Callable[[object], bool]) -> dict[str, object]:
    """{path: layer} of the layers that are compared as a whole; none of them is in another.

    Args:
        layers: (path, layer) of all layers of a model, each before those inside it.
        is_whole: whether a layer is compared as a whole, if no other one around it is.
    """
    found: dict[str, object] = {}
    for path, layer in layers:
        is_inside = any(not outer or path.startswith(f"{outer}.") for outer in found)
        if not is_inside and is_whole(layer):
            found[path] = layer
    return found


def second_names(state: Mapping[str, object]) -> dict[str, str]:
    """{name in the state: first name of the same tensor}, for tensors with several names, as those of an LSTM."""
    first: dict[int, str] = {}
    canonical = {name: first.setdefault(id(value), name) for name, value in state.items()}
    return {name: other for name, other in canonical.items() if other != name}


@contextmanager
def attributes_watched(
    recorder: UnitRecorder, base: type, tensor: type, paths: dict[int, str], whole: Mapping[str, object]
) -> Iterator[None]:
    """Inside the context the recorder hears of parameters and buffers that code reads as attributes of layers.

    Args:
        recorder: of one forward.
        base: class of the layers of the framework.
        tensor: class of its tensors.
        paths: {id of a layer: path}.
        whole: layers that are compared as a whole, by path.
    """
    original = base.__getattr__

    def read(layer, name):
        value = original(layer, name)
        path = paths.get(id(layer))
        if path is not None and isinstance(value, tensor):
            recorder.use_layer(path) if path in whole else recorder.use_entry(path, name)
        return value

    base.__getattr__ = read
    try:
        yield
    finally:
        base.__getattr__ = original
