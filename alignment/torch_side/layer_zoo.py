"""The nets of selftest/layer_zoo.py in PyTorch, one for each kind of layer."""

import torch
from torch import nn

SHAPES = {0: [], 1: [36], 2: [6, 6], 3: [2, 3, 6]}
CHANNELS = 8


class Pair(nn.Module):
    """A layer of two inputs is given the two halves of the channels."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.both = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.both(x[:, :4], x[:, 4:])


class Sequence(nn.Module):
    """A recurrent layer; the channels become the features of each step."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.steps = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.steps(x.transpose(1, 2))[0].transpose(1, 2)


n = nn
# {kind of layer: (layer, number of axes after the channels of its input, number of channels of its output)}
ZOO = {
    "Conv1D": (lambda: n.Conv1d(8, 8, 3, padding=1), 1, 8),
    "Conv2D": (lambda: n.Conv2d(8, 8, 3, 2, 1), 2, 8),
    "Conv2D dilated": (lambda: n.Conv2d(8, 8, 3, padding=2, dilation=2), 2, 8),
    "Conv2D reflect": (lambda: n.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), 2, 8),
    "Conv2D depthwise": (lambda: n.Conv2d(8, 8, 3, padding=1, groups=8), 2, 8),
    "Conv3D": (lambda: n.Conv3d(8, 8, 1), 3, 8),
    "Conv1DTranspose": (lambda: n.ConvTranspose1d(8, 8, 3, 2, 1), 1, 8),
    "Conv2DTranspose": (lambda: n.ConvTranspose2d(8, 8, 4, 2, 1), 2, 8),
    "Conv2DTranspose with output padding": (lambda: n.ConvTranspose2d(8, 8, 3, 2, 1, 1), 2, 8),
    "Conv3DTranspose": (lambda: n.ConvTranspose3d(8, 8, 2, 2), 3, 8),
    "Linear": (lambda: n.Linear(8, 8), 0, 8),
    "BatchNorm1D": (lambda: n.BatchNorm1d(8), 1, 8),
    "BatchNorm1D of vectors": (lambda: n.BatchNorm1d(8), 0, 8),
    "BatchNorm2D": (lambda: n.BatchNorm2d(8), 2, 8),
    "BatchNorm2D of the batch": (lambda: n.BatchNorm2d(8, track_running_stats=False), 2, 8),
    "BatchNorm3D": (lambda: n.BatchNorm3d(8), 3, 8),
    "LayerNorm": (lambda: n.LayerNorm(6), 2, 8),
    "GroupNorm": (lambda: n.GroupNorm(4, 8), 2, 8),
    "InstanceNorm1D": (lambda: n.InstanceNorm1d(8, affine=True), 1, 8),
    "InstanceNorm2D": (lambda: n.InstanceNorm2d(8, affine=True), 2, 8),
    "InstanceNorm3D": (lambda: n.InstanceNorm3d(8, affine=True), 3, 8),
    "LocalResponseNorm": (lambda: n.LocalResponseNorm(5), 2, 8),
    "AvgPool1D": (lambda: n.AvgPool1d(3, 2, 1), 1, 8),
    "AvgPool2D": (lambda: n.AvgPool2d(3, 2, 1), 2, 8),
    "AvgPool2D with a divisor": (lambda: n.AvgPool2d(2, divisor_override=3), 2, 8),
    "AvgPool3D": (lambda: n.AvgPool3d(2, 1), 3, 8),
    "MaxPool1D": (lambda: n.MaxPool1d(3, 2), 1, 8),
    "MaxPool2D": (lambda: n.MaxPool2d(2, 2), 2, 8),
    "MaxPool3D": (lambda: n.MaxPool3d(2, 1), 3, 8),
    "LPPool1D": (lambda: n.LPPool1d(2, 2), 1, 8),
    "LPPool2D": (lambda: n.LPPool2d(2, 2), 2, 8),
    "AdaptiveAvgPool1D": (lambda: n.AdaptiveAvgPool1d(5), 1, 8),
    "AdaptiveAvgPool2D": (lambda: n.AdaptiveAvgPool2d(5), 2, 8),
    "AdaptiveAvgPool3D": (lambda: n.AdaptiveAvgPool3d(2), 3, 8),
    "AdaptiveMaxPool1D": (lambda: n.AdaptiveMaxPool1d(5), 1, 8),
    "AdaptiveMaxPool2D": (lambda: n.AdaptiveMaxPool2d(5), 2, 8),
    "AdaptiveMaxPool3D": (lambda: n.AdaptiveMaxPool3d(2), 3, 8),
    "Dropout": (lambda: n.Dropout(0.25), 0, 8),
    "Dropout that scales down": (lambda: n.Dropout(0.25), 0, 8),
    "Dropout2D": (lambda: n.Dropout2d(0.25), 2, 8),
    "Dropout3D": (lambda: n.Dropout3d(0.25), 3, 8),
    "ReLU": (n.ReLU, 2, 8),
    "ReLU6": (n.ReLU6, 2, 8),
    "LeakyReLU": (lambda: n.LeakyReLU(0.1), 2, 8),
    "PReLU": (lambda: n.PReLU(8), 2, 8),
    "ELU": (lambda: n.ELU(0.5), 2, 8),
    "CELU": (lambda: n.CELU(0.5), 2, 8),
    "SELU": (n.SELU, 2, 8),
    "GELU": (n.GELU, 2, 8),
    "GELU by tanh": (lambda: n.GELU("tanh"), 2, 8),
    "Silu": (n.SiLU, 2, 8),
    "Swish": (n.SiLU, 2, 8),
    "Mish": (n.Mish, 2, 8),
    "Softplus": (lambda: n.Softplus(2.0), 2, 8),
    "Softplus with a threshold": (n.Softplus, 2, 8),
    "Softsign": (n.Softsign, 2, 8),
    "Sigmoid": (n.Sigmoid, 2, 8),
    "LogSigmoid": (n.LogSigmoid, 2, 8),
    "Tanh": (n.Tanh, 2, 8),
    "Tanhshrink": (n.Tanhshrink, 2, 8),
    "Hardswish": (n.Hardswish, 2, 8),
    "Hardtanh": (lambda: n.Hardtanh(-20.0, 20.0), 2, 8),
    "Hardshrink": (lambda: n.Hardshrink(0.25), 2, 8),
    "Softshrink": (lambda: n.Softshrink(0.25), 2, 8),
    "ThresholdedReLU": (lambda: n.Threshold(0.1, 0.0), 2, 8),
    "Softmax": (lambda: n.Softmax(1), 2, 8),
    "Softmax2D": (n.Softmax2d, 2, 8),
    "LogSoftmax": (lambda: n.LogSoftmax(1), 2, 8),
    "GLU": (lambda: n.GLU(1), 2, 4),
    "Upsample nearest": (lambda: n.Upsample(scale_factor=2), 2, 8),
    "Upsample bilinear": (lambda: n.Upsample(scale_factor=2, mode="bilinear"), 2, 8),
    "Upsample bilinear with corners": (lambda: n.Upsample(scale_factor=2, mode="bilinear", align_corners=True), 2, 8),
    "Upsample bicubic": (lambda: n.Upsample(scale_factor=2, mode="bicubic"), 2, 8),
    "Upsample with align_mode": (lambda: n.Upsample(scale_factor=2, mode="bilinear"), 2, 8),
    "UpsamplingBilinear2D": (lambda: n.UpsamplingBilinear2d(scale_factor=2), 2, 8),
    "UpsamplingNearest2D": (lambda: n.UpsamplingNearest2d(scale_factor=2), 2, 8),
    "Pad1D": (lambda: n.ConstantPad1d(2, 0.0), 1, 8),
    "Pad2D": (lambda: n.ZeroPad2d(2), 2, 8),
    "Pad2D by one value": (lambda: n.ConstantPad2d(2, 1.5), 2, 8),
    "Pad2D reflect": (lambda: n.ReflectionPad2d(2), 2, 8),
    "Pad2D replicate": (lambda: n.ReplicationPad2d(2), 2, 8),
    "Pad2D circular": (lambda: n.CircularPad2d(2), 2, 8),
    "Pad3D": (lambda: n.ConstantPad3d(1, 0.0), 3, 8),
    "ZeroPad2D": (lambda: n.ZeroPad2d(1), 2, 8),
    "PixelShuffle": (lambda: n.PixelShuffle(2), 2, 2),
    "PixelUnshuffle": (lambda: n.PixelUnshuffle(2), 2, 32),
    "ChannelShuffle": (lambda: n.ChannelShuffle(4), 2, 8),
    "Flatten": (lambda: n.Flatten(2), 2, 8),
    "Unfold": (lambda: n.Unfold(2), 2, 32),
    "Bilinear": (lambda: Pair(n.Bilinear(4, 4, 8)), 0, 8),
    "CosineSimilarity": (lambda: Pair(n.CosineSimilarity(1, 1e-2)), 2, 1),
    "LSTM": (lambda: Sequence(n.LSTM(8, 8, batch_first=True)), 1, 8),
    "GRU": (lambda: Sequence(n.GRU(8, 8, batch_first=True)), 1, 8),
    "SimpleRNN": (lambda: Sequence(n.RNN(8, 8, batch_first=True)), 1, 8),
}


class Net(nn.Module):
    """A convolution, the layer, a weighted mean over all positions, and a linear layer."""

    def __init__(self, entry: str):
        super().__init__()
        make, self._rank, self._width = ZOO[entry]
        self.stem = nn.Conv2d(3, CHANNELS, 3, 2, 1)
        self.layer = make()
        self.head = nn.Linear(self._width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)  # [B, 8, H, W]
        x = x.mean((2, 3)) if self._rank == 0 else x
        x = x[:, :, :6, :6].reshape(len(x), CHANNELS, *SHAPES[self._rank]) if self._rank in (1, 3) else x
        x = self.layer(x)
        x = x.reshape(len(x), self._width, -1)
        weights = torch.arange(1, x.shape[2] + 1, dtype=x.dtype) / x.shape[2]
        return self.head((x * weights).mean(2))
