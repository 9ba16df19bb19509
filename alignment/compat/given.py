"""Inputs that the caller gives for both sides, in the forms that PaDiff takes, as packed arrays of an adapter."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np

from common.errors import CaseError

from ..adapter import BOOLEAN, FLOAT, INTEGER, Adapter, InputLayout
from ..case import Case
from ..mapping import sequence
from ..mapping.resolve import with_rules
from ..pipeline.functions import as_array
from ..rules import Arrays
from ..session import Session
from ..verdict import Check, exactly

TYPES = {"f": FLOAT, "i": INTEGER, "u": INTEGER, "b": BOOLEAN}  # by the kind of numpy's type
WIDE = (-float(2**31), float(2**31))  # no input is scaled or clipped


@dataclass(frozen=True)
class Side:
    """What one side is given for a batch.

    Attributes:
        inputs: {name of an argument of forward: array}; the name is empty if the caller gave an array alone.
        target: second argument of the loss, or None.
    """

    inputs: dict[str, np.ndarray]
    target: np.ndarray | None = None

    def adapter(self) -> Adapter:
        """How the inputs are packed."""
        return Adapter(
            [InputLayout(name, array.shape, TYPES[array.dtype.kind]) for name, array in self.inputs.items()], WIDE
        )

    def packed(self) -> np.ndarray:
        """The inputs as one float32 array, in the order of `adapter`."""
        arrays, adapter = [array.astype(np.float32) for array in self.inputs.values()], self.adapter()
        if len(arrays) == 1:
            return arrays[0]
        if adapter.has_common_batch:
            return np.concatenate([array.reshape(len(array), -1) for array in arrays], 1)
        return np.concatenate([array.reshape(1, -1) for array in arrays], 1)


@dataclass(frozen=True)
class Batch:
    """One batch, as each side is given it."""

    port: Side
    reference: Side


def batches_of(inputs: object, labels: object = None, num: int | None = None) -> list[Batch]:
    """The batches that the caller gives.

    Args:
        inputs: an array or a table {argument: array} for both sides; a pair of these, (port, reference); or any other
            iterable of such inputs, a data loader for example.
        labels: what the loss compares the output with: an array, or a pair of arrays; for several batches a list of
            these; or the name of an entry of the tables of inputs, which then is not given to the model.
        num: largest number of batches; None takes all.

    Raises:
        CaseError: there is no batch, an input is no tensor or array, or the sides have inputs of other shapes.
    """
    is_one = isinstance(inputs, Mapping) or hasattr(inputs, "shape") or _is_pair(inputs)
    given = [inputs] if is_one else list(islice(iter(inputs), num))
    if not given:
        raise CaseError("auto_diff: the inputs hold no batch")
    targets: Iterable = [labels] * len(given) if is_one or labels is None or isinstance(labels, str) else labels
    batches = [_batch(one, target) for one, target in zip(given, targets, strict=False)]
    if len(batches) < len(given):
        raise CaseError(f"auto_diff: {len(given)} batches of inputs and {len(batches)} of labels")
    return batches


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2


def _batch(inputs: object, labels: object) -> Batch:
    sides = inputs if _is_pair(inputs) else (inputs, inputs)
    if isinstance(labels, str):
        targets = tuple(_entry(side, labels) for side in sides)
        sides = tuple({name: value for name, value in side.items() if name != labels} for side in sides)
    else:
        targets = labels if _is_pair(labels) else (labels, labels)
    port, reference = (_side(side, target) for side, target in zip(sides, targets, strict=True))
    if port.inputs.keys() == reference.inputs.keys():
        port = Side({name: port.inputs[name] for name in reference.inputs}, port.target)
    shapes = [[array.shape for array in side.inputs.values()] for side in (port, reference)]
    if shapes[0] != shapes[1]:
        raise CaseError(f"auto_diff: the inputs of the port have the shapes {shapes[0]}, of the reference {shapes[1]}")
    return Batch(port, reference)


def _entry(side: object, name: str) -> object:
    if not isinstance(side, Mapping) or name not in side:
        known = ", ".join(side) if isinstance(side, Mapping) else type(side).__name__
        raise CaseError(f"auto_diff: the inputs have no entry {name!r} for the labels: {known}")
    return side[name]


def _side(inputs: object, target: object) -> Side:
    table = inputs if isinstance(inputs, Mapping) else {"": inputs}
    try:
        arrays = {str(name): as_array(value, str(name)) for name, value in table.items() if value is not None}
        target = None if target is None else as_array(target, "the labels")
    except (TypeError, ValueError) as error:
        raise CaseError(f"auto_diff: {error}") from None
    unknown = [name for name, array in arrays.items() if array.dtype.kind not in TYPES]
    if unknown or not arrays:
        raise CaseError(
            f"auto_diff: the input {unknown[0] or 0!r} holds no numbers" if unknown else "auto_diff: no input"
        )
    return Side(arrays, target)


def pairs_of_loaders(port: Iterable, reference: Iterable) -> Iterator[tuple[object, object]]:
    """(batch of the port, batch of the reference); a loader that ends first gives None."""
    first, second = iter(port), iter(reference)
    while True:
        pair = next(first, None), next(second, None)
        if pair == (None, None):
            return
        yield pair


class GivenSession(Session):
    """A session whose images are those that the caller gives.

    Args:
        batch: of the inputs that find the rules and draw the weights.
        own: {name: array} of the port and of the reference if each side keeps its own weights.
        arguments: of Session.
    """

    def __init__(self, batch: Batch, own: tuple[Arrays, Arrays] | None, *arguments):
        super().__init__(*arguments)
        self.batch, self._own = batch, own
        self._given_weights = self._given_weights if own is None else own[1]

    @cached_property
    def _resolved(self) -> tuple[Case, sequence.Mapping | None, dict]:
        case, port = self.given_case, self._port_of(self.given_case)
        return with_rules(case, self.reference, port.build, self.batch.reference.packed(), self._draw)

    def _images(self, case: Case, shape: tuple[int, ...], purpose: str = "images") -> np.ndarray:
        given = self.batch.reference.packed()
        if purpose == "calibration" and not self.batch.reference.adapter().has_common_batch:
            return given[:0]
        return np.resize(given, shape)

    @cached_property
    def port_weights(self) -> Arrays:
        """The weights of the port: converted from the reference, or its own."""
        return super().port_weights if self._own is None else self._own[0]

    def weights_check(self) -> Check:
        """Check that the port's own weights are the reference's own."""
        expected, actual = self.converted(self.reference_weights), self.port_weights
        names = [name for name in expected if name in actual]
        wrong = [name for name in names if not np.array_equal(actual[name], expected[name])]
        detail = f"{len(wrong)} of {len(names)} differ: {', '.join(wrong[:4])}" if wrong else f"{len(names)} equal"
        return exactly("weights of the two models", not wrong, detail)
