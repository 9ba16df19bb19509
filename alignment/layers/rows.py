"""A row of the layer table: a layer of the port beside its match, with all that was compared."""

from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from ..verdict import PASS


class WrongGradient(NamedTuple):
    """The gradient of an output of a layer that differs.

    Attributes:
        node: the call of the layer in the port.
        relative: error.
        is_missing: whether the port has no such gradient.
        after: path of the layer that uses the output, "the loss" for the last one.
    """

    node: dict
    relative: float
    is_missing: bool
    after: str


@dataclass
class Row:
    """A layer of the port beside the matching layer of the reference.

    "In the chain" compares the values of the two forwards. "Alone" compares the outputs of the port's layer with those
    of the reference's, both given the inputs of the reference's. Errors are relative, None where nothing was compared.

    Attributes:
        path: of the layer in the port.
        kind: its class.
        place: file and line that call it.
        match: path and class of the layer in the reference.
        match_place: file and line that call that layer.
        paired_by: path, weights, values or shape.
        tolerance: largest error alone that passes.
        allowed: largest error in the chain that passes; it grows with the errors of operations in FLOORS before.
        input_error: of the inputs, in the chain.
        output_error: of the outputs, in the chain.
        alone_error: of the outputs, alone.
        gradient_error: of the gradients of inputs and parameters, alone.
        float32_error: of the first output, in the chain, in float32.
        is_wrong_alone: whether an error alone is above its tolerance.
        status: pass or fail.
        note: why something was not compared.
        hints: probable causes.
    """

    path: str
    kind: str
    place: str
    match: str
    match_place: str
    paired_by: str
    tolerance: float
    allowed: float = 0.0
    input_error: float | None = None
    output_error: float | None = None
    alone_error: float | None = None
    gradient_error: float | None = None
    float32_error: float | None = None
    is_wrong_alone: bool = False
    status: str = PASS
    note: str = ""
    hints: list[str] = field(default_factory=list)

    def as_dict(self) -> dict:
        """The row as plain values, for the report."""
        return asdict(self)

    @property
    def worst_alone(self) -> float:
        """The larger of the errors alone, of outputs and of gradients."""
        return max(self.alone_error or 0, self.gradient_error or 0)
