"""How the names and layouts of one publisher become the port's and back: declarative rules that undo themselves."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from common.errors import WeightsError

Arrays = dict[str, np.ndarray]

# What every torch network with batch norms needs: Paddle has other names for the statistics, and no counter.
BATCH_NORM = (("*.running_mean", "*._mean"), ("*.running_var", "*._variance"))
COUNTERS = {"*.num_batches_tracked": "*.running_mean"}


@dataclass(frozen=True)
class Rules:
    """One layout of a network's weights, seen from the port.

    Attributes:
        rename: pairs (theirs, port's), of which the first that fits counts; `*` stands for any text, dots included.
        endings: the same, tried after `rename`.
        transpose: names of the port, with `*`, whose two axes change places.
        drop: {theirs: theirs beside it}: counters without a match; on the way back an int64 0 beside each neighbour.
        prefix: removed if every name carries it (torch's DataParallel).
        scale: {port's: factor}, powers of two, so that it can be undone exactly.
    """

    rename: tuple[tuple[str, str], ...] = ()
    endings: tuple[tuple[str, str], ...] = ()
    transpose: tuple[str, ...] = ()
    drop: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    scale: Mapping[str, float] = field(default_factory=dict)

    def name_for_port(self, name: str) -> str:
        return _renamed(_renamed(name, self.rename), self.endings)

    def name_for_them(self, name: str) -> str:
        return _renamed(_renamed(name, _reversed(self.endings)), _reversed(self.rename))

    def axes(self, port_name: str) -> list[int] | None:
        """[1, 0] for what is transposed on the way, in either direction."""
        return [1, 0] if any(_match(pattern, port_name) for pattern in self.transpose) else None

    def idle(self, port_names: Iterable[str]) -> list[str]:
        """One line for each name in `transpose` that nothing of the port has: a slip of the pen."""
        names = list(port_names)
        return [
            f"transpose: the port has no {pattern}" for pattern in self.transpose
            if not any(_match(pattern, name) for name in names)
        ]  # fmt: skip

    def to_port(self, arrays: Arrays) -> Arrays:
        """Every entry renamed and transposed by the rules; WeightsError if the rules could not undo it."""
        if self.prefix and arrays and all(name.startswith(self.prefix) for name in arrays):
            arrays = {name.removeprefix(self.prefix): array for name, array in arrays.items()}
        kept = {name: array for name, array in arrays.items() if not any(_match(p, name) for p in self.drop)}
        port = {self.name_for_port(name): self._turned(self.name_for_port(name), kept[name]) for name in kept}
        for name in self.scale.keys() & port.keys():
            port[name] = port[name] * port[name].dtype.type(self.scale[name])
        for name in kept:
            back = self.name_for_them(self.name_for_port(name))
            if back != name:
                raise WeightsError(f"the rename rules lose a name: {name} -> {self.name_for_port(name)} -> {back}")
        return port

    def from_port(self, arrays: Arrays) -> Arrays:
        """The way back; counters are written as 0."""
        scaled = {name: array / array.dtype.type(self.scale.get(name, 1)) for name, array in arrays.items()}
        theirs = {self.name_for_them(name): self._turned(name, array) for name, array in scaled.items()}
        for pattern, neighbour in self.drop.items():
            beside = [_renamed(name, [(neighbour, pattern)]) for name in theirs if _match(neighbour, name)]
            theirs |= {name: np.zeros((), np.int64) for name in beside}
        return theirs

    def _turned(self, port_name: str, array: np.ndarray) -> np.ndarray:
        axes = self.axes(port_name)
        if axes and array.ndim != 2:
            raise WeightsError(f"{port_name} has the shape {list(array.shape)}; only matrices can be transposed")
        return np.ascontiguousarray(array.transpose(axes)) if axes else array


def unaccounted(arrays: Arrays, expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """One line for each entry that is missing, extra, or of another shape or kind than the port expects."""
    problems = [f"missing: {name} {list(shape)}" for name, shape in expected.items() if name not in arrays]
    problems += [f"extra: {name} {list(array.shape)}" for name, array in arrays.items() if name not in expected]
    for name, shape in expected.items():
        if name not in arrays:
            continue
        array = arrays[name]
        if array.shape != tuple(shape):
            problems.append(f"wrong shape: {name} is {list(array.shape)}, the port has {list(shape)}")
        elif array.dtype.kind != "f":
            problems.append(f"wrong type: {name} is {array.dtype}, the port has floating point numbers")
    return problems


def _match(pattern: str, name: str) -> re.Match | None:
    return re.fullmatch("(.+)".join(re.escape(part) for part in pattern.split("*")), name)


def _reversed(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(port, theirs) for theirs, port in pairs]


def _renamed(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    """The name after the first pair that fits; each `*` of the new name takes the text of the old one's."""
    for old, new in pairs:
        if found := _match(old, name):
            parts = new.split("*")
            return parts[0] + "".join(text + part for text, part in zip(found.groups(), parts[1:], strict=True))
    return name
