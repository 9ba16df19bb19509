"""In float64, give the reference the constants that Paddle can hold: it stores some numbers of layers as float32.

1e-5 becomes 9.99999974738e-06, and a correct port of a deep network would be 1e-10 to 1e-6 away for that alone, where a
wrong constant could hide. With the same constants on both sides what remains is the rounding of float64.
"""

from contextlib import contextmanager

import numpy as np
from torch.nn import functional as F


def as_float32(value: float) -> float:
    return float(np.float32(value))


def share_as_float32(share: float) -> float:
    """Paddle stores the share of the old statistics, torch that of the new."""
    return 1 - as_float32(1 - share)


@contextmanager
def float32_constants(is_active: bool):
    """While active, torch's functions below round their constants to float32."""
    if not is_active:
        yield
        return
    batch_norm, layer_norm = F.batch_norm, F.layer_norm

    def float32_batch_norm(input, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
        share = share_as_float32(momentum)
        return batch_norm(input, mean, var, weight, bias, training, share, as_float32(eps))

    replaced = {
        "batch_norm": float32_batch_norm,
        "layer_norm": lambda input, shape, weight=None, bias=None, eps=1e-5: layer_norm(
            input, shape, weight, bias, as_float32(eps)
        ),
        "hardsigmoid": lambda input, inplace=False: (input * as_float32(1 / 6) + 0.5).clamp(0, 1),
    }
    originals = {name: getattr(F, name) for name in replaced}
    for name, function in replaced.items():
        setattr(F, name, function)
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(F, name, function)
