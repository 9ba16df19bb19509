"""Functions that several models share: checks of input and arguments, and initialisation."""

import math
from typing import NamedTuple

import paddle
from paddle import nn

from common.errors import ModelError

from . import check_input_size


class PublishedLayout(NamedTuple):
    """How another publisher of the same network has named and scaled its weights, in Paddle's layouts.

    A model declares them as `published_layouts`; engine/weight_names.py reads that when it loads a file.

    Attributes:
        layers: {our name of a layer: theirs}.
        scale: {our name of a weight: factor from theirs to ours}, powers of two, so that no bit is lost.
    """

    layers: dict[str, str]
    scale: dict[str, float]

    def name_of(self, name: str) -> str | None:
        """Their name of our parameter; None if they have no such layer."""
        layer, _, parameter = name.rpartition(".")
        return f"{self.layers[layer]}.{parameter}" if layer in self.layers else None


@paddle.jit.not_to_static
def check_images(name: str, images: paddle.Tensor) -> None:
    """Check that the named model takes images [B, 3, H, W] of this height and width.

    Only Python numbers are compared, so nothing is added to an exported program; a side that is open at export (-1) is
    not checked.

    Raises:
        ModelError: the model does not take images of this size.
    """
    for side in images.shape[2:]:
        if side != -1:
            check_input_size(name, side)


def check_count(argument: str, value: int) -> None:
    """Check that the value is an integer of at least 1.

    Raises:
        ModelError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(f"{argument} must be an integer of 1 or more, got {value!r}")


def check_number(argument: str, value: float, low: float, high: float) -> None:
    """Check that low <= value <= high.

    Args:
        argument: name of the value, for the message.
        value: a number.
        low: smallest allowed value.
        high: largest allowed value.

    Raises:
        ModelError: the value is no number, or out of this range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ModelError(f"{argument} must be a number from {low} to {high}, got {value!r}")


def check_flag(argument: str, value: bool) -> None:
    """Check that the value is True or False: a text such as 'False' would count as true.

    Raises:
        ModelError: it is neither.
    """
    if not isinstance(value, bool):
        raise ModelError(f"{argument} must be true or false, got {value!r}")


def init_fan_out(model: nn.Layer) -> None:
    """Initialise the weights as PeleeNet and torchvision's MobileNetV3 do; batch norms keep Paddle's 1 and 0.

    Convolutions: N(0, 2 / (kh * kw * out)), the fan-out form of He et al. 2015; a grouped convolution counts all its
    outputs, as in torch. Linear layers: N(0, 0.01^2). Biases: 0.
    """
    for layer in model.sublayers():
        if isinstance(layer, nn.Conv2D):
            out_channels, _, *kernel = layer.weight.shape
            nn.initializer.Normal(std=math.sqrt(2 / (math.prod(kernel) * out_channels)))(layer.weight)
        elif isinstance(layer, nn.Linear):
            nn.initializer.Normal(std=0.01)(layer.weight)
        else:
            continue
        if layer.bias is not None:
            nn.initializer.Constant(0.0)(layer.bias)
