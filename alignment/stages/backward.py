"""Stage 6: one step in train mode and float64: loss, gradients of images and of every parameter, each layer alone."""

import numpy as np

from ..compare import Difference, compare, compare_packed
from ..layers import LayerTable
from ..session import Session
from ..verdict import FAIL, Check, StageResult, within
from .forward import alone_checks

# A gradient that is zero but for rounding (a bias before a batch norm) is judged by the size of the others.
LEAST_SHARE = 1e-6
SOFTMAX_DEPTH = 64  # Paddle's CPU kernel clips what it exponentiates to -64


def run(session: Session) -> StageResult:
    """Dropout takes the same masks on both sides, batch norms use the batch."""
    case = session.case
    images = session.images(case.train.shape, "backward")
    labels = session.labels(case.train.shape[:1], session.num_classes)
    smoothing = case.train.smoothing
    ours, answer, theirs = session.traces(images, labels, "float64", is_training=True, smoothing=smoothing)
    table = LayerTable(session, ours, answer, theirs, is_backward=True)
    if ours.error:
        checks = [table.first_difference(), *alone_checks(table.rows, table.wrong_alone(), "forward and backward")]
        return StageResult("backward", checks, layers=[row.as_dict() for row in table.rows])
    loss = _even_if_constant(compare(np.array([ours.loss]), np.array([answer["loss"]])))
    loss_check = within("loss", loss, max(case.tolerances.float64, table.chain_tolerance))
    if loss_check.status == FAIL and np.ptp(theirs[answer["logits"]], axis=-1).max() > SOFTMAX_DEPTH:
        loss_check.hints.append("some logits are more than 64 below the highest, where Paddle's softmax on a CPU stops")
    checks = [
        loss_check,
        *_parameter_checks(session, ours.parameter_gradients, theirs),
        _image_check(session, ours.image_gradient, theirs["gradient_of_images"]),
        *alone_checks(table.rows, table.wrong_alone(), "forward and backward", gradient=case.tolerances.gradient),
    ]
    if first := table.first_difference():
        checks.insert(0, first)
    elif any(check.status == FAIL for check in checks) and (broken := _first_broken_gradient(table)):
        checks.insert(0, broken)  # alone it may be a tie in a max pool, broken by rounding: harmless
    return StageResult("backward", checks, layers=[row.as_dict() for row in table.rows])


def _parameter_checks(session: Session, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> list[Check]:
    expected = {session.rules.name_for_port(n.removeprefix("p.")): a for n, a in theirs.items() if n.startswith("p.")}
    least = LEAST_SHARE * max((float(np.abs(array).max()) for array in expected.values()), default=0.0)
    tolerance = session.case.tolerances.gradient
    without = [name for name in expected if name not in ours]
    hint = "frozen (stop_gradient), or cut off by detach or no_grad"
    checks = [
        Check(f"gradient of {name}", FAIL, detail="the port computes none", layer=_layer_of(name), hints=[hint])
        for name in without[:3]
    ]
    extra = [name for name in ours if name not in expected]
    checks += [Check(f"gradient of {name}", FAIL, detail="the reference computes none") for name in extra[:3]]
    found = {
        name: compare_packed(ours[name], expected[name], least_scale=least, absolute=session.case.tolerances.absolute)
        for name in expected
        if name in ours
    }
    wrong = [name for name, difference in found.items() if difference.relative > tolerance]
    name, worst = max(found.items(), key=lambda item: item[1].relative, default=("none", Difference(0.0)))
    detail = f"{len(found)} parameters; the farthest: {name}" + (f"; {len(wrong)} differ" if wrong else "")
    return [*checks, within("gradients of the parameters", _even_if_constant(worst), tolerance, detail=detail)]


def _even_if_constant(difference: Difference) -> Difference:
    """One number is as good as many here; NaN on both sides (which has a note) still proves nothing."""
    return difference if difference.note else difference._replace(proves_nothing="")


def _layer_of(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _image_check(session: Session, ours: np.ndarray | None, theirs: np.ndarray) -> Check:
    if ours is None:
        return Check("gradient of the images", FAIL, detail="the port computes none")
    return within("gradient of the images", compare(ours, theirs), session.case.tolerances.gradient)


def _first_broken_gradient(table: LayerTable) -> Check | None:
    """From the loss towards the images: the first output whose gradient differs though every forward value agrees."""
    gradients = {n.removeprefix("g."): a for n, a in table.theirs.items() if n.startswith("g.")}
    least = LEAST_SHARE * max((float(np.abs(array).max()) for array in gradients.values()), default=0.0)
    tolerance = table.session.case.tolerances.gradient
    after = "the loss"
    for index, match, _ in reversed(table.pairing.pairs):
        node, other = table.ours.nodes[index], table.nodes[match]
        for name, their_name in zip(node.get("outputs", []), other.get("outputs", []), strict=False):
            mine, expected = table.ours.gradients.get(name), gradients.get(their_name)
            if expected is None:
                continue
            difference = Difference(np.inf) if mine is None else compare(mine, expected, least_scale=least)
            if difference.relative > tolerance:
                detail = f"the gradient of its output is {'missing' if mine is None else 'wrong'}, after {after}"
                return Check("first wrong gradient", FAIL, difference.relative, tolerance, detail, node["path"])
        after = node["path"]
    return None
