"""One small net for each kind of layer, right and wrong in one setting, beside torch_side/layer_zoo.py."""

from collections.abc import Callable
from typing import NamedTuple

import paddle
from paddle import nn

SHAPES = {0: [], 1: [36], 2: [6, 6], 3: [2, 3, 6]}  # {number of axes after the channels: their lengths}
CHANNELS = 8


class Entry(NamedTuple):
    """A kind of layer.

    Attributes:
        make: the right layer.
        make_wrong: the layer with one mistake.
        word: what the problem must name, in small letters.
        rank: number of axes after the channels of the input.
        width: number of channels of the output.
    """

    make: Callable[[], nn.Layer]
    make_wrong: Callable[[], nn.Layer]
    word: str
    rank: int = 2
    width: int = CHANNELS


class Pair(nn.Layer):
    """A layer of two inputs is given the two halves of the channels."""

    def __init__(self, layer: nn.Layer):
        super().__init__()
        self.both = layer

    def forward(self, x):
        return self.both(x[:, :4], x[:, 4:])


class Sequence(nn.Layer):
    """A recurrent layer; the channels become the features of each step."""

    def __init__(self, layer: nn.Layer):
        super().__init__()
        self.steps = layer

    def forward(self, x):
        return self.steps(x.transpose([0, 2, 1]))[0].transpose([0, 2, 1])


class Net(nn.Layer):
    """A convolution, the layer, a weighted mean over all positions, and a linear layer."""

    def __init__(self, entry: str, is_wrong: bool = False):
        super().__init__()
        found = ZOO[entry]
        self.stem = nn.Conv2D(3, CHANNELS, 3, 2, 1)
        self.layer = found.make_wrong() if is_wrong else found.make()
        self.head = nn.Linear(found.width, 5)
        self._rank, self._width = found.rank, found.width

    def forward(self, x):
        x = self.stem(x)  # [B, 8, H, W]
        x = x.mean((2, 3)) if self._rank == 0 else x
        x = x[:, :, :6, :6].reshape([x.shape[0], CHANNELS, *SHAPES[self._rank]]) if self._rank in (1, 3) else x
        x = self.layer(x)
        x = x.reshape([x.shape[0], self._width, -1])
        weights = paddle.arange(1, x.shape[2] + 1, dtype=x.dtype) / x.shape[2]  # a plain mean undoes instance norm
        return self.head((x * weights).mean(2))


