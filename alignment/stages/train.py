"""Stage 7: N steps from the same weights on the same batches, and two loss curves on a real data set."""

import numpy as np

from ..compare import Difference, compare_sketches, not_finite
from ..hints import setting_hints, update_hints
from ..pairing import pair
from ..port_train import train_port
from ..reference import File
from ..rules import Arrays
from ..session import Session
from ..verdict import FAIL, Check, StageResult, exactly, within

WIDTH = 256  # of the sketch of each tensor at each step
LEAST_SHARE = 1e-6  # as in backward.py
KINDS = {
    "gradient": "gradients", "velocity": "momentum buffers", "moment1": "first moments", "moment2": "second moments",
    "weight": "weights and statistics",
}  # fmt: skip
# The order in which a step computes: what differs first in it is nearer to the cause.
ORDER = list(KINDS)
CURVE_EPOCHS, CURVE_BATCH, CURVE_SEED = 2, 64, 0


def run(session: Session) -> StageResult:
    """Losses, gradients, optimizer state, weights and batch-norm statistics after each step; then the curves."""
    train = session.case.train
    settings = {"name": train.optimizer, "weight_decay": train.weight_decay}
    settings |= {"momentum": train.momentum} if train.optimizer == "momentum" else {}
    rates = [session.port.rate(train.lr, 1)(0, step, train.steps) for step in range(train.steps)]
    their_rates = session.reference.ask(
        "rates", schedule="cosine", lr=train.lr, epochs=1, steps_per_epoch=train.steps, options={}
    )["rates"]
    images = session.images((train.steps, *train.shape), "train")
    labels = session.labels((train.steps, train.shape[0]), session.num_classes)
    finish = _begin(session, images, labels, their_rates, settings, session.weights_file, "float64", WIDTH)
    ours = train_port(
        session.port,
        session.weights,
        images,
        labels,
        rates,
        settings,
        train.smoothing,
        "float64",
        session.case.seed,
        WIDTH,
    )
    theirs = finish()[1]
    checks = [_losses(session, ours["losses"], theirs["losses"]), *_states(session, ours, theirs)]
    failed = [check for check in checks if check.status == FAIL]
    if failed:
        failed[0].hints += update_hints(ours, theirs, their_rates)
        for check in failed:
            check.hints += _setting_hints(session, check.layer) if check.layer else []
    curves = {"loss of the port": ours["losses"].tolist(), "loss of the reference": theirs["losses"].tolist()}
    if train.curve_side:
        check, digits = _digits(session, settings)
        checks.append(check)
        curves |= digits
    return StageResult("train", checks, curves=curves)


def _begin(session: Session, images, labels, rates, settings: dict, weights: File, dtype: str, width: int):
    inputs = session.reference.put({"images": images, "labels": labels})
    return session.reference.begin(
        "train_steps", reference=session.case.reference_spec, weights=weights, inputs=inputs,
        dtype=dtype, rates=rates, optimizer=settings, seed=session.case.seed, axes=session.axes, width=width,
        loss={"name": "cross_entropy", "smoothing": session.case.train.smoothing},
    )  # fmt: skip


def _setting_hints(session: Session, layer: str) -> list[str]:
    """What the layer was told, beside its match: a batch norm's momentum shows in no forward."""
    images = session.images(session.case.shape)
    ours, answer, theirs = session.traces(images, np.zeros(len(images)), "float32", is_training=False, smoothing=None)
    pairs = pair(ours.nodes, ours.arrays, answer["nodes"], theirs, session.case.layers).pairs
    return [hint for a, b, _ in pairs if ours.nodes[a]["path"] == layer
            for hint in setting_hints(ours.nodes[a]["settings"], answer["nodes"][b]["settings"])]  # fmt: skip


def _losses(session: Session, ours: np.ndarray, theirs: np.ndarray) -> Check:
    detail, tolerance = f"{len(theirs)} steps, from {theirs[0]:.4f} to {theirs[-1]:.4f}", session.case.tolerances.step
    if unusable := not_finite(ours, theirs):
        return within("losses", unusable, tolerance, detail=detail)
    apart = np.abs(ours - theirs) / np.abs(theirs)
    if (apart > tolerance).any():
        detail = f"first at step {int(np.argmax(apart > tolerance))}; " + detail
    return within("losses", Difference(float(apart.max())), tolerance, detail=detail)


