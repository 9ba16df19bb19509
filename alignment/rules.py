"""Rules that turn the names and layouts of a publisher's weights into those of the port, and back without loss."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np

from common.errors import WeightsError

from .mapping.patterns import fill, match, rename

Arrays = dict[str, np.ndarray]

# What every torch network with batch norms needs: Paddle names the statistics otherwise and has no counter.
BATCH_NORM = (("*.running_mean", "*._mean"), ("*.running_var", "*._variance"))
COUNTERS = {"*.num_batches_tracked": "*.running_mean"}


class Reshape(NamedTuple):
    """Shape of an entry in the source and in the port, before it is transposed; one length of each may be -1."""

    source: tuple[int, ...]
    port: tuple[int, ...]


@dataclass(frozen=True)
class Rules:
    """How one publisher's weights of a network (the source) differ from those of the port.

    In a pattern, `*` stands for any text, dots included, and `{*}` for a whole number: with `layers.{*}.w` and
    `blocks.{*+1}.w`, layers.0.w becomes blocks.1.w.

    Attributes:
        rename: pairs (pattern of the source, pattern of the port); the first that fits a name is applied.
        endings: pairs as in `rename`, applied after it.
        transpose: patterns of port names of matrices whose two axes are exchanged.
        drop: {pattern of an entry of the source without a match in the port: pattern of an entry beside it}. On the way
            back an int64 0 is written beside each such entry; an empty text writes nothing.
        prefix: removed if every name of the source starts with it, as names of torch's DataParallel do.
        scale: {port name: factor}; the factors are powers of two, so that the way back is exact.
        split: {pattern of the source: patterns of the port}. Axis 0 of the source is divided into equal parts.
        concat: {pattern of the port: patterns of the source}, which are joined along axis 0.
        reshape: {pattern of the port: shapes of the entry on both sides}.
    """

    rename: tuple[tuple[str, str], ...] = ()
    endings: tuple[tuple[str, str], ...] = ()
    transpose: tuple[str, ...] = ()
    drop: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    scale: Mapping[str, float] = field(default_factory=dict)
    split: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    concat: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reshape: Mapping[str, Reshape] = field(default_factory=dict)

    def as_message(self) -> dict:
        """The rules as plain values."""
        return asdict(self)

    @classmethod
    def of_message(cls, values: dict) -> "Rules":
        """The rules that the other process sent with `as_message`."""
        pairs = {key: tuple(map(tuple, values[key])) for key in ("rename", "endings")}
        tables = {key: {name: tuple(parts) for name, parts in values[key].items()} for key in ("split", "concat")}
        reshape = {name: Reshape(*map(tuple, shapes)) for name, shapes in values["reshape"].items()}
        return cls(**values | pairs | tables | {"reshape": reshape, "transpose": tuple(values["transpose"])})

    def port_name(self, source_name: str) -> str:
        """Name in the port of an entry of the source that is neither split nor joined."""
        return rename(rename(source_name, self.rename), self.endings)

    def source_name(self, port_name: str) -> str:
        """Name in the source of an entry of the port that is neither split nor joined."""
        return rename(rename(port_name, _reversed(self.endings)), _reversed(self.rename))

    def port_names(self, source_name: str) -> list[str]:
        """Names in the port of what an entry of the source becomes; none if it is dropped."""
        if any(match(pattern, source_name) is not None for pattern in self.drop):
            return []
        if found := _group_of(self.split, source_name, by_key=True):
            return found.parts
        if found := _group_of(self.concat, source_name):
            return [found.whole]
        return [self.port_name(source_name)]

    def axes(self, port_name: str) -> list[int] | None:
        """[1, 0] for an entry that is transposed, in either direction; None for others."""
        return [1, 0] if any(match(pattern, port_name) is not None for pattern in self.transpose) else None

    def unused_transposes(self, port_names: Iterable[str]) -> list[str]:
        """One line for each pattern of `transpose` that fits no name of the port."""
        names = list(port_names)
        return [
            f"transpose: the port has no {pattern}"
            for pattern in self.transpose
            if all(match(pattern, name) is None for name in names)
        ]

    def to_port(self, arrays: Arrays) -> Arrays:
        """Entries of the source with the names and layouts of the port.

        An entry of the port that is joined from several is left out if one of them is missing.

        Raises:
            WeightsError: two names of the source become one, or an array cannot be transposed, split or reshaped.
        """
        if self.prefix and arrays and all(name.startswith(self.prefix) for name in arrays):
            arrays = {name.removeprefix(self.prefix): array for name, array in arrays.items()}
        port: Arrays = {}
        for name, array in arrays.items():
            for port_name, part in self._to_port(name, array, arrays):
                reshape = self._reshape(port_name)
                part = _reshaped(port_name, part, reshape.port) if reshape else part
                port[port_name] = self._transposed(port_name, part)
        for name in self.scale.keys() & port.keys():
            port[name] = port[name] * port[name].dtype.type(self.scale[name])
        return port

    def each_to_port(self, arrays: Arrays) -> Iterator[tuple[str, np.ndarray]]:
        """Name and array of each entry of `to_port`; without joins one at a time, for copies of all take gigabytes."""
        parts = [arrays] if self.concat or self.prefix else ({name: array} for name, array in arrays.items())
        for part in parts:
            yield from self.to_port(part).items()

    def from_port(self, arrays: Arrays) -> Arrays:
        """Entries of the port with the names and layouts of the source; counters are written as 0.

        Raises:
            WeightsError: an array cannot be transposed, split or reshaped.
        """
        plain = {name: self._source_layout(name, array) for name, array in arrays.items()}
        source: Arrays = {}
        for name, array in plain.items():
            if found := _group_of(self.split, name):
                if name == found.parts[0] and all(part in plain for part in found.parts):
                    source[found.whole] = np.concatenate([plain[part] for part in found.parts])
            elif found := _group_of(self.concat, name, by_key=True):
                source |= zip(found.parts, _equal_parts(name, array, len(found.parts)), strict=True)
            else:
                source[self.source_name(name)] = array
        for counter, neighbour in self.drop.items():
            names = [rename(name, [(neighbour, counter)]) for name in source if match(neighbour, name) is not None]
            source |= {name: np.zeros((), np.int64) for name in names}
        return source

    def _to_port(self, name: str, array: np.ndarray, arrays: Arrays) -> Iterator[tuple[str, np.ndarray]]:
        """The entries of the port that begin with this entry of the source, in the layout of the source."""
        if any(match(pattern, name) is not None for pattern in self.drop):
            return
        if found := _group_of(self.split, name, by_key=True):
            yield from zip(found.parts, _equal_parts(name, array, len(found.parts)), strict=True)
        elif found := _group_of(self.concat, name):
            if name == found.parts[0] and all(part in arrays for part in found.parts):
                yield found.whole, np.concatenate([arrays[part] for part in found.parts])
        else:
            port_name = self.port_name(name)
            if (back := self.source_name(port_name)) != name:
                raise WeightsError(f"the rename rules lose a name: {name} -> {port_name} -> {back}")
            yield port_name, array

    def _source_layout(self, name: str, array: np.ndarray) -> np.ndarray:
        scaled = array / array.dtype.type(self.scale[name]) if name in self.scale else array
        transposed = self._transposed(name, scaled)
        reshape = self._reshape(name)
        return _reshaped(name, transposed, reshape.source) if reshape else transposed

    def _reshape(self, port_name: str) -> Reshape | None:
        return next((shapes for pattern, shapes in self.reshape.items() if match(pattern, port_name) is not None), None)

    def _transposed(self, port_name: str, array: np.ndarray) -> np.ndarray:
        axes = self.axes(port_name)
        if axes and array.ndim != 2:
            raise WeightsError(f"{port_name} has the shape {list(array.shape)}; only matrices can be transposed")
        return np.ascontiguousarray(array.transpose(axes)) if axes else array


class _Group(NamedTuple):
    """Names of an entry and of the parts that it is divided into or joined from."""

    whole: str
    parts: list[str]


def _group_of(table: Mapping[str, tuple[str, ...]], name: str, *, by_key: bool = False) -> _Group | None:
    """The group of a table of `split` or `concat` that a name is in: as the whole if `by_key`, else as a part."""
    for whole, parts in table.items():
        for pattern in (whole,) if by_key else parts:
            if (texts := match(pattern, name)) is not None:
                return _Group(fill(whole, texts), [fill(part, texts) for part in parts])
    return None


def _equal_parts(name: str, array: np.ndarray, num_parts: int) -> list[np.ndarray]:
    if array.ndim == 0 or array.shape[0] % num_parts:
        raise WeightsError(f"{name} has the shape {list(array.shape)}; its axis 0 has no {num_parts} equal parts")
    return np.split(array, num_parts)


def _reshaped(name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return array.reshape(shape)
    except ValueError:
        raise WeightsError(
            f"{name} has the shape {list(array.shape)}, which is not reshaped to {list(shape)}"
        ) from None


def unaccounted(arrays: Arrays, expected: Mapping[str, tuple[int, ...]], integers: Iterable[str] = ()) -> list[str]:
    """One line for each entry that is missing, extra, or of another shape or type than the port expects.

    `integers` are names of entries of the port that hold whole numbers.
    """
    integers = set(integers)
    problems = [f"missing: {name} {list(shape)}" for name, shape in expected.items() if name not in arrays]
    problems += [f"extra: {name} {list(array.shape)}" for name, array in arrays.items() if name not in expected]
    for name, shape in expected.items():
        if name not in arrays:
            continue
        array = arrays[name]
        if array.shape != tuple(shape):
            problems.append(f"wrong shape: {name} is {list(array.shape)}, the port has {list(shape)}")
        elif (array.dtype.kind == "f") == (name in integers):
            kind = "whole" if name in integers else "floating point"
            problems.append(f"wrong type: {name} is {array.dtype}, the port has {kind} numbers")
    return problems


def _reversed(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(port, source) for source, port in pairs]
