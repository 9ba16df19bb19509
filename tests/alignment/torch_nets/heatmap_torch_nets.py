"""The model of heatmap_nets.py in PyTorch; the names of the head are others."""

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        shares = (q @ k.transpose(-1, -2) * (width // 2) ** -0.5).softmax(-1)
        x = x + self.proj((shares @ v).transpose(1, 2).reshape(batch, tokens, width))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Backbone(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.position = nn.Parameter(torch.randn(1, 12, width) / 4)
        self.blocks = nn.ModuleList([Block(width) for _ in range(2)])
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        x = self.patches(x)
        shape = x.shape
        x = x.flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x).transpose(1, 2).reshape(shape)


class Head(nn.Module):
    def __init__(self, width=16, num_points=5):
        super().__init__()
        self.deconv = nn.ConvTranspose2d(width, 12, 4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.final = nn.Conv2d(12, num_points, 1)

    def forward(self, x):
        return self.final(F.relu(self.norm(self.deconv(x))))


class Pose(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.keypoint_head = Backbone(), Head()

    def forward(self, img):
        return self.keypoint_head(self.backbone(img))


def joints_loss(output, target):
    return 0.5 * sum(F.mse_loss(output[:, k], target[:, k]) for k in range(output.shape[1])) / output.shape[1]


def adamw(model):
    return torch.optim.AdamW(model.parameters(), 0.0078125, weight_decay=0.125)
