"""Traces: every call of a leaf layer in one forward and backward, in one form for both frameworks. numpy alone."""

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .adapter import tensors_of
from .exchange import DropoutMasks

BUILT = "_alignment_built"  # attribute of a layer: file and line of the constructor in the model's own code


@dataclass
class Trace:
    """One forward of a model, and one backward if there is a loss, layer by layer.

    Attributes:
        nodes: the calls of leaf layers in the order of execution; `TraceRecorder.begin_call` says what a node holds.
        arrays: {name of the value: array}. A value is the input or output of a node; v0 is the batch of images.
        layers: the layer of each node. Empty in a trace that came from the other process.
        logits: name of the value that the model returned.
        outputs: [path, shape] of each tensor that is packed in it.
        error: message of the exception that stopped the model. The trace then holds the calls before it.
        loss: the loss as a number.
        gradients: {name of the value: gradient of the loss}, for outputs of nodes.
        parameter_gradients: {name of the parameter: gradient of the loss}.
        image_gradient: gradient of the loss, of the shape of the images.
        isolated_gradients: {index of the node: {"in0", "in1", ... or parameter: gradient}}, from running the layer of
            the node alone on its recorded inputs and output gradients.
        unpaired_draws: functions that drew random numbers which the other side cannot have.
        turned_off: dropouts that were set to 0.
        rounding_calls: (number of nodes before it, kind of layer) of functions that round to float32 inside.
    """

    nodes: list[dict] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    layers: list = field(default_factory=list)
    logits: str = ""
    outputs: list[list] = field(default_factory=list)
    error: str = ""
    loss: float | None = None
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    parameter_gradients: dict[str, np.ndarray] = field(default_factory=dict)
    image_gradient: np.ndarray | None = None
    isolated_gradients: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    unpaired_draws: list[str] = field(default_factory=list)
    turned_off: list[str] = field(default_factory=list)
    rounding_calls: list[tuple[int, str]] = field(default_factory=list)

    def as_message(self) -> tuple[dict, dict[str, np.ndarray]]:
        """The trace as plain values and as arrays, to be sent to the other process."""
        answer = {"nodes": self.nodes, "images": "v0", "logits": self.logits, "outputs": self.outputs}
        answer |= {"unpaired_draws": self.unpaired_draws, "turned_off": self.turned_off}
        arrays = dict(self.arrays)
        if self.loss is not None:
            answer["loss"] = self.loss
        if self.image_gradient is not None:
            arrays["gradient_of_images"] = self.image_gradient
        for index, gradients in self.isolated_gradients.items():
            arrays |= {f"i{index}.{name}": array for name, array in gradients.items()}
        arrays |= {f"g.{name}": array for name, array in self.gradients.items()}
        arrays |= {f"p.{name}": array for name, array in self.parameter_gradients.items()}
        return answer, arrays

    @classmethod
    def of_message(cls, answer: dict, arrays: dict[str, np.ndarray]) -> "Trace":
        """The trace that the other process sent with `as_message`."""
        trace = cls(nodes=answer["nodes"], logits=answer["logits"], outputs=answer["outputs"], loss=answer.get("loss"))
        trace.unpaired_draws, trace.turned_off = answer["unpaired_draws"], answer["turned_off"]
        for key, array in arrays.items():
            kind, _, name = key.partition(".")
            if key == "gradient_of_images":
                trace.image_gradient = array
            elif not name:
                trace.arrays[key] = array
            elif kind == "g":
                trace.gradients[name] = array
            elif kind == "p":
                trace.parameter_gradients[name] = array
            else:
                trace.isolated_gradients.setdefault(int(kind[1:]), {})[name] = array
        return trace

    def without_layers(self) -> "Trace":
        """The trace without its layers and what they computed; the gradients of parameters and images stay."""
        return replace(self, arrays={}, gradients={}, isolated_gradients={}, layers=[])

    def is_between(self, first: int, last: int) -> bool:
        """Whether the code that runs now is after the call of node `first`, and node `last` has not begun."""
        num = len(self.nodes)
        return first < num <= last and (num > first + 1 or first < 0 or "outputs" in self.nodes[first])


