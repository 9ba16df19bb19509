"""What both sides compute for a pair of traces."""

from dataclasses import dataclass, replace

import numpy as np

from .exchange import TraceSettings
from .rules import Arrays


@dataclass(frozen=True)
class TraceRequest:
    """What both sides compute for a pair of traces.

    Attributes:
        images: of one batch, [B, 3, H, W].
        labels: [B], of the loss.
        settings: how the trace is recorded.
        weights: {name in the reference: array}; None for those of the session.
        port_images: what the port is given; None for the same.
        port_labels: the same for its loss.
    """

    images: np.ndarray
    labels: np.ndarray
    settings: TraceSettings
    weights: Arrays | None = None
    port_images: np.ndarray | None = None
    port_labels: np.ndarray | None = None

    def as_float32(self) -> "TraceRequest":
        """The same in float32, in the chain alone."""
        return replace(self, settings=replace(self.settings, dtype="float32")).in_chain()

    def in_chain(self) -> "TraceRequest":
        """The same without the backward of each layer alone."""
        return replace(self, settings=replace(self.settings, has_layers_alone=False))

    def without_loss(self) -> "TraceRequest":
        """The same forward without a backward."""
        return replace(self, settings=replace(self.settings, loss=None))

    def without_layer_values(self) -> "TraceRequest":
        """The same without the outputs of the layers and their gradients."""
        return replace(self, settings=replace(self.settings, has_layer_values=False))

    def with_inputs(self, images: np.ndarray, weights: Arrays | None = None) -> "TraceRequest":
        """The same with other images and weights."""
        return replace(self, images=images, weights=weights)
