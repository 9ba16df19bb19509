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
        node: number of layers that were called before.
        inputs: numbers of the operations before whose results it is given.
    """

    name: str
    place: str
    size: int
    sums: tuple[float, ...]
    weighted: float
    node: int = 0
    inputs: tuple[int, ...] = ()

    @classmethod
    def of_result(
        cls, name: str, place: str, array: np.ndarray, node: int = 0, inputs: tuple[int, ...] = ()
    ) -> "Operation":
        """The operation with the numbers of its result.

        Args:
            name: of the function.
            place: file and line of the model's code that calls it.
            array: the result, of any shape and not empty.
            node: number of layers that were called before.
            inputs: numbers of the operations before whose results it is given.
        """
        flat = np.ravel(as_floats(array))
        size, flat = flat.size, np.where(np.isfinite(flat), flat, 0.0)  # a mask adds minus infinity
        sums = flat.sum(), np.abs(flat).sum(), flat.min(), flat.max(), np.linalg.norm(flat)
        weighted = float(flat @ np.cos(np.arange(flat.size)))
        return cls(name, place, size, tuple(map(float, sums)), weighted, node, inputs)

    @classmethod
    def of_message(cls, values: list) -> "Operation":
        """The operation from plain values."""
        return cls(*values[:3], tuple(values[3]), values[4], values[5], tuple(values[6]))

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
    """The operations from which the values of two models differ.

    Attributes:
        hint: in words; an empty text if nothing was found.
        port: the first such operation of the port, if there is one.
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


def root_of_difference(port: list[Operation], reference: list[Operation]) -> Found:
    """The operations with equal inputs from which the values at the end differ; nothing if one side has none.

    An operation is accounted for if the other side has its result too, or if something made of it is accounted for:
    each side may come to a value in its own way.

    Args:
        port: all operations from the beginning of the model, with the numbers of their inputs.
        reference: the same of the reference.
    """
    sides = _unexplained(port, reference), _unexplained(reference, port)
    if not all(sides):
        return Found()
    roots = [_root(side, rest) for side, rest in zip((port, reference), sides, strict=True)]
    same = [k for k in sides[0] if _have_common_input(port, k, reference, roots[1])]
    roots[0] = same[0] if same and roots[0] not in same else roots[0]
    own, other = ([side[k] for k in rest if k >= root] for side, rest, root in
                  zip((port, reference), sides, roots, strict=True))  # fmt: skip
    before = [reference[k] for k in other[0].inputs]
    words = f" after this: equal up to {_shown(before[-1:])}; then" if before else ":"
    note = f"; {own[0].name} is called on both sides, so compare its arguments" * (own[0].name == other[0].name)
    hint = f"the operations differ{words} {_shown(own)}, in the reference {_shown(other)}{note}"
    return Found(hint, own[0], other[0])


def _have_common_input(port: list[Operation], k: int, reference: list[Operation], root: int) -> bool:
    given = [reference[number] for number in reference[root].inputs]
    return any(port[number].is_like(other) for number in port[k].inputs for other in given)


def _unexplained(operations: list[Operation], others: list[Operation]) -> list[int]:
    """Numbers of the operations that are not accounted for."""
    of_size: dict[int, list[Operation]] = {}
    for other in others:
        of_size.setdefault(other.size, []).append(other)
    explained = [one.is_constant or any(map(one.is_like, of_size.get(one.size, ()))) for one in operations]
    for number in range(len(operations) - 1, -1, -1):
        for source in operations[number].inputs if explained[number] else ():
            explained[source] = True
    return [number for number, found in enumerate(explained) if not found]


def _root(operations: list[Operation], unexplained: list[int]) -> int:
    """From the last of these back to the first whose inputs are all accounted for."""
    rest, number = set(unexplained), unexplained[-1]
    while sources := rest.intersection(operations[number].inputs):
        number = min(sources)
    return number


def _shown(operations: list[Operation]) -> str:
    if not operations:
        return "nothing"
    text = ", ".join(f"{one.name} at {one.place}" for one in operations[:MAX_SHOWN])
    return text + ", ..." * (len(operations) > MAX_SHOWN)
