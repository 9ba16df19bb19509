"""Stage 2: compare one forward in evaluation mode layer by layer, in the chain and alone, in float64 and float32."""

import numpy as np

from ..compare import compare
from ..layers.table import LayerTable, Row
from ..session import Session
from ..verdict import FAIL, INCONCLUSIVE, PASS, Check, StageResult, exactly, within

LEAST_SPREAD = 1e-6  # relative; logits that vary less cannot tell one model from another
LEAST_LOGIT = 1e-8  # the largest logit of a conclusive comparison is above it


def run(session: Session) -> StageResult:
    """Compare all layers and the logits in float64, and the logits in float32."""
    case = session.case
    images = session.images(case.shape)
    port, reference = session.evaluation_traces(images, "float64")
    table = LayerTable(case, port, reference, is_backward=False)
    expected = reference.arrays[reference.logits]
    logits = compare(port.arrays[port.logits], expected, absolute=case.tolerances.absolute)
    checks = [
        table.unpaired_with_weights(),
        within("logits, float64", logits, table.chain_tolerance),
        *alone_checks(table.rows, "forward"),
        conclusive_check(expected, table.degenerate_layers()),
    ]
    if first := table.first_difference():
        checks.insert(0, first)
    port32, reference32 = session.evaluation_traces(images, "float32")
    if not port32.error:
        table.add_float32_errors(port32, reference32)
        actual, expected = port32.arrays[port32.logits], reference32.arrays[reference32.logits]
        logits32 = compare(actual, expected, absolute=case.tolerances.absolute)
        checks.append(within("logits, float32", logits32, case.tolerances.float32))
    return StageResult("forward", checks, layers=table.as_dicts())


def alone_checks(rows: list[Row], what: str, *, gradient: float = 0.0) -> list[Check]:
    """One failed check for each layer that is wrong alone, or one check that passes for all.

    Args:
        rows: of the layer table.
        what: "forward" or "forward and backward", for the name of the check.
        gradient: largest error of a gradient that passes.
    """
    wrong = [row for row in rows if row.is_wrong_alone]
    if wrong:
        return [_wrong_layer(row, what) for row in wrong]
    errors = [row.worst_alone for row in rows if row.alone_error is not None]
    worst = max(errors, default=0.0)
    tolerance = max([gradient, *(row.tolerance for row in rows)])
    detail = f"{len(errors)} layers, each with the inputs of the reference's"
    return [Check(f"each layer alone, {what}", PASS, worst, tolerance, detail)]


def _wrong_layer(row: Row, what: str) -> Check:
    detail = f"{row.kind} at {row.place}; reference: {row.match}; {row.note}".rstrip("; ")
    return Check(f"{row.path} alone, {what}", FAIL, row.worst_alone, row.tolerance, detail, row.path, row.hints)


def conclusive_check(logits: np.ndarray, degenerate_layers: list[str]) -> Check:
    """Check that a wrong port could have failed: the logits vary, and no layer has a constant output.

    Args:
        logits: of the reference.
        degenerate_layers: paths of layers whose output is constant or not finite.
    """
    largest = float(np.abs(logits).max())
    spread = float(np.ptp(logits)) / max(largest, 1e-300)
    name = "the comparison is conclusive"
    if not spread >= LEAST_SPREAD or largest < LEAST_LOGIT:
        detail = "the logits are constant, tiny or not finite; draw other weights or inputs"
        return Check(name, INCONCLUSIVE, spread, detail=detail)
    if degenerate_layers:
        paths = ", ".join(degenerate_layers[:5])
        return Check(name, INCONCLUSIVE, detail=f"constant or not finite in {len(degenerate_layers)} layers: {paths}")
    return exactly(name, True, f"logits vary by {spread:.2g} of their size; no layer is constant")
