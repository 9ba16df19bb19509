"""The references of ConvNeXt and of the LSTM classifier in alignment/selftest/published_nets.py."""

import torch
from torch import nn


class Block(nn.Module):
    """Block of ConvNeXt: depthwise convolution, layer norm, perceptron, layer scale, residual."""

    def __init__(self, width):
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x):
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.pwconv2(self.act(self.pwconv1(y))) * self.gamma
        return x + y.permute(0, 3, 1, 2)


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of [B, C, H, W]."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """Two stages of ConvNeXt: images [B, 3, 32, 32] -> logits [B, num_classes]."""

    def __init__(self, num_classes=10, width=8):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, 4), LayerNorm2d(width, eps=1e-6))
        self.stage1 = nn.Sequential(Block(width), Block(width))
        self.down = nn.Sequential(LayerNorm2d(width, eps=1e-6), nn.Conv2d(width, 2 * width, 2, 2))
        self.stage2 = nn.Sequential(Block(2 * width))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = nn.LayerNorm(2 * width, eps=1e-6)
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, x):
        x = self.stage2(self.down(self.stage1(self.stem(x))))
        return self.head(self.norm(self.pool(x).flatten(1)))


class TextClassifier(nn.Module):
    """Embedding, two LSTM layers in both directions, mean over the steps: words [B, T] -> logits [B, num_classes]."""

    def __init__(self, num_classes=5, num_words=40, width=8):
        super().__init__()
        self.embedding = nn.Embedding(num_words, width, padding_idx=0)
        self.lstm = nn.LSTM(width, width, num_layers=2, bidirectional=True, batch_first=True)
        self.norm = nn.LayerNorm(2 * width)
        self.dropout = nn.Dropout(0.25)
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, words):
        x = self.lstm(self.embedding(words))[0]
        return self.head(self.dropout(self.norm(x.mean(1))))