class TraceRecorder(ABC):
    """Fills a Trace from the hooks that a subclass sets on the leaf layers of a model of its framework."""

    def __init__(self, masks: DropoutMasks):
        self.trace = Trace()
        self._masks = masks
        self._names: dict[tuple[int, int], str] = {}
        self._tensors: list = []  # kept, or the id of a freed tensor could be that of a later one
        self._num_calls: dict[str, int] = {}
        self._hooks: list = []

    @abstractmethod
    def is_tensor(self, value: object) -> bool:
        """Whether the value is a tensor of the framework."""

    @abstractmethod
    def version(self, tensor) -> int:
        """A number that changes when the tensor is changed in place."""

    @abstractmethod
    def as_array(self, tensor) -> np.ndarray:
        """A copy of the values of the tensor."""

    @abstractmethod
    def settings(self, layer, num_axes: int | None) -> dict:
        """The constructor arguments of the layer, which takes a tensor of so many axes, as in layers/settings.py."""

    @abstractmethod
    def num_parameters(self, layer) -> int:
        """Number of elements in the parameters of the layer."""

    @abstractmethod
    def is_framework_file(self, path: str) -> bool:
        """Whether a source file belongs to the framework or to the recorder, and not to the model."""

    def remove_hooks(self) -> None:
        """Remove the hooks from the model."""
        for hook in self._hooks:
            hook.remove()

    def finish(self, output) -> Trace:
        """Name the output of the model, let go of the tensors and return the trace, to which gradients are added."""
        self.remove_hooks()
        self.trace.logits = self.value(output)
        self.trace.outputs = getattr(output, "outputs", [["", list(output.shape)]])
        self._tensors.clear()  # with their graph they hold the recorder, which no collection of circles finds
        return self.trace

    def value(self, tensor) -> str:
        """Name of the value of a tensor; a tensor that several layers take has one name."""
        key = (id(tensor), self.version(tensor))
        if key not in self._names:
            self._names[key] = name = f"v{len(self._names)}"
            self._tensors.append(tensor)
            self.trace.arrays[name] = self.as_array(tensor)
        return self._names[key]

    def begin_call(self, path: str, layer, arguments: Sequence, *, has_keywords: bool = False) -> None:
        """Add a node for a call of a layer.

        A node is a dictionary of plain values: `path` (with #2, #3, ... for later calls of one layer), `class`, `place`
        and `built` (file and line of the call and of the constructor), `mask_call` (number of the next dropout call),
        `settings`, `inputs` and `outputs` (names of values), `is_isolable` (whether all arguments are tensors, so that
        the layer can be run alone) and `num_parameters`. A node of torch has `is_packed`, too: whether the layer is
        given a PackedSequence, which has the steps of all sequences in another order than a padded tensor.

        Args:
            path: of the layer in the model.
            layer: the layer.
            arguments: positional arguments of the call.
            has_keywords: whether the call has keyword arguments too.
        """
        self._num_calls[path] = call = self._num_calls.get(path, 0) + 1
        tensors = [tensor for _, tensor in tensors_of(list(arguments), self.is_tensor)]
        is_plain = all(self.is_tensor(value) for value in arguments)
        self.trace.layers.append(layer)
        self.trace.nodes.append({
            "path": path if call == 1 else f"{path}#{call}",
            "class": type(layer).__name__,
            "place": call_place(self.is_framework_file) if path else class_place(type(layer)),  # the model itself
            "built": vars(layer).get(BUILT, ""),
            "mask_call": self._masks.call,
            "settings": self.settings(layer, len(tensors[0].shape) if tensors else None),
            "inputs": [self.value(tensor) for tensor in tensors],
            "is_isolable": is_plain and not has_keywords,
            "num_parameters": self.num_parameters(layer),
        })  # fmt: skip

    def end_call(self, output) -> list[tuple[str, object]]:
        """Add the outputs to the node that was added last; returns the outputs as pairs (name of the value, tensor)."""
        tensors = [tensor for _, tensor in tensors_of(output, self.is_tensor)]
        names = [self.value(tensor) for tensor in tensors]
        self.trace.nodes[-1]["outputs"] = names
        return list(zip(names, tensors, strict=True))


def gradients_or_zeros(gradients: list, outputs: list[np.ndarray]) -> list[np.ndarray]:
    """The gradients of the outputs of a layer; zeros for an output that the loss does not depend on."""
    return [np.zeros_like(output) if one is None else one for one, output in zip(gradients, outputs, strict=True)]


def split_gradients(path: str, found: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The gradients of a layer alone: (those of its inputs, those of its parameters by their names in the model).

    Args:
        path: of the node.
        found: {"in0", "in1", ... or name of the parameter in the layer: gradient}.
    """
    layer = path.split("#")[0]
    inputs = {name: array for name, array in found.items() if name.startswith("in") and name[2:].isdigit()}
    rest = {f"{layer}.{name}".lstrip("."): array for name, array in found.items() if name not in inputs}
    return inputs, rest


def call_place(is_framework_file: Callable[[str], bool]) -> str:
    """`file:line` of the model's own code that is running, or an empty text."""
    frame = sys._getframe(1)
    while frame and (frame.f_code.co_filename == __file__ or is_framework_file(frame.f_code.co_filename)):
        frame = frame.f_back
    return f"{short_path(frame.f_code.co_filename)}:{frame.f_lineno}" if frame else ""


def is_in(place: str, files: Iterable[str]) -> bool:
    """Whether a place `file:line` is in one of these files."""
    return place.rpartition(":")[0] in map(short_path, files)


def _forward_place(layer: object, is_framework_file: Callable[[str], bool]) -> str:
    """`file:line` of the forward of a layer whose class is not of the framework; an empty text for others."""
    code = getattr(getattr(type(layer), "forward", None), "__code__", None)
    if code is None or is_framework_file(code.co_filename):
        return ""
    return f"{short_path(code.co_filename)}:{code.co_firstlineno}"


def class_place(kind: type) -> str:
    """`file:line` of a class, or an empty text if it has no source."""
    try:
        return f"{short_path(inspect.getfile(kind))}:{inspect.getsourcelines(kind)[1]}"
    except (OSError, TypeError):
        return ""


def short_path(path: str) -> str:
    """The path relative to site-packages or to the working directory, or unchanged if it is in neither."""
    if "site-packages/" in path:
        return path.split("site-packages/", 1)[1]
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path


@contextmanager
def constructor_places(kind: type, is_framework_file: Callable[[str], bool]) -> Iterator[None]:
    """Inside the context every new layer keeps a place in BUILT: its constructor's, or of the user's own its forward's.

    Args:
        kind: base class of the layers of the framework.
        is_framework_file: whether a source file belongs to the framework, and not to the model.
    """
    original = kind.__init__

    def initialise(layer, *arguments, **keywords):
        vars(layer).setdefault(BUILT, _forward_place(layer, is_framework_file) or call_place(is_framework_file))
        original(layer, *arguments, **keywords)

    kind.__init__ = initialise
    try:
        yield
    finally:
        kind.__init__ = original
