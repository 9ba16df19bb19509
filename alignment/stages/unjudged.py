"""Reasons for which a difference proves nothing: the check is then inconclusive, with the reason, and not a failure."""

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..trace import Trace
from ..user_code import RAISED
from ..verdict import FAIL, INCONCLUSIVE, PASS, Check, StageResult

DIVERGED = 1e3  # a loss that grows beyond this multiple of the first one
# Messages of both frameworks about an operation that does not exist for this device, type or mode.
MISSING_OPERATION = re.compile(
    r"not implemented for|is not implemented|does not have a deterministic|is not registered|"
    r"Could not run|Unimplemented|not compiled with|kernel .* is not found|no kernel"
)
# Of a framework; code of the user that raises it itself is not finished.
NOT_IMPLEMENTED = re.compile(rf"NotImplementedError(?!.*\({RAISED}at )", re.DOTALL)


def unjudged(checks: Iterable[Check], reason: str) -> list[Check]:
    """The checks with failures as inconclusive, and this reason for all of these; unchanged if the reason is empty."""
    if not reason:
        return list(checks)
    return [
        replace(check, status=INCONCLUSIVE, detail=f"{reason}; {check.detail}".rstrip("; "))
        if check.status in (FAIL, INCONCLUSIVE)
        else check
        for check in checks
    ]


def draw_reason(port: Trace, reference: Trace) -> str:
    """Why the random draws of two traces cannot be paired, or an empty text."""
    names = [*port.unpaired_draws, *reference.unpaired_draws]
    return f"random draws that the tool cannot repeat on the other side: {', '.join(names)}" if names else ""


def trace_reason(port: Trace, reference: Trace) -> str:
    """Why the difference of two traces proves nothing, or an empty text."""
    return draw_reason(port, reference) or (missing_operation(port.error) if port.error else "")


def draw_checks(port: Trace, reference: Trace) -> list[Check]:
    """A check that says which dropouts were set to 0, if there are any."""
    names = list(dict.fromkeys([*port.turned_off, *reference.turned_off]))
    if not names:
        return []
    detail = f"set to 0 on both sides, because the frameworks draw inside one operator: {', '.join(names)}"
    return [Check("dropout inside layers", PASS, detail=detail)]


def left_out(stage: str, output_type: str, num_trained: int | None = None, *, has_batch: bool) -> StageResult | None:
    """The result of a stage that has nothing to compare, which says why; None if the stage can be run.

    Args:
        stage: that compares gradients.
        output_type: of the reference.
        num_trained: parameters that are trained, of both models, for a stage that trains.
        has_batch: whether all tensors of the output have the batch as their first axis, or the case names a loss.
    """
    reason = ""
    if not output_type.startswith(("float", "bfloat")):
        reason = f"the output is of the type {output_type}, and no loss of this tool has a gradient of it"
    elif num_trained == 0:
        reason = "neither model has a parameter that is trained"
    elif not has_batch:
        reason = "an output has no batch axis, so this tool has no loss for it: name yours with the key loss"
    return StageResult(stage, [Check("left out", PASS, detail=reason)]) if reason else None


def divergence_reason(losses: np.ndarray) -> str:
    """Why the losses of the reference say nothing about the port, or an empty text."""
    if not np.isfinite(losses).all():
        return "the training of the reference diverges (its loss is not finite); lower lr in train"
    if np.abs(losses).max() > DIVERGED * max(abs(float(losses[0])), 1e-30):
        return f"the training of the reference diverges (loss {losses[0]:.3g} to {losses[-1]:.3g}); lower lr in train"
    return ""


def missing_operation(message: str) -> str:
    """Why an exception is not a difference of the models: an operation is missing here. Empty for other messages."""
    if not MISSING_OPERATION.search(message) and not NOT_IMPLEMENTED.search(message):
        return ""
    return "an operation is missing on this device or for this type"
