"""Give every model one tensor as input and one as output, so that the stages compare any model as they do a classifier.

Several inputs are packed into one array, and the forward of the model is replaced by one that unpacks them. Several
outputs are packed into one tensor, which keeps what the model returned in its attribute `original`.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

import numpy as np

FLOAT, INTEGER, BOOLEAN = "float32", "int64", "bool"


class Framework(NamedTuple):
    """Functions of a framework.

    They are is_tensor, cast(tensor, type), clip(tensor, low, high), concat(tensors, axis), and as_real(complex tensor),
    which makes pairs along a new last axis.
    """

    is_tensor: Callable
    cast: Callable
    clip: Callable
    concat: Callable
    as_real: Callable


@dataclass(frozen=True)
class InputLayout:
    """One input inside the packed array.

    Attributes:
        name: of the argument of forward, or an empty text.
        shape: of the tensor; the first length is that of the batch.
        type: float32, int64 or bool.
        range: lowest and highest value; None leaves numbers as they are drawn.
    """

    name: str
    shape: tuple[int, ...]
    type: str = FLOAT
    range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Adapter:
    """How the inputs and outputs of a model are packed.

    Attributes:
        inputs: the inputs of the model, in order.
        drawn: lowest and highest value of the packed array.
        output: key, position, or keys with dots between, of the output that is compared; empty packs all.
        orders: paths of the tensors that the reference returns, in evaluation mode and in train mode.
    """

    inputs: list[InputLayout] = field(default_factory=list)
    drawn: tuple[float, float] = (-2.0, 2.0)
    output: str | int = ""
    orders: list[list[str]] = field(default_factory=list)

    @classmethod
    def of_message(cls, values: dict | None) -> "Adapter | None":
        """The adapter from plain values."""
        if values is None:
            return None
        return cls(
            **values | {"inputs": [InputLayout(**item | {"shape": tuple(item["shape"])}) for item in values["inputs"]]}
        )

    def as_message(self) -> dict:
        """The adapter as plain values."""
        return asdict(self)

    @property
    def has_common_batch(self) -> bool:
        """Whether all inputs have the same first length, so that the packed array is [B, N], and else [1, N]."""
        return len({layout.shape[0] for layout in self.inputs if layout.shape}) == 1 and all(
            layout.shape for layout in self.inputs
        )

    def packed_shape(self) -> tuple[int, ...]:
        """Shape of the packed array; that of the input itself if there is one alone."""
        if len(self.inputs) == 1:
            return self.inputs[0].shape
        total = sum(int(np.prod(layout.shape)) for layout in self.inputs)
        return (self.inputs[0].shape[0], total // self.inputs[0].shape[0]) if self.has_common_batch else (1, total)

    def unpack(self, packed, framework: Framework) -> dict:
        """The inputs of the model by name, from the packed tensor."""
        if len(self.inputs) == 1:
            return {self.inputs[0].name: self._converted(packed, self.inputs[0], framework)}
        inputs, start = {}, 0
        for layout in self.inputs:
            size = int(np.prod(layout.shape[1:] if self.has_common_batch else layout.shape))
            part = packed[:, start : start + size]
            shape = [part.shape[0], *layout.shape[1:]] if self.has_common_batch else list(layout.shape)
            inputs[layout.name] = self._converted(part.reshape(shape), layout, framework)
            start += size
        return inputs

    def _converted(self, tensor, layout: InputLayout, framework: Framework):
        if layout.range is not None and tuple(layout.range) != tuple(self.drawn):
            low, high = layout.range
            tensor = (tensor - self.drawn[0]) * ((high - low) / (self.drawn[1] - self.drawn[0])) + low
            tensor = framework.clip(tensor, low, high)  # also of inputs that a stage makes larger
        if layout.type == FLOAT:
            return tensor
        if layout.type == BOOLEAN:
            return tensor > sum(layout.range or self.drawn) / 2
        low, high = layout.range or self.drawn
        return framework.cast(framework.clip(tensor.round(), low, high), INTEGER)

    def pack_output(self, output, framework: Framework):
        """One tensor of what the model returned; its attribute `outputs` has path and shape of each part.

        Tensors with the paths of the reference are packed in the order of the reference: two tables are equal if they
        have equal values under equal keys, in whatever order these were written.

        Raises:
            TypeError: there is no tensor in it, or no output of the name in `output`.
        """
        tensors = tensors_of(selected(output, self.output), framework.is_tensor)
        for paths in self.orders:
            tensors = in_order(tensors, paths)
        if not tensors:
            raise TypeError(f"the model returns no tensor, but {type(output).__name__}")
        if len(tensors) == 1:
            return tensors[0][1]
        packed = packed_tensors([tensor for _, tensor in tensors], framework)
        packed.is_packed = True
        packed.outputs = [[path, list(tensor.shape)] for path, tensor in tensors]
        return packed


def packed_tensors(tensors: list, framework: Framework):
    """[B, N] if all tensors have one first length, else [N]."""
    tensors = [framework.as_real(tensor) if "complex" in str(tensor.dtype) else tensor for tensor in tensors]
    floats = [tensor if "float" in str(tensor.dtype) else framework.cast(tensor, FLOAT) for tensor in tensors]
    first = {tensor.shape[0] if len(tensor.shape) else None for tensor in floats}
    kind = next((tensor.dtype for tensor in tensors if "float" in str(tensor.dtype)), floats[0].dtype)
    floats = [tensor if tensor.dtype == kind else framework.cast(tensor, kind) for tensor in floats]
    if len(first) == 1 and None not in first:
        return framework.concat([tensor.reshape([tensor.shape[0], -1]) for tensor in floats], 1)
    return framework.concat([tensor.reshape([-1]) for tensor in floats], 0)


def tensors_of(value: object, is_tensor: Callable[[object], bool], path: str = "") -> list[tuple[str, object]]:
    """(path, tensor) of every tensor in nested lists, tuples, tables and data classes, in order."""
    if is_tensor(value):
        return [(path, value)]
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = zip(getattr(value, "_fields", range(len(value))), value, strict=True)
    elif hasattr(value, "__dataclass_fields__"):
        items = ((name, getattr(value, name)) for name in value.__dataclass_fields__)
    else:
        return []
    found = []
    for key, item in items:
        found += tensors_of(item, is_tensor, f"{path}.{key}" if path else str(key))
    return found


def in_order(tensors: list[tuple[str, object]], paths: list[str]) -> list[tuple[str, object]]:
    """Pairs (path, tensor) in the order of `paths`; unchanged if they have other paths."""
    of_path = dict(tensors)
    return [(path, of_path[path]) for path in paths] if of_path.keys() == set(paths) else tensors


def with_tensors(value: object, is_tensor: Callable[[object], bool], tensors: list) -> object:
    """A copy of what a model returned with other tensors in the order of `tensors_of`; they are taken off the list."""
    if is_tensor(value):
        return tensors.pop(0)
    if isinstance(value, Mapping):
        result = copy.copy(value)
        for key, item in value.items():
            result[key] = with_tensors(item, is_tensor, tensors)
        return result
    if isinstance(value, list | tuple):
        items = [with_tensors(item, is_tensor, tensors) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if hasattr(value, "__dataclass_fields__"):
        names = value.__dataclass_fields__
        return replace(value, **{name: with_tensors(getattr(value, name), is_tensor, tensors) for name in names})
    return value


def return_nested(model, loss: Callable) -> Callable:
    """Let an adapted model return what its own forward returns, for code of the user; other models are unchanged.

    Returns the loss, a function of (one tensor, target), as a function of (what the model returns now, target).
    """
    forward = model.forward
    if not hasattr(forward, "pack"):
        return loss
    model.forward = lambda packed: original_of(forward(packed))
    return lambda output, target: loss(forward.pack(output), target)


def original_of(output: object) -> object:
    """What the forward of the model itself returned, from the output of an adapted model."""
    return getattr(output, "original", output)


def selected(output: object, key: str | int) -> object:
    """The part of an output that a key, a position, or keys with dots between them name.

    Raises:
        TypeError: there is no such part.
    """
    for part in str(key).split(".") if key != "" else ():
        if isinstance(output, Mapping) and part in output:
            output = output[part]
        elif isinstance(output, list | tuple) and part.lstrip("-").isdigit() and int(part) < len(output):
            output = output[int(part)]
        elif hasattr(output, part) and not callable(getattr(output, part)):
            output = getattr(output, part)
        else:
            known = (
                list(output)
                if isinstance(output, Mapping)
                else f"{len(output)} positions"
                if isinstance(output, list | tuple)
                else type(output).__name__
            )
            raise TypeError(f"the model has no output {key!r}; it returns {known}")
    return output


def adapt(model, adapter: Adapter | None, framework: Framework):
    """Replace the forward of a model by one that takes the packed array and returns one tensor; returns the model."""
    if adapter is None:
        return model
    forward = model.forward
    by_name = _named_parameters(forward)

    def adapted(packed):
        inputs = adapter.unpack(packed, framework) if adapter.inputs else {"": packed}
        names = [name for name in inputs if name in by_name]
        output = forward(**inputs) if len(names) == len(inputs) else forward(*inputs.values())
        return pack(output)

    def pack(output):
        if framework.is_tensor(output):
            return output
        result = adapter.pack_output(output, framework)
        result.original = output
        return result

    adapted.pack = pack
    model.forward = adapted
    return model


def _named_parameters(function: Callable) -> set[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set()
    return {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def keyword_inputs(function: Callable) -> set[str]:
    """Names of the arguments of a forward that can only be given by name."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


def required_inputs(function: Callable) -> list[str]:
    """Names of the arguments without a default of a forward; one of no name if it does not tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return [""]
    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    names = [p.name for p in parameters if p.kind in kinds and p.default is p.empty]
    if names:
        return names
    optional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return optional[:1] or [""]
