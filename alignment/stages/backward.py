"""Stage 6: compare one step in train mode and float64: loss, gradients of images and parameters, each layer alone."""

from dataclasses import replace

import numpy as np

from ..case import Case, Tolerances
from ..compare import Difference, compare, compare_packed, least_scale
from ..layers.table import LayerTable
from ..session import Session, TraceRequest
from ..trace import Trace
from ..verdict import FAIL, FIRST_GRADIENT, Check, StageResult, exactly, within
from .first_operation import FIRST, with_operations
from .forward import layer_checks
from .loss import USER_TOLERANCE
from .rounding import Compared, Rounding, judged, may_be_rounding, widened, worst_of
from .unjudged import draw_checks, left_out, trace_reason, unjudged

SOFTMAX_DEPTH = 64  # Paddle's softmax on a CPU clips the exponents at -64
ALONE = "forward and backward"


def run(session: Session) -> StageResult:
    """Compare a forward and a backward; dropout layers have equal masks on both sides, batch norms use the batch."""
    case = session.case
    if not case.loss.is_given and (nothing := left_out("backward", session.output_type, has_batch=session.has_batch)):
        return nothing
    images = session.images(case.train.shape, "backward")
    labels = session.targets(case.train.shape[0], is_training=True)
    request = session.training_request(images, labels, case.train.smoothing)
    port, reference = session.traces(request)
    table, checks = _compare(case, port, reference)
    if may_be_rounding(checks):
        table, checks = _compare(widened(session, request, reference), port, reference)
    checks = [with_operations(session, request, table, check) if check.name == FIRST else check for check in checks]
    is_wrong = any(check.status == FAIL for check in checks)
    if is_wrong and not port.error and not table.first_difference() and (broken := _first_wrong_gradient(table)):
        checks.insert(0, broken)  # by itself harmless: rounding may break a tie in a max pool
    if not is_wrong:
        table.port, table.reference = port, reference = port.without_layers(), reference.without_layers()
        checks.append(_float32_check(session, table, request.without_layer_values()))
    checks = [*unjudged(checks, trace_reason(port, reference)), *draw_checks(port, reference)]
    return StageResult("backward", checks, layers=table.as_dicts())


def _compare(case: Case, port: Trace, reference: Trace) -> tuple[LayerTable, list[Check]]:
    """The layer table of two traces in float64, and the checks of it."""
    table = LayerTable(case, port, reference, is_backward=True)
    checks = layer_checks(table, ALONE, gradient=case.tolerances.gradient)
    if not port.error:
        gradient = max(case.tolerances.gradient, table.chain_tolerance)  # larger after an operation of FLOORS
        tolerances = replace(case.tolerances, gradient=gradient)
        checks.append(_loss_check(table))
        checks += _parameter_checks(tolerances, port, reference)
        checks.append(_image_check(tolerances, port.image_gradient, reference.image_gradient))
    return table, checks


def _loss_check(table: LayerTable) -> Check:
    actual, expected = np.array([table.port.loss]), np.array([table.reference.loss])
    tolerance = max(table.case.tolerances.float64, table.chain_tolerance)
    if table.case.loss.is_given:
        tolerance = max(tolerance, USER_TOLERANCE)
    check = within("loss", _accept_constant(compare(actual, expected)), tolerance)
    logits = table.reference.arrays[table.reference.logits]
    if check.status == FAIL and np.ptp(logits, axis=-1).max() > SOFTMAX_DEPTH:
        check.hints.append("some logits are more than 64 below the highest, where Paddle's softmax on a CPU stops")
    return check


def _parameter_checks(tolerances: Tolerances, port: Trace, reference: Trace) -> list[Check]:
    actual = port.parameter_gradients
    expected = reference.parameter_gradients
    hint = "frozen (stop_gradient), or cut off by detach or no_grad"
    missing = [name for name in expected if name not in actual]
    checks = [
        Check(f"gradient of {name}", FAIL, detail="the port computes none", layer=_layer_of(name), hints=[hint])
        for name in missing[:3]
    ]
    extra = [name for name in actual if name not in expected]
    checks += [Check(f"gradient of {name}", FAIL, detail="the reference computes none") for name in extra[:3]]
    least = least_scale(expected.values())
    differences = {
        name: compare_packed(actual[name], expected[name], least_scale=least, absolute=tolerances.absolute)
        for name in expected
        if name in actual
    }
    num_wrong = sum(difference.relative > tolerances.gradient for difference in differences.values())
    name, worst = max(differences.items(), key=lambda item: item[1].relative, default=("none", Difference(0.0)))
    detail = f"{len(differences)} parameters; largest error: {name}" + (f"; {num_wrong} differ" if num_wrong else "")
    summary = within("gradients of the parameters", _accept_constant(worst), tolerances.gradient, detail=detail)
    return [*checks, summary]


def _accept_constant(difference: Difference) -> Difference:
    """Accept a constant array, which may be one number; NaN on both sides (with a note) stays inconclusive."""
    return difference if difference.note else difference._replace(inconclusive="")


def _layer_of(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _image_check(tolerances: Tolerances, actual: np.ndarray | None, expected: np.ndarray | None) -> Check:
    if expected is None:
        is_same = actual is None or not actual.any()
        return exactly("gradient of the images", is_same, "the reference computes none: no input has a gradient")
    if actual is None:
        return Check("gradient of the images", FAIL, detail="the port computes none")
    return within("gradient of the images", compare(actual, expected), tolerances.gradient)


def _float32_check(session: Session, table: LayerTable, request: TraceRequest) -> Check:
    """Judge the gradients of the port in float32 by the reference's own rounding."""

    def collect(port: Trace, rounding: Rounding) -> Compared:
        found = [
            (name, *rounding.compare(f"p.{name}", port.parameter_gradients[name]))
            for name in table.reference.parameter_gradients
            if name in port.parameter_gradients
        ]
        if port.image_gradient is not None and table.reference.image_gradient is not None:
            found.append(("the images", *rounding.compare("images", port.image_gradient)))
        return found

    return worst_of("gradients, float32", judged(session, table.reference, request, collect))


def _first_wrong_gradient(table: LayerTable) -> Check | None:
    """From the loss towards the images: the first output whose gradient differs though all forward values agree."""
    if not (wrong := table.first_wrong_gradient()):
        return None
    detail = f"the gradient of its output is {'missing' if wrong.is_missing else 'wrong'}, after {wrong.after}"
    tolerance = table.case.tolerances.gradient
    return Check(FIRST_GRADIENT, FAIL, wrong.relative, tolerance, detail, wrong.node["path"])
