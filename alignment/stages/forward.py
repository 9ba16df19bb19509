"""Stage 2: in evaluation, layer by layer, in float64 and float32, in the chain and each layer alone."""

import numpy as np

from ..compare import compare
from ..layers import LayerTable, Row
from ..session import Session
from ..verdict import FAIL, INCONCLUSIVE, PASS, Check, StageResult, exactly, within

FEWEST_DISTINCT = 1e-6  # logits that vary less than this, relative to their size, cannot tell one model from another


def run(session: Session) -> StageResult:
    """The layer table in float64, the errors of float32 beside it, and the first difference."""
    case = session.case
    images, labels = session.images(case.shape), np.zeros(case.shape[0], np.int64)
    ours, answer, theirs = session.traces(images, labels, "float64", is_training=False, smoothing=None)
    table = LayerTable(session, ours, answer, theirs, is_backward=False)
    logits = theirs[answer["logits"]]
    logits64 = compare(ours.arrays[ours.logits], logits, absolute=case.tolerances.absolute)
    checks = [
        table.unpaired_with_weights(),
        within("logits, float64", logits64, table.chain_tolerance),
        *alone_checks(table.rows, table.wrong_alone(), "forward"),
        conclusive(logits, table.dead_layers()),
    ]
    if first := table.first_difference():
        checks.insert(0, first)
    ours32, answer32, theirs32 = session.traces(images, labels, "float32", is_training=False, smoothing=None)
    if ours32.error:
        return StageResult("forward", checks, layers=[row.as_dict() for row in table.rows])
    add_float32(table, ours32.nodes, ours32.arrays, answer32["nodes"], theirs32)
    logits32 = compare(ours32.arrays[ours32.logits], theirs32[answer32["logits"]], absolute=case.tolerances.absolute)
    checks.append(within("logits, float32", logits32, case.tolerances.float32))
    return StageResult("forward", checks, layers=[row.as_dict() for row in table.rows])


def alone_checks(rows: list[Row], wrong: list[Row], what: str, *, gradient: float = 0.0) -> list[Check]:
    """One failed check for each wrong layer, or one that passes for all; `gradient` is what is allowed of those."""
    if wrong:
        return [
            Check(f"{row.path} alone, {what}", FAIL, max(row.alone_error or 0, row.gradient_error or 0), row.tolerance,
                  f"{row.kind} at {row.place}; reference: {row.match}; {row.note}".rstrip("; "), row.path, row.hints)
            for row in wrong
        ]  # fmt: skip
    errors = [max(row.alone_error, row.gradient_error or 0) for row in rows if row.alone_error is not None]
    worst = max(errors, default=0.0)
    return [Check(f"each layer alone, {what}", PASS, worst, max([gradient, *(row.tolerance for row in rows)]),
                  f"{len(errors)} layers fed the reference's inputs")]  # fmt: skip


def conclusive(logits: np.ndarray, dead: list[str]) -> Check:
    """Could a wrong port have passed? Yes if the logits hardly vary, or a layer answers the same everywhere."""
    spread = float(np.ptp(logits)) / max(float(np.abs(logits).max()), 1e-300)
    tiny = float(np.abs(logits).max()) < 1e-8
    name = "the comparison can prove something"
    if not spread >= FEWEST_DISTINCT or tiny:
        detail = "the logits are constant, tiny or no numbers; draw other weights or inputs"
        return Check(name, INCONCLUSIVE, spread, detail=detail)
    if dead:
        return Check(name, INCONCLUSIVE, detail=f"constant or no numbers in {len(dead)} layers: {', '.join(dead[:5])}")
    return exactly(name, True, f"logits vary by {spread:.2g} of their size; no layer is constant")


def add_float32(table: LayerTable, nodes: list[dict], arrays: dict, their_nodes: list[dict], theirs: dict) -> None:
    """The same pairs in float32: the noise beside which a bug shows, or hides."""
    for row, (index, match, _) in zip(table.rows, table.pairing.pairs, strict=True):
        a, b = nodes[index].get("outputs"), their_nodes[match].get("outputs")
        if a and b:
            row.float32_error = compare(arrays[a[0]], theirs[b[0]]).relative
