"""Find where the code between two layers differs: the results of its operations, compared by their values."""

from typing import NamedTuple

import numpy as np

from ..exchange import as_floats

TOLERANCE = 1e-9  # relative to the sum of the absolute values, in float64
MAX_SHOWN = 2  # operations of each side in a hint


class Operation(NamedTuple):
    """A call of a function of the framework in the code of the model, and numbers that tell its result.

    Attributes:
        name: of the function.
        place: file and line of the model's code that calls it.
        size: number of elements of the result.
        sums: sum, sum of the absolute values, lowest, highest and norm of the elements, whatever their order is.
        weighted: sum of the elements times the cosines of their positions.
    """

    name: str
    place: str
    size: int
    sums: tuple[float, ...]
    weighted: float

    @classmethod
    def of_result(cls, name: str, place: str, array: np.ndarray) -> "Operation":
        """The operation with the numbers of its result."""
        flat = np.ravel(as_floats(array))
        sums = flat.sum(), np.abs(flat).sum(), flat.min(), flat.max(), np.linalg.norm(flat)
        return cls(name, place, flat.size, tuple(map(float, sums)), float(flat @ np.cos(np.arange(flat.size))))

    @classmethod
    def of_message(cls, values: list) -> "Operation":
        """The operation from plain values."""
        return cls(*values[:3], tuple(values[3]), values[4])

    @property
    def lowest(self) -> float:
        """The lowest element of the result."""
        return self.sums[2]

    @property
    def is_constant(self) -> bool:
        """Whether all elements are equal, as of a mask or a size; such a result is on both sides by chance."""
        return self.sums[2] == self.sums[3]

    def is_like(self, other: "Operation") -> bool:
        """Whether the results have the same elements, in any order."""
        limit = TOLERANCE * max(self.sums[1], other.sums[1])
        return self.size == other.size and bool(np.all(np.abs(np.subtract(self.sums, other.sums)) <= limit))

    def has_order_of(self, other: "Operation") -> bool:
        """Whether the results that have the same elements have them in the same order."""
        return abs(self.weighted - other.weighted) <= TOLERANCE * max(self.sums[1], other.sums[1])


class Found(NamedTuple):
    """What follows the last result that both sides have.

    Attributes:
        hint: in words; an empty text if neither has operations, or nothing differs.
        port: the first operation of the port that follows, if there is one.
        reference: the same of the reference.
    """

    hint: str = ""
    port: Operation | None = None
    reference: Operation | None = None


def first_difference(port: list[Operation], reference: list[Operation]) -> Found:
    """What follows the last result that both sides have.

    Each side may come to a value in its own way. So a result without a match is no difference as long as a later one
    has a match.
    """
    port, reference = ([one for one in side if not one.is_constant] for side in (port, reference))
    pairs = [(a, b) for a, own in enumerate(port) for b, other in enumerate(reference) if own.is_like(other)]
    last, match = max(pairs, key=lambda pair: (pair[0] + pair[1], pair), default=(-1, -1))
    rest, expected = port[last + 1 :], reference[match + 1 :]
    if not rest and not expected:
        if last < 0 or port[last].has_order_of(reference[match]):
            return Found()
        shown = f"{_shown(port[last:])}; in the reference {_shown(reference[match:])}"
        return Found(f"the same numbers in another order or shape: {shown}", port[last], reference[match])
    before = f" after this: equal up to {_shown(port[last : last + 1])}; then" if last >= 0 else ":"
    is_same = bool(rest and expected) and rest[0].name == expected[0].name
    note = f"; {rest[0].name} is called on both sides, so compare its arguments" if is_same else ""
    hint = f"the operations differ{before} {_shown(rest)}, in the reference {_shown(expected)}{note}"
    return Found(hint, rest[0] if rest else None, expected[0] if expected else None)


def first_without_match(port: list[Operation], reference: list[Operation]) -> Found:
    """The first operation of the reference whose result the port has nowhere, and what the port has in its place."""
    port, reference = ([one for one in side if not one.is_constant] for side in (port, reference))
    places = [[index for index, own in enumerate(port) if own.is_like(other)] for other in reference]
    first = next((number for number, found in enumerate(places) if not found), None)
    if first is None:
        return Found()
    start = max(places[first - 1]) + 1 if first else 0
    own = [one for one in port[start:] if not any(one.is_like(other) for other in reference)]
    others = [other for other, found in zip(reference[first:], places[first:], strict=True) if not found]
    hint = f"the operations differ: {_shown(own)}, in the reference {_shown(others)}"
    return Found(hint, own[0] if own else None, others[0])


def _shown(operations: list[Operation]) -> str:
    if not operations:
        return "nothing"
    text = ", ".join(f"{one.name} at {one.place}" for one in operations[:MAX_SHOWN])
    return text + ", ..." * (len(operations) > MAX_SHOWN)
