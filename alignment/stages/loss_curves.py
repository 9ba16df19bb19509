"""Two loss curves on scanned digits in float32: is the port as far from the reference as two runs of the reference?"""

import numpy as np

from ..compare import Difference
from ..paddle_side.training import train_port
from ..rules import Arrays
from ..session import Session
from ..verdict import Check, within

NUM_DIGITS = 10
CURVE_EPOCHS, CURVE_BATCH, CURVE_SEED = 2, 64, 0
ROUNDING = 1e-7  # relative change of the weights of the second run of the reference, about one rounding of float32
LEAST_NOISE = 1e-3  # of the mean loss; the distance between two runs of the reference counts as at least this
USER_PARTS = ("loss", "optimizer", "schedule", "step")  # with one of them the digits are no measure: they are ours


def takes_digits(session: Session) -> bool:
    """Whether the curves on digits fit the case: pictures of three channels, logits of 10 classes, our training."""
    if any(getattr(session.case, key).is_given for key in USER_PARTS):
        return False
    shape = session.case.train.shape
    return len(shape) == 4 and shape[1] == 3 and session.has_labels and session.num_classes >= NUM_DIGITS


def compare_curves(session: Session) -> tuple[Check, dict[str, list[float]]]:
    """Compare the loss curves of two epochs on 1,797 scanned digits in float32.

    The training of a deep network is chaotic: a change of 1e-7 in the weights moves the curve by 5 % within 56 steps.
    So the reference is trained twice, the second time from weights that differ by the rounding of float32. The distance
    of the port from the reference must be about as small as that between the two runs.
    """
    train = session.case.train
    images, labels = digit_batches(train.curve_side)
    steps = len(images) // CURVE_EPOCHS
    rate = session.port.rate(train.curve_lr, CURVE_EPOCHS)
    rates = [rate(step // steps, step % steps, steps) for step in range(len(images))]
    settings = session.train_settings("float32", rates, 0)
    inputs = session.reference.put({"images": images, "labels": labels})
    finish = session.begin_training(inputs, settings, session.weights_file)
    changed_weights = session.reference.put(_rounded_otherwise(session.reference_weights))
    finish_second = session.begin_training(inputs, settings, changed_weights)
    actual = train_port(session.port, session.port_weights, images, labels, settings)["losses"]
    expected = finish()[1]["losses"]
    second = finish_second()[1]["losses"]
    distance, noise = float(np.abs(actual - expected).mean()), float(np.abs(second - expected).mean())
    allowed = session.case.tolerances.curve * max(noise, LEAST_NOISE * float(expected.mean()))
    detail = (f"mean distance over {len(actual)} steps; two runs of the reference differ by {noise:.3g}; last loss "
              f"{actual[-1]:.3f} in the port, {expected[-1]:.3f} and {second[-1]:.3f} in the reference")  # fmt: skip
    check = within("digits, two loss curves", Difference(distance), allowed, detail=detail)
    curves = {
        "digits, port": actual,
        "digits, reference": expected,
        "digits, reference, weights changed by 1e-7": second,
    }
    return check, {name: losses.tolist() for name, losses in curves.items()}


def _rounded_otherwise(weights: Arrays) -> Arrays:
    rng = np.random.default_rng(0)
    return {
        name: (array * (1 + ROUNDING * rng.standard_normal(array.shape))).astype(array.dtype)
        if array.dtype.kind == "f"
        else array
        for name, array in weights.items()
    }


def digit_batches(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Scanned digits of scikit-learn in a fixed order: images [N, 64, 3, side, side] from -1 to 1, labels [N, 64].

    `side` is a multiple of 8, the height and width of the digits.
    """
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
