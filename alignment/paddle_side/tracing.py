"""Build the port with the weights of a request and record its trace."""

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import paddle

from ..exchange import DropoutMasks
from ..memory import free_recorded_models
from ..rules import Arrays
from ..trace import Trace
from ..trace_request import TraceRequest
from .port import Port, build_with, default_dtype, loss_of_port
from .recorder import record_trace
from .training import as_target


def trace_of_port(
    port: Port, weights: Arrays, request: TraceRequest, source: str, watch: Callable = nullcontext
) -> Trace:
    """The trace of a new port.

    Args:
        port: the model and its loss.
        weights: {name in the port: array}.
        request: inputs and settings; its weights are those above.
        source: where the weights come from, for messages.
        watch: makes a context of the trace, in which the forward is run.

    Raises:
        CaseError: the port cannot be built.
        CheckpointError: the weights do not fit it.
    """
    free_recorded_models()
    paddle.seed(0)
    settings = request.settings
    with default_dtype(settings.dtype):
        model = build_with(port, weights, source, settings.dtype)
        images = request.images if request.port_images is None else request.port_images
        trace = record_trace(
            model, images.astype(settings.dtype), _loss_of(port, request), DropoutMasks(settings.seed),
            is_training=settings.is_training, watch=watch,
        )  # fmt: skip
    return trace if settings.has_layer_values else trace.without_layers()


def _loss_of(port: Port, request: TraceRequest) -> Callable[[paddle.Tensor], paddle.Tensor] | None:
    """The loss as a function of the output; None without one."""
    settings = request.settings
    if settings.loss is None:
        return None
    labels: np.ndarray = request.labels if request.port_labels is None else request.port_labels
    loss, targets = loss_of_port(port, settings.loss), as_target(labels, settings.dtype)
    return lambda logits: loss(logits, targets)