def _states(session: Session, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> list[Check]:
    """One check for each kind of tensor; its detail names the first step and the first tensors that differ."""
    expected = {}
    for key, rows in theirs.items():
        if "/" in key:
            kind, name = key.split("/", 1)
            expected.setdefault(kind, {})[session.rules.name_for_port(name)] = rows
    checks = []
    for kind in [kind for kind in ORDER if kind in expected]:
        found = {name: ours.get(f"{kind}/{name}") for name in expected[kind]}
        missing = [name for name, rows in found.items() if rows is None]
        if missing:
            layer = missing[0].rsplit(".", 1)[0] if len(missing) < len(found) / 2 else ""
            text = f"none in the port for {len(missing)}: {', '.join(missing[:3])}"
            checks.append(exactly(KINDS[kind], False, text, layer=layer))
            continue
        checks.append(_kind(session, kind, found, expected[kind]))
    return checks


def _kind(session: Session, kind: str, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> Check:
    tolerance = session.case.tolerances.step
    num_steps = len(next(iter(theirs.values())))
    worst, worst_name = Difference(0.0), ""
    for step in range(num_steps):
        least = LEAST_SHARE * max(float(np.linalg.norm(rows[step])) for rows in theirs.values())
        found = {n: compare_sketches(ours[n][step], theirs[n][step], least_scale=least) for n in theirs}
        wrong = [name for name, difference in found.items() if not difference.relative <= tolerance]
        if wrong:
            first = found[wrong[0]]
            text = f"first after step {step}, in {len(wrong)} of {len(theirs)}: {', '.join(wrong[:4])}"
            layer = wrong[0].rsplit(".", 1)[0] if len({name.rsplit(".", 1)[0] for name in wrong}) == 1 else ""
            return within(KINDS[kind], first, tolerance, layer=layer, detail=text)
        name = max(found, key=lambda name: found[name].relative)
        if found[name].relative > worst.relative:
            worst, worst_name = found[name], name
    detail = f"{len(theirs)} tensors after each of {num_steps} steps; the farthest: {worst_name}"
    return within(KINDS[kind], worst, tolerance, detail=detail)


def _digits(session: Session, settings: dict) -> tuple[Check, dict[str, list[float]]]:
    """Two epochs of 1,797 scanned digits in float32, as people train.

    A deep network in training is chaotic: a change of 1e-7 in the weights moves the curve by 5 % within 56 steps. So
    the reference runs twice, the second time from weights that differ by float32's rounding, and the port has to be
    about as near to the reference as the reference is to itself.
    """
    train = session.case.train
    images, labels = digit_batches(train.curve_side)
    steps = len(images) // CURVE_EPOCHS
    rate = session.port.rate(train.curve_lr, CURVE_EPOCHS)
    rates = [rate(step // steps, step % steps, steps) for step in range(len(images))]
    finish = _begin(session, images, labels, rates, settings, session.weights_file, "float32", 0)
    moved = session.reference.put(_rounded_otherwise(session.their_weights))
    finish_again = _begin(session, images, labels, rates, settings, moved, "float32", 0)
    ours = train_port(
        session.port, session.weights, images, labels, rates, settings, train.smoothing, "float32", session.case.seed, 0
    )["losses"]
    theirs = finish()[1]["losses"]
    again = finish_again()[1]["losses"]
    apart, noise = float(np.abs(ours - theirs).mean()), float(np.abs(again - theirs).mean())
    allowed = session.case.tolerances.curve * max(noise, 1e-3 * float(theirs.mean()))
    detail = (f"mean distance over {len(ours)} steps; the reference is {noise:.3g} from itself; last loss "
              f"{ours[-1]:.3f} in the port, {theirs[-1]:.3f} and {again[-1]:.3f} in the reference")  # fmt: skip
    check = within("digits, two loss curves", Difference(apart), allowed, detail=detail)
    curves = {"digits, port": ours, "digits, reference": theirs, "digits, reference, weights changed by 1e-7": again}
    return check, {name: losses.tolist() for name, losses in curves.items()}


def _rounded_otherwise(weights: Arrays) -> Arrays:
    rng = np.random.default_rng(0)
    return {
        name: (array * (1 + 1e-7 * rng.standard_normal(array.shape))).astype(array.dtype)
        if array.dtype.kind == "f" else array
        for name, array in weights.items()
    }  # fmt: skip


def digit_batches(side: int) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits in a fixed order: images [N, 64, 3, side, side] in -1..1, labels [N, 64]."""
    from sklearn.datasets import load_digits

    from datasets.loading.sampler import epoch_order

    digits = load_digits()
    scans = digits.images.astype(np.float32) / 8 - 1  # [1797, 8, 8]
    repeats = side // 8
    images = np.repeat(np.repeat(scans, repeats, 1), repeats, 2)[:, None].repeat(3, 1)
    num_steps = len(images) // CURVE_BATCH
    orders = [epoch_order(len(images), CURVE_SEED, epoch)[: num_steps * CURVE_BATCH] for epoch in range(CURVE_EPOCHS)]
    order = np.concatenate(orders).reshape(-1, CURVE_BATCH)
    return images[order], digits.target[order].astype(np.int64)
