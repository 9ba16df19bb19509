"""Known ways in which a port goes wrong, recognised by settings and by values, each with what to do."""

import numpy as np

from .pairing import kind

# What a setting that differs usually means.
SETTING_HINTS = {
    "new_batch_share": "torch's momentum is the share of the new batch, Paddle's that of the old: Paddle = 1 - torch",
    "epsilon": "torch's default is 1e-5; MobileNetV3 uses 1e-3",
    "count_include_pad": "torch counts the padding by default; write AvgPool2D(..., exclusive=False)",
    "dropout_mode": "downscale_in_infer changes evaluation; torch's dropout is upscale_in_train",
    "approximate": "Paddle's GELU(approximate=True) is torch's GELU('tanh')",
    "align_corners": "torch's default is False",
    "bias": "check bias_attr=False on the port and bias=False on the reference",
    "use_global_stats": "the batch norm ignores the batch in training",
}


def hints_for(ours: dict | None, theirs: dict | None, layer, inputs: list, outputs: list, expected: list) -> list[str]:
    """Suspects for one layer, or for a value between layers when the nodes are None; the likeliest first."""
    hints = []
    if ours and theirs:
        if kind(ours) != kind(theirs):
            hints.append(f"{ours['class']} where the reference has {theirs['class']}")
        hints += setting_hints(ours["settings"], theirs["settings"])
    for output, other in zip(outputs, expected, strict=False):
        hints += value_hints(output, other)
        hints += _transposed(layer, inputs, other)
    return list(dict.fromkeys(hints))


def setting_hints(ours: dict, theirs: dict) -> list[str]:
    """One sentence for every constructor argument that differs."""
    hints = []
    for word in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(word), theirs.get(word)
        if a == b or (isinstance(a, float | int) and isinstance(b, float | int) and abs(a - b) <= 1e-9 * abs(b)):
            continue
        if a is None and word not in ("use_global_stats",):
            continue  # not told by the port's class, or None and False, which mean the same
        if not a and not b:
            continue
        said = "not set" if b is None else f"{b}"
        explanation = SETTING_HINTS.get(word, "")
        if word == "new_batch_share":
            a, said = f"{1 - a:.6g} (Paddle)", f"{b} (torch), which is {1 - b:.6g} in Paddle"
            word = "momentum"
        hints.append(f"{word} is {a}, in the reference {said}" + (f": {explanation}" if explanation else ""))
    return hints


def value_hints(ours: np.ndarray, theirs: np.ndarray) -> list[str]:
    """Is it the same thing scaled, shifted, permuted, flipped or turned?"""
    if ours.shape == theirs.shape and np.array_equal(ours, theirs):
        return []
    if ours.shape != theirs.shape:
        turned = sorted(ours.shape) == sorted(theirs.shape)
        return [f"the shape is {list(ours.shape)}, in the reference {list(theirs.shape)}"
                + (": the same axes in another order" if turned else "")]  # fmt: skip
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()) or ours.size < 2:
        return []
    scale = np.abs(theirs).max() or 1.0
    norm = float((theirs * theirs).sum())
    if ours.ndim == 2 and _close(ours.sum(1), np.ones(len(ours)), 1.0) and not _close(theirs.sum(1), ours.sum(1), 1.0):
        return ["every row adds up to 1: is a softmax in the model?"]
    factor = float((ours * theirs).sum()) / norm if norm else 0.0
    if _close(ours, factor * theirs, scale) and abs(factor - 1) > 1e-9:
        return [f"the reference's values times {factor:.6g}"]
    shift = float((ours - theirs).mean())
    if _close(ours, theirs + shift, scale):
        return [f"the reference's values plus {shift:.6g}"]
    if ours.ndim >= 2 and _close(ours[:, ::-1], theirs, scale):
        return ["the channels are in reverse order (RGB and BGR?)"]
    if ours.ndim >= 2 and _is_permuted(ours, theirs, scale):
        return ["the reference's channels in another order: look at concat, split, reshape or flatten"]
    if _close(np.sort(ours, None), np.sort(theirs, None), scale):
        return ["the reference's numbers in another order: look at transpose, reshape or flatten"]
    return []


def _is_permuted(ours: np.ndarray, theirs: np.ndarray, scale: float) -> bool:
    """Along axis 1, judged by the sorted list of per-channel sums and by all numbers."""
    axes = tuple(axis for axis in range(ours.ndim) if axis != 1)
    same_sums = _close(np.sort(ours.sum(axes)), np.sort(theirs.sum(axes)), scale * ours.size / ours.shape[1])
    return same_sums and _close(np.sort(ours, None), np.sort(theirs, None), scale)


def _transposed(layer, inputs: list, expected: np.ndarray) -> list[str]:
    """Would a linear layer be right with its weight turned?"""
    weight = getattr(layer, "weight", None)
    if type(layer).__name__ != "Linear" or not inputs or weight.shape[0] != weight.shape[1]:
        return []
    bias = 0 if layer.bias is None else layer.bias.numpy()
    turned = inputs[0] @ weight.numpy().T + bias
    if turned.shape == expected.shape and _close(turned, expected, np.abs(expected).max()):
        return ["right with the weight transposed: add its name to `transpose` (Paddle keeps [in, out])"]
    return []


def _close(a: np.ndarray, b: np.ndarray, scale: float) -> bool:
    return float(np.abs(a - b).max()) <= 1e-6 * scale


def update_hints(ours: dict, theirs: dict, rates: list[float]) -> list[str]:
    """What a step did to the weights, fitted: step = -(a * gradient + b * weight) + c * last step."""
    fits = {}
    for side, records in (("port", ours), ("reference", theirs)):
        names = [key.split("/", 1)[1] for key in records if key.startswith("gradient/")]
        names = [name for name in names if f"weight/{name}" in records]
        if not names or len(rates) < 3:
            return []
        weight, gradient = (
            [_joined(records, kind, names, step) for step in range(3)] for kind in ("weight", "gradient")
        )
        move = weight[1] - weight[0], weight[2] - weight[1]
        basis = np.stack([-gradient[2], -weight[1], move[0]], 1)
        if not (np.isfinite(basis).all() and np.isfinite(move[1]).all()):
            return []
        fits[side] = np.linalg.lstsq(basis, move[1], rcond=None)[0]
        fits[side] *= 1 / rates[2], 1 / rates[2], rates[1] / rates[2]  # the last move was made at another rate
    words = ("learning rate, times", "weight decay", "momentum")
    return [f"fitted {word}: {a:.6g} in the port, {b:.6g} in the reference"
            for word, a, b in zip(words, fits["port"], fits["reference"], strict=True)
            if abs(a - b) > 1e-4 * max(abs(b), 1e-3)]  # fmt: skip


def _joined(records: dict, what: str, names: list[str], step: int) -> np.ndarray:
    """The sketches of all parameters in one vector; sketches are linear, so a fit to them is a fit to the tensors."""
    return np.concatenate([records[f"{what}/{name}"][step] for name in names])
