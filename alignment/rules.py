"""Rules that turn the names and layouts of a publisher's weights into those of the port, and back without loss."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from common.errors import WeightsError

Arrays = dict[str, np.ndarray]

# What every torch network with batch norms needs: Paddle names the statistics otherwise and has no counter.
BATCH_NORM = (("*.running_mean", "*._mean"), ("*.running_var", "*._variance"))
COUNTERS = {"*.num_batches_tracked": "*.running_mean"}


@dataclass(frozen=True)
class Rules:
    """How one publisher's weights of a network (the source) differ from those of the port.

    In a pattern, `*` stands for any text, dots included.

    Attributes:
        rename: pairs (pattern of the source, pattern of the port); the first that fits a name is applied.
        endings: pairs as in `rename`, applied after it.
        transpose: patterns of port names of matrices whose two axes are exchanged.
        drop: {pattern of a counter of the source: pattern of an entry beside it}. Counters have no match in the port;
            on the way back an int64 0 is written beside each such entry.
        prefix: removed if every name of the source starts with it, as names of torch's DataParallel do.
        scale: {port name: factor}; the factors are powers of two, so that the way back is exact.
    """

    rename: tuple[tuple[str, str], ...] = ()
    endings: tuple[tuple[str, str], ...] = ()
    transpose: tuple[str, ...] = ()
    drop: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    scale: Mapping[str, float] = field(default_factory=dict)

    def port_name(self, source_name: str) -> str:
        """Name in the port of an entry of the source."""
        return _rename(_rename(source_name, self.rename), self.endings)

    def source_name(self, port_name: str) -> str:
        """Name in the source of an entry of the port."""
        return _rename(_rename(port_name, _reversed(self.endings)), _reversed(self.rename))

    def axes(self, port_name: str) -> list[int] | None:
        """[1, 0] for an entry that is transposed, in either direction; None for others."""
        return [1, 0] if any(_match(pattern, port_name) for pattern in self.transpose) else None

    def unused_transposes(self, port_names: Iterable[str]) -> list[str]:
        """One line for each pattern of `transpose` that fits no name of the port."""
        names = list(port_names)
        return [
            f"transpose: the port has no {pattern}"
            for pattern in self.transpose
            if not any(_match(pattern, name) for name in names)
        ]

    def to_port(self, arrays: Arrays) -> Arrays:
        """Entries of the source with the names and layouts of the port.

        Raises:
            WeightsError: two names of the source become one, or an array to transpose is not a matrix.
        """
        if self.prefix and arrays and all(name.startswith(self.prefix) for name in arrays):
            arrays = {name.removeprefix(self.prefix): array for name, array in arrays.items()}
        kept = {name: array for name, array in arrays.items() if not any(_match(p, name) for p in self.drop)}
        port = {self.port_name(name): self._transposed(self.port_name(name), kept[name]) for name in kept}
        for name in self.scale.keys() & port.keys():
            port[name] = port[name] * port[name].dtype.type(self.scale[name])
        for name in kept:
            back = self.source_name(self.port_name(name))
            if back != name:
                raise WeightsError(f"the rename rules lose a name: {name} -> {self.port_name(name)} -> {back}")
        return port

    def from_port(self, arrays: Arrays) -> Arrays:
        """Entries of the port with the names and layouts of the source; counters are written as 0.

        Raises:
            WeightsError: an array to transpose is not a matrix.
        """
        scaled = {name: array / array.dtype.type(self.scale.get(name, 1)) for name, array in arrays.items()}
        source = {self.source_name(name): self._transposed(name, array) for name, array in scaled.items()}
        for counter, neighbour in self.drop.items():
            names = [_rename(name, [(neighbour, counter)]) for name in source if _match(neighbour, name)]
            source |= {name: np.zeros((), np.int64) for name in names}
        return source

    def _transposed(self, port_name: str, array: np.ndarray) -> np.ndarray:
        axes = self.axes(port_name)
        if axes and array.ndim != 2:
            raise WeightsError(f"{port_name} has the shape {list(array.shape)}; only matrices can be transposed")
        return np.ascontiguousarray(array.transpose(axes)) if axes else array


def unaccounted(arrays: Arrays, expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """One line for each entry that is missing, extra, or of another shape or type than the port expects."""
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
    return [(port, source) for source, port in pairs]


def _rename(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    """The name changed by the first pair that fits; each `*` of the new pattern takes the text of that of the old."""
    for old, new in pairs:
        if match := _match(old, name):
            parts = new.split("*")
            return parts[0] + "".join(text + part for text, part in zip(match.groups(), parts[1:], strict=True))
    return name