n, e = nn, Entry
ZOO = {
    "Conv1D": e(lambda: n.Conv1D(8, 8, 3, padding=1), lambda: n.Conv1D(8, 8, 3, padding=2), "padding", 1),
    "Conv2D": e(lambda: n.Conv2D(8, 8, 3, 2, 1), lambda: n.Conv2D(8, 8, 3, 1, 1), "stride"),
    "Conv2D dilated": e(
        lambda: n.Conv2D(8, 8, 3, padding=2, dilation=2), lambda: n.Conv2D(8, 8, 3, padding=2), "dilation"),
    "Conv2D reflect": e(
        lambda: n.Conv2D(8, 8, 3, padding=1, padding_mode="reflect"), lambda: n.Conv2D(8, 8, 3, padding=1),
        "padding_mode"),
    "Conv2D depthwise": e(
        lambda: n.Conv2D(8, 8, 3, padding=1, groups=8), lambda: n.Conv2D(8, 8, 3, padding=0, groups=8), "padding"),
    "Conv3D": e(lambda: n.Conv3D(8, 8, 1, padding=0), lambda: n.Conv3D(8, 8, 1, padding=1), "padding", 3),
    "Conv1DTranspose": e(
        lambda: n.Conv1DTranspose(8, 8, 3, 2, 1), lambda: n.Conv1DTranspose(8, 8, 3, 2, 0), "padding", 1),
    "Conv2DTranspose": e(
        lambda: n.Conv2DTranspose(8, 8, 4, 2, 1), lambda: n.Conv2DTranspose(8, 8, 4, 2, 0), "padding"),
    "Conv2DTranspose with output padding": e(
        lambda: n.Conv2DTranspose(8, 8, 3, 2, 1, 1), lambda: n.Conv2DTranspose(8, 8, 3, 2, 1, 0),
        "output_padding"),
    "Conv3DTranspose": e(
        lambda: n.Conv3DTranspose(8, 8, 2, 2), lambda: n.Conv3DTranspose(8, 8, 2, 1), "stride", 3),
    "Linear": e(lambda: n.Linear(8, 8), lambda: n.Linear(8, 8, bias_attr=False), "bias", 0),
    "BatchNorm1D": e(lambda: n.BatchNorm1D(8), lambda: n.BatchNorm1D(8, momentum=0.1), "momentum", 1),
    "BatchNorm1D of vectors": e(lambda: n.BatchNorm1D(8), lambda: n.BatchNorm1D(8, epsilon=1e-3), "epsilon", 0),
    "BatchNorm2D": e(lambda: n.BatchNorm2D(8), lambda: n.BatchNorm2D(8, epsilon=1e-3), "epsilon"),
    "BatchNorm2D of the batch": e(
        lambda: n.BatchNorm2D(8, use_global_stats=False), lambda: n.BatchNorm2D(8), "statistics"),
    "BatchNorm3D": e(lambda: n.BatchNorm3D(8), lambda: n.BatchNorm3D(8, momentum=0.99), "momentum", 3),
    "LayerNorm": e(lambda: n.LayerNorm(6), lambda: n.LayerNorm(6, epsilon=1e-6), "epsilon"),
    "GroupNorm": e(lambda: n.GroupNorm(4, 8), lambda: n.GroupNorm(2, 8), "num_groups"),
    "InstanceNorm1D": e(lambda: n.InstanceNorm1D(8), lambda: n.InstanceNorm1D(8, epsilon=1e-3), "epsilon", 1),
    "InstanceNorm2D": e(lambda: n.InstanceNorm2D(8), lambda: n.InstanceNorm2D(8, epsilon=1e-3), "epsilon"),
    "InstanceNorm3D": e(lambda: n.InstanceNorm3D(8), lambda: n.InstanceNorm3D(8, epsilon=1e-3), "epsilon", 3),
    "LocalResponseNorm": e(lambda: n.LocalResponseNorm(5), lambda: n.LocalResponseNorm(3), "size"),
    "AvgPool1D": e(
        lambda: n.AvgPool1D(3, 2, 1, exclusive=False), lambda: n.AvgPool1D(3, 2, 1), "count_include_pad", 1),
    "AvgPool2D": e(
        lambda: n.AvgPool2D(3, 2, 1, exclusive=False), lambda: n.AvgPool2D(3, 2, 1), "count_include_pad"),
    "AvgPool2D with a divisor": e(
        lambda: n.AvgPool2D(2, divisor_override=3), lambda: n.AvgPool2D(2), "divisor_override"),
    "AvgPool3D": e(lambda: n.AvgPool3D(2, 1), lambda: n.AvgPool3D(2, 2), "stride", 3),
    "MaxPool1D": e(lambda: n.MaxPool1D(3, 2), lambda: n.MaxPool1D(3, 2, ceil_mode=True), "ceil_mode", 1),
    "MaxPool2D": e(lambda: n.MaxPool2D(2, 2), lambda: n.MaxPool2D(2, 2, ceil_mode=True), "ceil_mode"),
    "MaxPool3D": e(lambda: n.MaxPool3D(2, 1), lambda: n.MaxPool3D(2, 2), "stride", 3),
    "LPPool1D": e(lambda: n.LPPool1D(2, 2), lambda: n.LPPool1D(4, 2), "norm_type", 1),
    "LPPool2D": e(lambda: n.LPPool2D(2, 2), lambda: n.LPPool2D(4, 2), "norm_type"),
    "AdaptiveAvgPool1D": e(lambda: n.AdaptiveAvgPool1D(5), lambda: n.AdaptiveAvgPool1D(6), "output_size", 1),
    "AdaptiveAvgPool2D": e(lambda: n.AdaptiveAvgPool2D(5), lambda: n.AdaptiveAvgPool2D(4), "output_size"),
    "AdaptiveAvgPool3D": e(lambda: n.AdaptiveAvgPool3D(2), lambda: n.AdaptiveAvgPool3D(3), "output_size", 3),
    "AdaptiveMaxPool1D": e(lambda: n.AdaptiveMaxPool1D(5), lambda: n.AdaptiveMaxPool1D(7), "output_size", 1),
    "AdaptiveMaxPool2D": e(lambda: n.AdaptiveMaxPool2D(5), lambda: n.AdaptiveMaxPool2D(3), "output_size"),
    "AdaptiveMaxPool3D": e(lambda: n.AdaptiveMaxPool3D(2), lambda: n.AdaptiveMaxPool3D(3), "output_size", 3),
    "Dropout": e(lambda: n.Dropout(0.25), lambda: n.Dropout(0.5), "p is 0.5", 0),
    "Dropout that scales down": e(
        lambda: n.Dropout(0.25), lambda: n.Dropout(0.25, mode="downscale_in_infer"), "dropout_mode", 0),
    "Dropout2D": e(lambda: n.Dropout2D(0.25), lambda: n.Dropout2D(0.5), "p is 0.5"),
    "Dropout3D": e(lambda: n.Dropout3D(0.25), lambda: n.Dropout3D(0.5), "p is 0.5", 3),
    "ReLU": e(n.ReLU, n.ReLU6, "relu6"),
    "ReLU6": e(n.ReLU6, n.ReLU, "relu6"),
    "LeakyReLU": e(lambda: n.LeakyReLU(0.1), lambda: n.LeakyReLU(0.01), "negative_slope"),
    "PReLU": e(lambda: n.PReLU(8), lambda: n.PReLU(8, init=0.1), "another constant"),
    "ELU": e(lambda: n.ELU(0.5), lambda: n.ELU(1.0), "alpha"),
    "CELU": e(lambda: n.CELU(0.5), lambda: n.CELU(1.0), "alpha"),
    "SELU": e(n.SELU, n.ELU, "selu"),
    "GELU": e(n.GELU, lambda: n.GELU(True), "approximate"),
    "GELU by tanh": e(lambda: n.GELU(True), n.GELU, "approximate"),
    "Silu": e(n.Silu, n.Hardswish, "silu"),
    "Swish": e(n.Swish, n.Mish, "silu"),
    "Mish": e(n.Mish, n.Silu, "mish"),
    "Softplus": e(lambda: n.Softplus(2.0), lambda: n.Softplus(1.0), "beta"),
    "Softplus with a threshold": e(lambda: n.Softplus(1.0, 20.0), lambda: n.Softplus(1.0, 10.0), "threshold"),
    "Softsign": e(n.Softsign, n.Tanh, "softsign"),
    "Sigmoid": e(n.Sigmoid, n.Hardsigmoid, "sigmoid"),
    "LogSigmoid": e(n.LogSigmoid, n.Sigmoid, "logsigmoid"),
    "Tanh": e(n.Tanh, n.Softsign, "tanh"),
    "Tanhshrink": e(n.Tanhshrink, n.Tanh, "tanhshrink"),
    "Hardswish": e(n.Hardswish, n.Silu, "hardswish"),
    "Hardtanh": e(lambda: n.Hardtanh(-20.0, 20.0), lambda: n.Hardtanh(-20.0, 30.0), "max"),
    "Hardshrink": e(lambda: n.Hardshrink(0.25), lambda: n.Hardshrink(0.5), "threshold"),
    "Softshrink": e(lambda: n.Softshrink(0.25), lambda: n.Softshrink(0.5), "threshold"),
    "ThresholdedReLU": e(lambda: n.ThresholdedReLU(0.1), lambda: n.ThresholdedReLU(0.2), "threshold"),
    "Softmax": e(lambda: n.Softmax(1), lambda: n.Softmax(-1), "axis"),
    "Softmax2D": e(n.Softmax2D, lambda: n.Softmax(2), "axis"),
    "LogSoftmax": e(lambda: n.LogSoftmax(1), lambda: n.LogSoftmax(-1), "axis"),
    "GLU": e(lambda: n.GLU(1), lambda: n.GLU(-1), "axis", 2, 4),
    "Upsample nearest": e(
        lambda: n.Upsample(scale_factor=2), lambda: n.Upsample(scale_factor=2, mode="bilinear"), "mode"),
    "Upsample bilinear": e(
        lambda: n.Upsample(scale_factor=2, mode="bilinear"),
        lambda: n.Upsample(scale_factor=2, mode="bilinear", align_corners=True), "align_corners"),
    "Upsample bilinear with corners": e(
        lambda: n.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        lambda: n.Upsample(scale_factor=2, mode="bilinear"), "align_corners"),
    "Upsample bicubic": e(
        lambda: n.Upsample(scale_factor=2, mode="bicubic"),
        lambda: n.Upsample(scale_factor=2, mode="bicubic", align_corners=True), "align_corners"),
    "Upsample with align_mode": e(
        lambda: n.Upsample(scale_factor=2, mode="bilinear"),
        lambda: n.Upsample(scale_factor=2, mode="bilinear", align_mode=1), "align_mode"),
    "UpsamplingBilinear2D": e(
        lambda: n.UpsamplingBilinear2D(scale_factor=2), lambda: n.UpsamplingNearest2D(scale_factor=2), "mode"),
    "UpsamplingNearest2D": e(
        lambda: n.UpsamplingNearest2D(scale_factor=2), lambda: n.UpsamplingBilinear2D(scale_factor=2), "mode"),
    "Pad1D": e(lambda: n.Pad1D(2), lambda: n.Pad1D(1), "padding", 1),
    "Pad2D": e(lambda: n.Pad2D(2), lambda: n.Pad2D(2, mode="reflect"), "mode"),
    "Pad2D by one value": e(
        lambda: n.Pad2D(2, value=1.5), lambda: n.Pad2D(2, value=0.5), "value is 0.5"),
    "Pad2D reflect": e(lambda: n.Pad2D(2, mode="reflect"), lambda: n.Pad2D(2, mode="replicate"), "mode"),
    "Pad2D replicate": e(lambda: n.Pad2D(2, mode="replicate"), lambda: n.Pad2D(2, mode="circular"), "mode"),
    "Pad2D circular": e(lambda: n.Pad2D(2, mode="circular"), lambda: n.Pad2D(2), "mode"),
    "Pad3D": e(lambda: n.Pad3D(1), lambda: n.Pad3D(1, value=1.0), "value is 1", 3),
    "ZeroPad2D": e(lambda: n.ZeroPad2D(1), lambda: n.ZeroPad2D([1, 0, 1, 0]), "padding"),
    "PixelShuffle": e(lambda: n.PixelShuffle(2), n.Identity, "identity", 2, 2),
    "PixelUnshuffle": e(lambda: n.PixelUnshuffle(2), n.Identity, "identity", 2, 32),
    "ChannelShuffle": e(lambda: n.ChannelShuffle(4), lambda: n.ChannelShuffle(2), "groups"),
    "Flatten": e(lambda: n.Flatten(2), lambda: n.Flatten(1, 2), "axis"),
    "Unfold": e(lambda: n.Unfold(2), lambda: n.Unfold(2, strides=2), "stride", 2, 32),
    "Bilinear": e(
        lambda: Pair(n.Bilinear(4, 4, 8)), lambda: Pair(n.Bilinear(4, 4, 8, bias_attr=False)), "bias", 0),
    "CosineSimilarity": e(
        lambda: Pair(n.CosineSimilarity(1, 1e-2)), lambda: Pair(n.CosineSimilarity(1)), "epsilon", 2, 1),
    "LSTM": e(lambda: Sequence(n.LSTM(8, 8)), lambda: Sequence(n.LSTM(8, 8, time_major=True)), "time_first", 1),
    "GRU": e(lambda: Sequence(n.GRU(8, 8)), lambda: Sequence(n.GRU(8, 8, time_major=True)), "time_first", 1),
    "SimpleRNN": e(
        lambda: Sequence(n.SimpleRNN(8, 8)), lambda: Sequence(n.SimpleRNN(8, 8, activation="relu")),
        "activation", 1),
}  # fmt: skip
