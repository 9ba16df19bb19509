"""Stage 2: compare forwards in evaluation mode layer by layer: values, settings, rounding, and other inputs."""

from dataclasses import replace

import numpy as np

from ..case import Case
from ..compare import compare
from ..exchange import as_floats
from ..layers.hints import setting_hints
from ..layers.outputs import differing_outputs
from ..layers.pairing import WEIGHTS
from ..layers.settings import differing_settings
from ..layers.source import both_sources, code_before
from ..layers.table import LayerTable
from ..session import Session
from ..trace import Trace
from ..verdict import FAIL, INCONCLUSIVE, MAX_PROBLEMS, PASS, Check, StageResult, exactly, within
from .first_operation import FIRST, with_operations
from .rounding import float32_checks, may_be_rounding, widened
from .unjudged import trace_reason, unjudged
from .varied_inputs import varied_checks

SETTINGS = "settings"  # name of the checks of constructor arguments
LEAST_SPREAD = 1e-6  # relative; logits that vary less cannot tell one model from another
LEAST_LOGIT = 1e-8  # the largest logit of a conclusive comparison is above it


def run(session: Session) -> StageResult:
    """Compare all layers and the logits in float64, the settings, the rounding in float32, and other inputs."""
    request = session.evaluation_request(session.images(_shape_of_images(session)))
    port, reference = session.traces(request)
    in_reference = [entry["name"] for entry in session.inventory["entries"]]
    names = [*session.port_shapes], in_reference, [*session.inventory["shared"]]
    table, checks = _compare(session.case, port, reference, names)
    if may_be_rounding(checks):
        table, checks = _compare(widened(session, request, reference), port, reference, names)
    checks = [with_operations(session, request, table, check) if check.name == FIRST else check for check in checks]
    is_right = all(check.status != FAIL or check.name == SETTINGS for check in checks)
    if is_right and np.isfinite(reference.arrays[reference.logits]).all():  # else the difference would be found again
        table.port = port = port.without_layers()  # of a large network they take gigabytes
        checks += float32_checks(session, table, request)
        table.reference = reference = reference.without_layers()
        checks += varied_checks(session)
    checks = unjudged(checks, trace_reason(port, reference))
    return StageResult("forward", checks, layers=table.as_dicts())


def _shape_of_images(session: Session) -> tuple[int, ...]:
    """The shape that the case says; two images if the output for one is a single number, which cannot vary."""
    shape, adapter = session.case.shape, session.case.adapter
    has_batch = adapter is None or not adapter.inputs or adapter.has_common_batch
    return (2, *shape[1:]) if shape[0] == 1 and has_batch and np.prod(session.output_shape) == 1 else shape


def _compare(
    case: Case, port: Trace, reference: Trace, names: tuple[list[str], list[str], list[str]]
) -> tuple[LayerTable, list[Check]]:
    """The layer table of two traces in float64, and the checks of it.

    Args:
        case: the case.
        port: trace of the port.
        reference: trace of the reference.
        names: of the entries of the port, of the reference, and of those that are second names in the reference.
    """
    table = LayerTable(case, port, reference, is_backward=False)
    expected = reference.arrays[reference.logits]
    logits = compare(port.arrays[port.logits], expected, absolute=case.tolerances.absolute)
    logits = table.logits if differing_outputs(port, reference) else logits
    return table, [
        *layer_checks(table, "forward"),
        table.unpaired_with_weights(*names),
        within("logits, float64", logits, table.chain_tolerance),
        *setting_checks(table),
        conclusive_check(expected, table.degenerate_layers()),
    ]


def layer_checks(table: LayerTable, what: str, *, gradient: float = 0.0) -> list[Check]:
    """The first difference, if there is one, and the layers that are wrong alone, or one check that all are right.

    Args:
        table: the layer table.
        what: "forward" or "forward and backward", for the name of the checks.
        gradient: largest error of a gradient that passes.
    """
    checks, first = alone_checks(table, what, gradient=gradient), table.first_difference()
    if first is None:
        return checks
    same = next((check for check in checks if check.layer == first.layer and check.status == FAIL), None)
    if same is None:
        return [replace(first, source=code_before(table, first.layer)), *checks]
    value = max(first.value or 0.0, same.value or 0.0)
    return [replace(same, name="first difference, alone", value=value)] + [
        check for check in checks if check is not same
    ]


