"""Recognize known mistakes of ports by settings and by values, and say what to do."""

import numpy as np

from .pairing import node_kind
from .settings import differing_settings, suggested_edit

# What a setting that differs usually means.
SETTING_HINTS = {
    "new_batch_share": "torch's momentum is the share of the new batch, Paddle's that of the old: Paddle = 1 - torch",
    "count_include_pad": "torch counts the padding by default",
    "dropout_mode": "downscale_in_infer changes evaluation; torch's dropout is upscale_in_train",
    "approximate": "Paddle's GELU(approximate=True) is torch's GELU('tanh')",
    "align_corners": "torch's default is False",
    "time_first": "torch's default is sequence first, Paddle's batch first",
    "affine": "torch's InstanceNorm has no weight and bias by default, Paddle's has",
}

LEAST_FACTOR = 1e-5  # a factor nearer to 1, or a relative shift nearer to 0, is rounding of a constant


def layer_hints(
    nodes: tuple[dict, dict], layer, inputs: list[np.ndarray], actual: list[np.ndarray], expected: list[np.ndarray]
) -> list[str]:
    """Hints for one layer that differs, the most probable first.

    Args:
        nodes: the node of the port and that of the reference.
        layer: the layer of the port.
        inputs: what the layer was given.
        actual: outputs of the layer.
        expected: outputs of the layer of the reference.
    """
    port_node, reference_node = nodes
    hints = []
    if node_kind(port_node) != node_kind(reference_node):
        hints.append(f"{port_node['class']} where the reference has {reference_node['class']}")
    if node_kind(port_node) == "hardsigmoid" == node_kind(reference_node):
        hints.append("Paddle's Hardsigmoid has the slope 0.1666667, torch's 1/6: write F.hardsigmoid(x, slope=1 / 6)")
    hints += setting_hints(port_node["settings"], reference_node["settings"], port_node["class"])
    for output, other in zip(actual, expected, strict=False):
        hints += value_hints(output, other) + _transpose_hints(layer, inputs, other)
    return list(dict.fromkeys(hints))


def setting_hints(port_settings: dict, reference_settings: dict, class_name: str = "") -> list[str]:
    """One sentence for each constructor argument that differs; with the Paddle class also the edit."""
    hints = []
    for word, (a, b) in differing_settings(port_settings, reference_settings).items():
        edit = suggested_edit(class_name, word, b)
        edit = f"; write {edit}" if edit else ""
        meaning = f": {SETTING_HINTS[word]}" if word in SETTING_HINTS else ""
        if word == "new_batch_share":
            a, b, word = f"{1 - a:.6g} (Paddle)", f"{b} (torch), which is {1 - b:.6g} in Paddle", "momentum"
        hints.append(f"{word} is {a}, in the reference {b}{meaning}{edit}")
    return hints


def value_hints(actual: np.ndarray, expected: np.ndarray) -> list[str]:
    """A hint if `actual` is `expected` scaled, shifted, permuted, flipped or with other axes."""
    if actual.shape == expected.shape and np.array_equal(actual, expected):
        return []
    if actual.shape != expected.shape:
        is_permuted = sorted(actual.shape) == sorted(expected.shape)
        return [f"the shape is {list(actual.shape)}, in the reference {list(expected.shape)}"
                + (": the same axes in another order" if is_permuted else "")]  # fmt: skip
    if {actual.dtype.kind, expected.dtype.kind} & {"b", "c"}:  # truth values, and complex numbers, have no order
        return []
    if not (np.isfinite(actual).all() and np.isfinite(expected).all()) or actual.size < 2:
        return []
    scale = np.abs(expected).max() or 1.0
    if np.abs(actual - expected).max() <= LEAST_FACTOR * scale:
        return []  # too small a difference to have a form: it would be called a shift by 0, or another order
    if _is_softmax(actual) and not _close(expected.sum(1), actual.sum(1), 1.0):
        return ["every row adds up to 1: is a softmax in the model?"]
    norm = float((expected * expected).sum())
    factor = float((actual * expected).sum()) / norm if norm else 0.0
    if _close(actual, factor * expected, scale) and abs(factor - 1) > LEAST_FACTOR:
        return [f"the reference's values times {factor:.6g}"]
    shift = float((actual - expected).mean())
    if _close(actual, expected + shift, scale):
        return [f"the reference's values plus {shift:.6g}"]
    if limits := _clipped(actual, expected, scale):
        return [f"the reference's values are clipped to {limits}"]
    if limits := _clipped(expected, actual, scale):
        return [f"the values are clipped to {limits}, the reference's are not"]
    if actual.ndim >= 2 and _close(actual[:, ::-1], expected, scale):
        return ["the channels are in reverse order (RGB and BGR?)"]
    if actual.ndim >= 2 and _has_permuted_channels(actual, expected, scale):
        return ["the reference's channels in another order: look at concat, split, reshape or flatten"]
    if _close(np.sort(actual, None), np.sort(expected, None), scale):
        return ["the reference's numbers in another order: look at transpose, reshape or flatten"]
    return []


def _clipped(free: np.ndarray, clipped: np.ndarray, scale: float) -> str:
    """`[low, high]` if `clipped` is `free` with several values at its highest; one alone may be there by chance."""
    low, high = float(clipped.min()), float(clipped.max())
    if (clipped == high).sum() < 2 or not free.max() > high or not _close(np.clip(free, low, high), clipped, scale):
        return ""
    return f"[{low:.6g}, {high:.6g}]"


def _is_softmax(array: np.ndarray) -> bool:
    return array.ndim == 2 and _close(array.sum(1), np.ones(len(array)), 1.0)


def _has_permuted_channels(actual: np.ndarray, expected: np.ndarray, scale: float) -> bool:
    """Whether axis 1 is permuted: the sorted sums of the channels are equal, and the sorted numbers too."""
    axes = tuple(axis for axis in range(actual.ndim) if axis != 1)
    sum_scale = scale * actual.size / actual.shape[1]
    has_equal_sums = _close(np.sort(actual.sum(axes)), np.sort(expected.sum(axes)), sum_scale)
    return has_equal_sums and _close(np.sort(actual, None), np.sort(expected, None), scale)


def _transpose_hints(layer, inputs: list[np.ndarray], expected: np.ndarray) -> list[str]:
    """A hint if a linear layer with a square weight would be right with the weight transposed."""
    weight = getattr(layer, "weight", None)
    if type(layer).__name__ != "Linear" or not inputs or weight.shape[0] != weight.shape[1]:
        return []
    bias = 0 if layer.bias is None else layer.bias.numpy()
    transposed = inputs[0] @ weight.numpy().T + bias
    if transposed.shape == expected.shape and _close(transposed, expected, np.abs(expected).max()):
        return ["right with the weight transposed: add its name to `transpose` (Paddle keeps [in, out])"]
    return []


def _close(a: np.ndarray, b: np.ndarray, scale: float) -> bool:
    return float(np.abs(a - b).max()) <= 1e-6 * scale
