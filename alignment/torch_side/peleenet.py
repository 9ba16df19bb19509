"""PeleeNet in PyTorch, with the layer names of the authors' code: the reference of the case `peleenet`."""

import torch
from torch import nn


class ConvBNReLU(nn.Module):
    def __init__(self, in_channels, out_channels, kernel, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.norm(self.conv(x)))


class Stem(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem1 = ConvBNReLU(3, width, 3, 2)
        self.stem2a = ConvBNReLU(width, width // 2, 1)
        self.stem2b = ConvBNReLU(width // 2, width, 3, 2)
        self.stem3 = ConvBNReLU(2 * width, width, 1)
        self.pool = nn.MaxPool2d(2, 2)

    def forward(self, x):
        x = self.stem1(x)
        return self.stem3(torch.cat([self.pool(x), self.stem2b(self.stem2a(x))], 1))


class DenseLayer(nn.Module):
    def __init__(self, in_channels, growth_rate, bottleneck_width):
        super().__init__()
        half = growth_rate // 2
        inter = int(half * bottleneck_width / 4) * 4
        if inter > in_channels / 2:
            inter = int(in_channels / 8) * 4
        self.branch1a = ConvBNReLU(in_channels, inter, 1)
        self.branch1b = ConvBNReLU(inter, half, 3)
        self.branch2a = ConvBNReLU(in_channels, inter, 1)
        self.branch2b = ConvBNReLU(inter, half, 3)
        self.branch2c = ConvBNReLU(half, half, 3)

    def forward(self, x):
        return torch.cat([x, self.branch1b(self.branch1a(x)), self.branch2c(self.branch2b(self.branch2a(x)))], 1)


class PeleeNet(nn.Module):
    """images [B, 3, H, W] -> logits [B, num_classes]."""

    def __init__(
        self,
        num_classes=1000,
        growth_rate=32,
        block_config=(3, 4, 8, 6),
        num_init_features=32,
        bottleneck_width=(1, 2, 4, 4),
        drop_rate=0.05,
    ):
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("stemblock", Stem(num_init_features))
        width = num_init_features
        for stage, num_layers in enumerate(block_config, start=1):
            block = nn.Sequential()
            for index in range(1, num_layers + 1):
                block.add_module(f"denselayer{index}", DenseLayer(width, growth_rate, bottleneck_width[stage - 1]))
                width += growth_rate
            self.features.add_module(f"denseblock{stage}", block)
            self.features.add_module(f"transition{stage}", ConvBNReLU(width, width, 1))
            if stage < len(block_config):
                self.features.add_module(f"transition{stage}_pool", nn.AvgPool2d(2, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(drop_rate)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.avgpool(self.features(x)).flatten(1)
        return self.classifier(self.dropout(x))
