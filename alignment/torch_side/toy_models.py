"""The references of alignment/selftest/toy_models.py in PyTorch."""

import torch
from torch import nn


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels):
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, 4, 1)
        self.act = nn.ReLU()
        self.fc2 = nn.Conv2d(4, channels, 1)
        self.scale = nn.Hardsigmoid()

    def forward(self, x):
        return x * self.scale(self.fc2(self.act(self.fc1(self.squeeze(x)))))


class Head(nn.Module):
    """Pool, flatten, a square linear layer, dropout, logits."""

    def __init__(self, channels, num_classes):
        super().__init__()
        self.shrink = nn.AdaptiveAvgPool2d(2)
        self.hidden = nn.Linear(4 * channels, 4 * channels)
        self.act = nn.LeakyReLU(0.1)
        self.dropout = nn.Dropout(0.25)
        self.logits = nn.Linear(4 * channels, num_classes)

    def forward(self, x):
        return self.logits(self.dropout(self.act(self.hidden(self.shrink(x).flatten(1)))))


class Ladder(nn.Module):
    """Layers in sequence with one residual."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm1 = nn.BatchNorm2d(8)
        self.act1 = nn.ReLU()
        self.pool1 = nn.AvgPool2d(3, 2, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm2 = nn.BatchNorm2d(8, eps=1e-3, momentum=0.01)
        self.act2 = nn.Hardswish()
        self.gate = Gate(8)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.conv2 = nn.Conv2d(8, 12, 1)
        self.act3 = nn.GELU()
        self.pool2 = nn.MaxPool2d(2)
        self.head = Head(12, num_classes)

    def forward(self, x):
        x = self.pool1(self.act1(self.norm1(self.conv1(x))))
        x = x + self.gate(self.act2(self.norm2(self.depthwise(x))))
        x = self.pool2(self.act3(self.conv2(self.up(x))))
        return self.head(torch.cat([x[:, 6:], x[:, :6]], 1))


class Fork(nn.Module):
    """Two branches that are joined, then a residual."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 5, 2, 2), nn.BatchNorm2d(6), nn.ReLU())
        self.left = nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.Conv2d(6, 6, 1), nn.GELU())
        self.right = nn.Sequential(nn.Conv2d(6, 6, 3, 2, 1, groups=6, bias=False), nn.BatchNorm2d(6), nn.Hardswish())
        self.mixed = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12, eps=1e-3), Gate(12))
        self.act = nn.ReLU()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.pool = nn.MaxPool2d(2)
        self.head = Head(12, num_classes)

    def forward(self, x):
        x = self.stem(x)
        x = torch.cat([self.left(x), self.right(x)], 1)
        x = self.act(x + self.mixed(x))
        return self.head(self.up(self.pool(x)))
