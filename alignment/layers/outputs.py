"""Compare the single tensors that two models return, which the adapter packs into one."""

from collections.abc import Callable

import numpy as np

from ..trace import Trace

MAX_OUTPUTS = 8  # of a model, that a message lists


def differing_outputs(port: Trace, reference: Trace) -> str:
    """How number, shapes or order of what two models return differ, or an empty text.

    In the packed array y and its mean are equal to y with other axes and its mean.
    """
    own, other = port.outputs, reference.outputs
    if port.error or (len(own) == 1 and len(other) == 1):
        return ""
    paths = [path for path, _ in own], [path for path, _ in other]
    is_other_order = paths[0] != paths[1] and set(paths[0]) == set(paths[1])
    if [shape for _, shape in own] == [shape for _, shape in other] and not is_other_order:
        return ""
    words = [
        ", ".join(f"{path} {shape}".strip() for path, shape in side[:MAX_OUTPUTS])
        + (f" and {len(side) - MAX_OUTPUTS} more" if len(side) > MAX_OUTPUTS else "")
        for side in (own, other)
    ]
    return f"the port returns {words[0]}; the reference returns {words[1]}"


def differing_parts(
    port: Trace, reference: Trace, differ: Callable[[np.ndarray, np.ndarray], bool]
) -> tuple[str, list[tuple[np.ndarray, np.ndarray]]]:
    """(which of several outputs differ, in words; the pairs of these arrays), or ("", the one pair) for one output.

    Args:
        port: trace of the port, with the shapes of its outputs.
        reference: the same of the reference.
        differ: whether two arrays differ.
    """
    actual, expected = port.arrays[port.logits], reference.arrays[reference.logits]
    own, others = unpacked(actual, port.outputs), unpacked(expected, reference.outputs)
    if len(own) < 2 or len(own) != len(others):
        return "", [(actual, expected)]
    pairs = zip(own, own.values(), others.values(), strict=True)
    wrong = {path: (part, other) for path, part, other in pairs if differ(part, other)}
    names = ", ".join(list(wrong)[:MAX_OUTPUTS])
    return f"{len(wrong)} of {len(own)} outputs differ: {names}" if wrong else "", list(wrong.values())


def unpacked(packed: np.ndarray, outputs: list) -> dict[str, np.ndarray]:
    """{path: array} of the outputs in a packed array; empty if the sizes do not tell where each one is.

    Args:
        packed: [B, N], or [N] if the outputs have no common batch.
        outputs: pairs (path, shape).
    """
    shapes = {path: tuple(shape) for path, shape in outputs}
    sizes = [int(np.prod(shape[1:] if packed.ndim == 2 else shape)) for shape in shapes.values()]
    if not sizes or packed.ndim > 2 or sum(sizes) != packed.shape[-1]:
        return {}
    parts = np.split(packed, np.cumsum(sizes)[:-1], axis=-1)
    return {path: part.reshape(shape) for (path, shape), part in zip(shapes.items(), parts, strict=True)}