def alone_checks(table: LayerTable, what: str, *, gradient: float = 0.0) -> list[Check]:
    """One failed check for each kind of mistake of layers that are wrong alone, or one check that passes for all.

    Args:
        table: the layer table.
        what: "forward" or "forward and backward", for the name of the check.
        gradient: largest error of a gradient that passes.
    """
    groups: dict[tuple, list[int]] = {}
    for number, row in enumerate(table.rows):
        if row.is_wrong_alone:
            groups.setdefault((row.kind, row.match.split()[-1], tuple(row.hints[:1])), []).append(number)
    if groups:
        checks = [_wrong_layers(table, numbers, what) for numbers in groups.values()]
        first, rest = checks[0], sorted(checks[1:], key=lambda check: -check.effect)
        return [first, *rest[: MAX_PROBLEMS - 1]]
    errors = [row.worst_alone for row in table.rows if row.alone_error is not None]
    worst = max(errors, default=0.0)
    tolerance = max([gradient, *(row.tolerance for row in table.rows)])
    detail = f"{len(errors)} layers, each with the inputs of the reference's"
    return [Check(f"each layer alone, {what}", PASS, worst, tolerance, detail)]


def _wrong_layers(table: LayerTable, numbers: list[int], what: str) -> Check:
    """One check for layers of one kind with the same cause."""
    rows = [table.rows[number] for number in numbers]
    first, worst = rows[0], max(rows, key=lambda row: row.worst_alone)
    name = f"{first.path} alone, {what}" if len(rows) == 1 else f"{len(rows)} {first.kind} alone, {what}"
    return Check(
        name, FAIL, worst.worst_alone, worst.tolerance, _places(table, numbers), first.path, first.hints,
        _source(table, numbers[0]),
    )  # fmt: skip


def setting_checks(table: LayerTable) -> list[Check]:
    """Compare the constructor arguments of all pairs of layers that agree on this input; one check per difference.

    A difference is a failure: another input, another size or the training reaches it.
    """
    found: dict[tuple, list[int]] = {}
    for number, (row, (index, match, _)) in enumerate(zip(table.rows, table.pairing.pairs, strict=True)):
        settings = table.port.nodes[index]["settings"], table.reference.nodes[match]["settings"]
        if row.paired_by == WEIGHTS and table.has_other_axes(index, match):  # each is given what it asks for
            settings = tuple({key: side[key] for key in side if key != "time_first"} for side in settings)
        if not row.is_wrong_alone and differing_settings(*settings):
            found.setdefault((row.kind, *setting_hints(*settings, row.kind)), []).append(number)
    if not found:
        num_settings = sum(len(table.port.nodes[index]["settings"]) for index, _, _ in table.pairing.pairs)
        return [exactly(SETTINGS, True, f"{num_settings} of {len(table.rows)} layers are equal")]
    checks = []
    for (_, *hints), numbers in found.items():
        detail = f"differs, not reached by this input: {_places(table, numbers)}"
        path = table.rows[numbers[0]].path
        checks.append(Check(SETTINGS, FAIL, 0.0, None, detail, path, hints, _source(table, numbers[0])))
    return checks[:MAX_PROBLEMS]


def _places(table: LayerTable, numbers: list[int]) -> str:
    """The first layer with both places, and the names of some others."""
    rows = [table.rows[number] for number in numbers]
    first = rows[0]
    note = first.note if first.alone_error is None or np.isinf(first.alone_error) else ""  # else it is of the chain
    text = f"{first.kind} at {first.place}; reference: {first.match} at {first.match_place}; {note}".rstrip("; ")
    if len(rows) == 1:
        return text
    names = ", ".join(row.path for row in rows[1:3]) + f" and {len(rows) - 3} more" * (len(rows) > 3)
    return f"{len(rows)} {first.kind}, the first {text}; also {names}"


def _source(table: LayerTable, number: int) -> list[str]:
    index, match, _ = table.pairing.pairs[number]
    return both_sources(table.port.nodes[index], table.reference.nodes[match])


def conclusive_check(logits: np.ndarray, degenerate_layers: list[str]) -> Check:
    """Check that a wrong port could have failed: the logits vary, and no layer has a constant output.

    Args:
        logits: of the reference.
        degenerate_layers: paths of layers whose output is constant or not finite.
    """
    logits = as_floats(logits)
    largest = float(np.abs(logits).max())
    spread = float(np.ptp(logits)) / max(largest, 1e-300)
    name = "the comparison is conclusive"
    if not spread >= LEAST_SPREAD or largest < LEAST_LOGIT:
        detail = "the logits are constant, tiny or not finite; draw other weights or inputs"
        if logits.size == 1:
            detail = "the output is a single number; give a shape with a larger batch"
        return Check(name, INCONCLUSIVE, spread, detail=detail)
    if degenerate_layers:
        paths = ", ".join(degenerate_layers[:5])
        return Check(name, INCONCLUSIVE, detail=f"constant or not finite in {len(degenerate_layers)} layers: {paths}")
    return exactly(name, True, f"logits vary by {spread:.2g} of their size; no layer is constant")
