"""MobileNetV3 as PaddleClas has it: a network of its own beside torchvision's, with public weights of every width."""

from collections.abc import Sequence

import paddle
from paddle import nn
from paddle.nn import functional as F

from .layers import check_count, check_number, init_fan_out
from .mobilenet_v3 import ACTIVATIONS, Row, large_rows, scale_channels, small_rows

HIDDEN_CHANNELS = 1280  # of small and large alike, at every width; the paper has 1024 for small


def mobilenet_v3_small_paddleclas(
    width_mult: float = 1.0, num_classes: int = 1000, dropout: float = 0.2
) -> "MobileNetV3PaddleClas":
    """MobileNetV3-Small of PaddleClas."""
    return MobileNetV3PaddleClas(small_rows(), width_mult, num_classes, dropout)


def mobilenet_v3_large_paddleclas(
    width_mult: float = 1.0, num_classes: int = 1000, dropout: float = 0.2
) -> "MobileNetV3PaddleClas":
    """MobileNetV3-Large of PaddleClas."""
    return MobileNetV3PaddleClas(large_rows(), width_mult, num_classes, dropout)


class MobileNetV3PaddleClas(nn.Layer):
    """Compute logits [B, num_classes] of images [B, 3, H, W], with the names and the arithmetic of PaddleClas.

    What differs from torchvision's network (`mobilenet_v3.py`), so that weights of one do not fit the other: every
    block expands, the first one too; squeeze layers have a quarter of the channels without rounding; the hard sigmoid
    has the slope 0.2, not 1/6; batch norms have epsilon 1e-5, not 1e-3; the hidden layer has 1280 channels at every
    width and no bias; dropout scales in evaluation. Source: ppcls/arch/backbone/legendary_models/mobilenet_v3.py.

    Args:
        rows: the inverted residual blocks, at width 1.
        width_mult: multiplies every width but that of the hidden layer; the results are rounded to multiples of 8.
        num_classes: width of the head.
        dropout: before the head; evaluation multiplies by 1 - dropout ("downscale_in_infer").

    Raises:
        ModelError: an argument of a wrong type or out of range.
    """

    def __init__(self, rows: Sequence[Row], width_mult: float, num_classes: int, dropout: float):
        super().__init__()
        check_number("width_mult", width_mult, 0.01, 100)
        check_count("num_classes", num_classes)
        check_number("dropout", dropout, 0, 1)
        features_channels = scale_channels(6 * rows[-1].out_channels, width_mult)
        rows = [row.scaled(width_mult) for row in rows]

        self.conv = ConvBN(3, rows[0].in_channels, 3, stride=2, activation="HS")
        self.blocks = nn.Sequential(*(ResidualUnit(row) for row in rows))
        self.last_second_conv = ConvBN(rows[-1].out_channels, features_channels, 1, activation="HS")
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.last_conv = nn.Conv2D(features_channels, HIDDEN_CHANNELS, 1, bias_attr=False)
        self.hardswish = nn.Hardswish()
        self.dropout = nn.Dropout(dropout, mode="downscale_in_infer")
        self.fc = nn.Linear(HIDDEN_CHANNELS, num_classes)
        init_fan_out(self)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.last_second_conv(self.blocks(self.conv(x)))
        x = self.hardswish(self.last_conv(self.avg_pool(x)))  # [B, 1280, 1, 1]
        return self.fc(self.dropout(x).flatten(1))


class ResidualUnit(nn.Layer):
    """Expand, filter each channel, scale the channels, project: [B, in, H, W] -> [B, out, H', W']."""

    def __init__(self, row: Row):
        super().__init__()
        width, activation = row.expanded, row.activation
        self.is_residual = row.stride == 1 and row.in_channels == row.out_channels
        self.expand_conv = ConvBN(row.in_channels, width, 1, activation=activation)
        self.bottleneck_conv = ConvBN(width, width, row.kernel, row.stride, groups=width, activation=activation)
        self.mid_se = SqueezeExcitation(width) if row.use_se else None
        self.linear_conv = ConvBN(width, row.out_channels, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = self.bottleneck_conv(self.expand_conv(x))
        if self.mid_se is not None:
            y = self.mid_se(y)
        y = self.linear_conv(y)
        return x + y if self.is_residual else y


class SqueezeExcitation(nn.Layer):
    """Scale the channels by their means over the image (Hu et al. 2018): [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, channels: int):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.conv1 = nn.Conv2D(channels, channels // 4, 1)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2D(channels // 4, channels, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        scale = self.conv2(self.relu(self.conv1(self.avg_pool(x))))  # [B, C, 1, 1]
        return x * F.hardsigmoid(scale, slope=0.2, offset=0.5)


class ConvBN(nn.Layer):
    """Convolution without bias, batch norm and, unless activation is None, an activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the kernel.
        stride: stride of the convolution; it is padded by half of the kernel.
        groups: groups of the convolution.
        activation: key of ACTIVATIONS.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: str | None = None,
    ):
        super().__init__()
        self.conv = nn.Conv2D(
            in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias_attr=False
        )
        self.bn = nn.BatchNorm2D(out_channels, momentum=0.9, epsilon=1e-5)
        self.act = ACTIVATIONS[activation]() if activation else None

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.bn(self.conv(x))
        return x if self.act is None else self.act(x)
