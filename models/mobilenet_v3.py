"""MobileNetV3 small and large at any width (Howard et al. 2019), with torchvision's names and arithmetic."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import paddle
from paddle import nn
from paddle.nn import functional as F

from .layers import check_count, check_flag, check_number, init_fan_out

# torch's momentum (0.01) is the weight of the new batch, Paddle's is the weight of the old statistics.
BATCH_NORM = {"momentum": 0.99, "epsilon": 1e-3}
ACTIVATIONS = {"RE": nn.ReLU, "HS": nn.Hardswish}


class Row(NamedTuple):
    """Row of the paper's tables 1 and 2; a dilated row keeps the size that its stride would halve."""

    in_channels: int
    kernel: int
    expanded: int
    out_channels: int
    use_se: bool
    activation: str
    stride: int
    dilation: int = 1

    def scaled(self, width_mult: float) -> "Row":
        """The row with all channels times `width_mult`, rounded by `scale_channels`."""
        return self._replace(
            in_channels=scale_channels(self.in_channels, width_mult),
            expanded=scale_channels(self.expanded, width_mult),
            out_channels=scale_channels(self.out_channels, width_mult),
        )


def small_rows(tail: int = 1, dilation: int = 1) -> tuple[Row, ...]:
    """The blocks of MobileNetV3-Small (table 2 of the paper), the last stage divided by `tail` and dilated."""
    return (
        Row(16, 3, 16, 16, True, "RE", 2),
        Row(16, 3, 72, 24, False, "RE", 2),
        Row(24, 3, 88, 24, False, "RE", 1),
        Row(24, 5, 96, 40, True, "HS", 2),
        Row(40, 5, 240, 40, True, "HS", 1),
        Row(40, 5, 240, 40, True, "HS", 1),
        Row(40, 5, 120, 48, True, "HS", 1),
        Row(48, 5, 144, 48, True, "HS", 1),
        Row(48, 5, 288, 96 // tail, True, "HS", 2, dilation),
        Row(96 // tail, 5, 576 // tail, 96 // tail, True, "HS", 1, dilation),
        Row(96 // tail, 5, 576 // tail, 96 // tail, True, "HS", 1, dilation),
    )


def mobilenet_v3_small(
    width_mult: float = 1.0,
    reduced_tail: bool = False,
    dilated: bool = False,
    num_classes: int = 1000,
    dropout: float = 0.2,
) -> "MobileNetV3":
    """Create MobileNetV3-Small (table 2 of the paper).

    Args:
        width_mult: see MobileNetV3.
        reduced_tail: halve the channels of the last stage, as for detection and segmentation.
        dilated: dilate the last stage, so that its stride is 16 instead of 32.
        num_classes: see MobileNetV3.
        dropout: see MobileNetV3.

    Raises:
        ModelError: an argument of a wrong type or out of range.
    """
    tail, dilation = _tail_divider(reduced_tail), _tail_dilation(dilated)
    return MobileNetV3(small_rows(tail, dilation), 1024 // tail, width_mult, num_classes, dropout)


def large_rows(tail: int = 1, dilation: int = 1) -> tuple[Row, ...]:
    """The blocks of MobileNetV3-Large (table 1 of the paper), the last stage divided by `tail` and dilated."""
    return (
        Row(16, 3, 16, 16, False, "RE", 1),
        Row(16, 3, 64, 24, False, "RE", 2),
        Row(24, 3, 72, 24, False, "RE", 1),
        Row(24, 5, 72, 40, True, "RE", 2),
        Row(40, 5, 120, 40, True, "RE", 1),
        Row(40, 5, 120, 40, True, "RE", 1),
        Row(40, 3, 240, 80, False, "HS", 2),
        Row(80, 3, 200, 80, False, "HS", 1),
        Row(80, 3, 184, 80, False, "HS", 1),
        Row(80, 3, 184, 80, False, "HS", 1),
        Row(80, 3, 480, 112, True, "HS", 1),
        Row(112, 3, 672, 112, True, "HS", 1),
        Row(112, 5, 672, 160 // tail, True, "HS", 2, dilation),
        Row(160 // tail, 5, 960 // tail, 160 // tail, True, "HS", 1, dilation),
        Row(160 // tail, 5, 960 // tail, 160 // tail, True, "HS", 1, dilation),
    )


def mobilenet_v3_large(
    width_mult: float = 1.0,
    reduced_tail: bool = False,
    dilated: bool = False,
    num_classes: int = 1000,
    dropout: float = 0.2,
) -> "MobileNetV3":
    """Create MobileNetV3-Large (table 1 of the paper); the arguments are those of `mobilenet_v3_small`."""
    tail, dilation = _tail_divider(reduced_tail), _tail_dilation(dilated)
    return MobileNetV3(large_rows(tail, dilation), 1280 // tail, width_mult, num_classes, dropout)


class MobileNetV3(nn.Layer):
    """Compute logits [B, num_classes] of images [B, 3, H, W].

    Args:
        rows: the inverted residual blocks, at width 1.
        last_channels: width of the hidden linear layer, at width 1.
        width_mult: multiplies every width; the results are rounded to multiples of 8.
        num_classes: width of the head.
        dropout: probability before the head.

    Raises:
        ModelError: an argument of a wrong type or out of range.
    """

    # A parameter of another network that is mistaken for this one, and what a message about its file says.
    other_networks: ClassVar[dict[str, str]] = {
        "blocks.0.expand_conv.conv.weight": "it is PaddleClas's MobileNetV3, which has other layers; name the model of "
        "its size and width with the ending _paddleclas, as in --model mobilenet_v3_small_x1_0_paddleclas"
    }

    def __init__(self, rows: Sequence[Row], last_channels: int, width_mult: float, num_classes: int, dropout: float):
        super().__init__()
        check_number("width_mult", width_mult, 0.01, 100)
        check_count("num_classes", num_classes)
        check_number("dropout", dropout, 0, 1)
        rows = [row.scaled(width_mult) for row in rows]
        last_channels = scale_channels(last_channels, width_mult)
        features_channels = 6 * rows[-1].out_channels

        self.features = nn.Sequential(
            ConvNormAct(3, rows[0].in_channels, 3, stride=2, activation="HS"),
            *(InvertedResidual(row) for row in rows),
            ConvNormAct(rows[-1].out_channels, features_channels, 1, activation="HS"),
        )
        self.avgpool = nn.AdaptiveAvgPool2D(1)
        self.classifier = nn.Sequential(
            nn.Linear(features_channels, last_channels),
            nn.Hardswish(),
            nn.Dropout(dropout),
            nn.Linear(last_channels, num_classes),
        )
        init_fan_out(self)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.avgpool(self.features(x)).flatten(1)  # [B, 576] in small, [B, 960] in large
        return self.classifier(x)


class InvertedResidual(nn.Layer):
    """Expand, filter each channel, scale the channels, project (figure 4): [B, in, H, W] -> [B, out, H', W']."""

    def __init__(self, row: Row):
        super().__init__()
        self.is_residual = row.stride == 1 and row.in_channels == row.out_channels
        width, activation = row.expanded, row.activation
        block = []
        if width != row.in_channels:
            block.append(ConvNormAct(row.in_channels, width, 1, activation=activation))
        stride = 1 if row.dilation > 1 else row.stride
        block.append(ConvNormAct(width, width, row.kernel, stride, row.dilation, groups=width, activation=activation))
        if row.use_se:
            block.append(SqueezeExcitation(width, scale_channels(width // 4)))
        block.append(ConvNormAct(width, row.out_channels, 1))
        self.block = nn.Sequential(*block)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x + self.block(x) if self.is_residual else self.block(x)


class SqueezeExcitation(nn.Layer):
    """Scale the channels by their means over the image (Hu et al. 2018): [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2D(1)
        self.fc1 = nn.Conv2D(channels, squeezed, 1)
        self.fc2 = nn.Conv2D(squeezed, channels, 1)
        self.activation = nn.ReLU()
        self.scale_activation = Hardsigmoid()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        scale = self.activation(self.fc1(self.avgpool(x)))  # [B, squeezed, 1, 1]
        return x * self.scale_activation(self.fc2(scale))


class Hardsigmoid(nn.Layer):
    """min(max(x / 6 + 1/2, 0), 1), any shape.

    `nn.Hardsigmoid` has the slope 0.1666667, an error of 3e-8; the slope here is 1/6 rounded to float32, an error of
    5e-9, because Paddle stores the attribute in float32.
    """

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return F.hardsigmoid(x, slope=1 / 6)


class ConvNormAct(nn.Sequential):
    """Sequence of convolution without bias (0), batch norm (1) and activation (2): [B, in, H, W] -> [B, out, H', W'].

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the kernel in pixels.
        stride: of the convolution.
        dilation: of the convolution.
        groups: of the convolution; `in_channels` filters each channel alone.
        activation: "RE" (ReLU) or "HS" (Hardswish); None leaves the activation out.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        activation: str | None = None,
    ):
        padding = kernel // 2 * dilation
        layers = [
            nn.Conv2D(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias_attr=False),
            nn.BatchNorm2D(out_channels, **BATCH_NORM),
        ]
        if activation:
            layers.append(ACTIVATIONS[activation]())
        super().__init__(*layers)


def scale_channels(channels: int, width_mult: float = 1.0) -> int:
    """Round channels * width_mult to a multiple of 8 that is at least 8 and at least 0.9 of the product.

    Source: `make_divisible` of the authors' code and of torchvision.
    """
    wanted = channels * width_mult
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _tail_divider(reduced_tail: bool) -> int:
    check_flag("reduced_tail", reduced_tail)
    return 2 if reduced_tail else 1  # the last stage at half width, for detection and segmentation


def _tail_dilation(dilated: bool) -> int:
    check_flag("dilated", dilated)
    return 2 if dilated else 1  # the last stage at output stride 16
