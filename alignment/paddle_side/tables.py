"""Give the port the reference's values of tables that both compute and neither has in its state.

A table of positions in float32 differs by a rounding between the frameworks, which is no difference of the models, and
which float64 would see everywhere behind it.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import paddle
from paddle import nn

TOLERANCE = 1e-3  # of the largest element, as for tables in the state: stages/initialisation.py


def tables_of(model: nn.Layer) -> Iterator[paddle.Tensor]:
    """The tensors of real numbers that the constructors keep outside of the state; no weights made of others."""
    for layer in model.sublayers(include_self=True):
        names = sorted(layer._non_persistable_buffer_names_set & layer._buffers.keys())
        buffers = [layer._buffers[name] for name in names]
        for value in (*buffers, *vars(layer).values()):
            if isinstance(value, paddle.Tensor) and value.stop_gradient and value.is_floating_point() and value.size:
                yield value


def set_tables(model: nn.Layer, tables: Iterable[np.ndarray]) -> None:
    """Give each table the values of the first of these of its shape that are nearly its own."""
    tables = list(tables)
    for value in tables_of(model):
        own = value.numpy()
        for other in tables:
            if other.shape == own.shape and 0 < np.abs(own - other).max() <= TOLERANCE * np.abs(other).max():
                value.set_value(other.astype(own.dtype))
                break
