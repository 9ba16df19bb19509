"""A perceptron with batch norms for rows of numbers: [B, 12] -> logits [B, 3]."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_inputs=12, width=32, num_classes=3):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(num_inputs, width), nn.BatchNorm1d(width), nn.ReLU(inplace=True), nn.Dropout(0.1),
            nn.Linear(width, width), nn.BatchNorm1d(width), nn.LeakyReLU(0.1),
        )  # fmt: skip
        self.head = nn.Linear(width, num_classes)
        nn.init.kaiming_normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        return self.head(torch.clamp(self.body(x), max=8.0))
