"""Name the operation in the code between two layers after which the values of the two models differ."""

from dataclasses import replace

from ..layers.operations import Found, first_difference, root_of_difference
from ..layers.source import source_line
from ..layers.table import LayerTable
from ..session import Session, TraceRequest
from ..verdict import Check

FIRST = "first difference"  # of LayerTable
IN_CODE = ("in the code that calls", "in the model's own code")  # of its details


def with_operations(session: Session, request: TraceRequest, table: LayerTable, first: Check) -> Check:
    """The check of the first difference; if this is in the code between two layers, with the operation as a hint.

    Args:
        session: the session.
        request: of the traces that the table compares.
        table: the layer table.
        first: its first difference.
    """
    return with_hint(first, operations_at(session, request, table, first))


def operations_at(session: Session, request: TraceRequest, table: LayerTable, first: Check) -> Found:
    """The operations of both sides that make the first difference, if it is in code; the arguments are as above."""
    around = table.nodes_around(first.layer) if first.detail.startswith(IN_CODE) else None
    if not around or table.port.error:
        return Found()
    whole = ((-1, around[0][1]), (-1, around[1][1]))
    sides = session.operations_between(request.without_loss(), *whole)
    found = root_of_difference(*sides)
    if found.hint:
        return found
    after = [[one for one in side if one.node > node] for side, (node, _) in zip(sides, around, strict=True)]
    return first_difference(*after)


def with_hint(first: Check, found: Found) -> Check:
    """The check with what was found as a hint, and with the lines of the two operations."""
    if not found.hint:
        return first
    lines = [
        f"{side:<9} {one.place}  {code}"
        for side, one in (("port", found.port), ("reference", found.reference))
        if one and (code := source_line(one.place))
    ]
    return replace(first, hints=[*first.hints, found.hint], source=lines or first.source)
