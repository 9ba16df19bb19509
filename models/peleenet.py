"""PeleeNet: DenseNet for mobile devices, with a two-way stem and two-way dense layers (Wang et al. 2018)."""

from collections.abc import Sequence

import paddle
from paddle import nn

from common.errors import ModelError

from .layers import check_count, check_images, check_number, init_fan_out

NUM_STAGES = 4


class ConvBNReLU(nn.Layer):
    """Convolution without bias, batch norm, ReLU: [B, in, H, W] -> [B, out, H', W'].

    Source: the post-activation order of the paper, section 2, "Composite function".

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the kernel in pixels.
        stride: of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2D(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias_attr=False)
        self.norm = nn.BatchNorm2D(out_channels, momentum=0.9, epsilon=1e-5)  # torch writes this momentum 0.1
        self.relu = nn.ReLU()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.relu(self.norm(self.conv(x)))


class StemBlock(nn.Layer):
    """The two-way stem of figure 4: [B, 3, H, W] -> [B, out, H/4, W/4]."""

    def __init__(self, out_channels: int):
        super().__init__()
        half = out_channels // 2
        self.stem1 = ConvBNReLU(3, out_channels, kernel=3, stride=2)
        self.stem2a = ConvBNReLU(out_channels, half, kernel=1)
        self.stem2b = ConvBNReLU(half, out_channels, kernel=3, stride=2)
        self.stem3 = ConvBNReLU(2 * out_channels, out_channels, kernel=1)
        self.pool = nn.MaxPool2D(kernel_size=2, stride=2)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.stem1(x)
        return self.stem3(paddle.concat([self.pool(x), self.stem2b(self.stem2a(x))], axis=1))


class DenseLayer(nn.Layer):
    """The two-way dense layer of figure 3: [B, in, H, W] -> [B, in + growth_rate, H, W].

    The two branches have receptive fields of 3x3 and 5x5 pixels and add half of the growth rate each. The bottleneck is
    at most half as wide as the input (section 2, "Dynamic number of channels in bottleneck layer").

    Raises:
        ModelError: the bottleneck would have no channels.
    """

    def __init__(self, in_channels: int, growth_rate: int, bottleneck_width: int):
        super().__init__()
        half = growth_rate // 2
        inter = half * bottleneck_width // 4 * 4
        if inter > in_channels / 2:
            inter = in_channels // 8 * 4
        if inter == 0:
            raise ModelError(
                f"a bottleneck would have no channels: in_channels={in_channels}, growth_rate={growth_rate}, "
                f"bottleneck_width={bottleneck_width}; growth_rate * bottleneck_width and in_channels need 8 or more"
            )
        self.branch1a = ConvBNReLU(in_channels, inter, kernel=1)
        self.branch1b = ConvBNReLU(inter, half, kernel=3)
        self.branch2a = ConvBNReLU(in_channels, inter, kernel=1)
        self.branch2b = ConvBNReLU(inter, half, kernel=3)
        self.branch2c = ConvBNReLU(half, half, kernel=3)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        branch1 = self.branch1b(self.branch1a(x))
        branch2 = self.branch2c(self.branch2b(self.branch2a(x)))
        return paddle.concat([x, branch1, branch2], axis=1)


class PeleeNet(nn.Layer):
    """Compute logits [B, num_classes] of images [B, 3, H, W]; H and W are 31 or more, and 0 or 3 modulo 4.

    Source: Wang, Li, Ling, "Pelee: A Real-Time Object Detection System on Mobile Devices", table 1. The names of layers
    are those of the authors' code (Robert-JunWang/PeleeNet).

    Args:
        growth_rate: channels that a dense layer adds, an even number; one for all stages, or one per stage.
        block_config: number of dense layers in each of the four stages.
        num_init_features: channels of the stem.
        bottleneck_width: width of the bottlenecks in halves of growth_rate; one for all stages, or one per stage.
        drop_rate: probability of the only dropout, before the classifier.
        num_classes: width of the head.

    Raises:
        ModelError: an argument of a wrong type or out of range.
    """

    def __init__(
        self,
        growth_rate: int | Sequence[int] = 32,
        block_config: Sequence[int] = (3, 4, 8, 6),
        num_init_features: int = 32,
        bottleneck_width: int | Sequence[int] = (1, 2, 4, 4),
        drop_rate: float = 0.05,
        num_classes: int = 1000,
    ):
        super().__init__()
        growth_rates = _per_stage("growth_rate", growth_rate)
        if any(rate % 2 for rate in growth_rates):
            raise ModelError(f"growth_rate must be even, since the two branches share it equally, got {growth_rate!r}")
        if isinstance(block_config, int):
            raise ModelError(f"block_config must be {NUM_STAGES} integers, got {block_config!r}")
        block_config = _per_stage("block_config", block_config)
        bottleneck_widths = _per_stage("bottleneck_width", bottleneck_width)
        check_count("num_init_features", num_init_features)
        if num_init_features < 2:
            raise ModelError(f"num_init_features must be 2 or more, since the stem halves it, got {num_init_features}")
        check_count("num_classes", num_classes)
        check_number("drop_rate", drop_rate, 0, 1)

        self.features = nn.Sequential(("stemblock", StemBlock(num_init_features)))
        channels = num_init_features
        for stage in range(NUM_STAGES):
            block = nn.Sequential()
            for index in range(block_config[stage]):
                block.add_sublayer(
                    f"denselayer{index + 1}", DenseLayer(channels, growth_rates[stage], bottleneck_widths[stage])
                )
                channels += growth_rates[stage]
            self.features.add_sublayer(f"denseblock{stage + 1}", block)
            self.features.add_sublayer(f"transition{stage + 1}", ConvBNReLU(channels, channels, kernel=1))
            if stage < NUM_STAGES - 1:
                self.features.add_sublayer(f"transition{stage + 1}_pool", nn.AvgPool2D(kernel_size=2, stride=2))
        self.avgpool = nn.AdaptiveAvgPool2D(1)
        self.dropout = nn.Dropout(drop_rate)
        self.classifier = nn.Linear(channels, num_classes)
        init_fan_out(self)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_images("peleenet", x)
        x = self.avgpool(self.features(x)).flatten(1)  # [B, 704]
        return self.classifier(self.dropout(x))


def _per_stage(argument: str, value: int | Sequence[int]) -> list[int]:
    values = [value] * NUM_STAGES if isinstance(value, int) else value
    if not isinstance(values, list | tuple) or len(values) != NUM_STAGES:
        raise ModelError(f"{argument} must be an integer or {NUM_STAGES} integers, got {value!r}")
    for number in values:
        check_count(argument, number)
    return list(values)
