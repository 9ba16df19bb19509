"""In float64, round the constants of torch's layers to float32, as Paddle does when it stores them.

1e-5 becomes 9.99999974738e-06. A right port of a deep network would differ by 1e-10 to 1e-6 for that alone, and a wrong
constant could be as small. With equal constants on both sides only the rounding of float64 is left.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from torch.nn import functional as F

from alignment.replacing import functions_replaced


def as_float32(value: float) -> float:
    """The value rounded to float32."""
    return float(np.float32(value))


def share_as_float32(share: float) -> float:
    """The share of the new statistics after rounding; Paddle stores the share of the old, torch of the new ones."""
    return 1 - as_float32(1 - share)


@contextmanager
def float32_constants(is_active: bool) -> Iterator[None]:
    """Inside the context, batch, instance and layer norm and hardsigmoid of torch round their constants to float32."""
    if not is_active:
        yield
        return
    batch_norm, layer_norm, instance_norm = F.batch_norm, F.layer_norm, F.instance_norm

    def rounded_batch_norm(input, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
        share = share_as_float32(momentum)
        return batch_norm(input, mean, var, weight, bias, training, share, as_float32(eps))

    def rounded_instance_norm(
        input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
    ):
        return instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, as_float32(eps))

    def rounded_layer_norm(input, shape, weight=None, bias=None, eps=1e-5):
        return layer_norm(input, shape, weight, bias, as_float32(eps))

    def rounded_hardsigmoid(input, inplace=False):
        result = (input * as_float32(1 / 6) + 0.5).clamp(0, 1)
        return input.copy_(result) if inplace else result  # the model may use the input once more

    replaced = {
        "batch_norm": rounded_batch_norm,
        "instance_norm": rounded_instance_norm,
        "layer_norm": rounded_layer_norm,
        "hardsigmoid": rounded_hardsigmoid,
    }
    with functions_replaced(F, replaced):
        yield
