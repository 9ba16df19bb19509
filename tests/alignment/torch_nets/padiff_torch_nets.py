"""The models of padiff_nets.py in PyTorch."""

import torch
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act, self.second = nn.Linear(12, 12), nn.ReLU(inplace=True), nn.Linear(12, 5)

    def forward(self, x):
        return self.second(self.act(self.first(x)) + x)


class Parallel(nn.Module):
    """The branches are called in another order than in the port."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, x):
        branch = self.second(x)
        return branch + self.first(x) + 2 * self.first(x + 1)


class Nested(nn.Module):
    def __init__(self, in_table=False):
        super().__init__()
        self.first, self.second, self.in_table = nn.Linear(12, 4), nn.Linear(12, 6), in_table

    def forward(self, x, y):
        outputs = [self.first(x), self.second(x), self.first(y)]
        return {"a": outputs[0], "rest": outputs[1:]} if self.in_table else outputs


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedder = nn.Embedding(9, 8)
        self.lstm1 = nn.LSTM(8, 6, 2)
        self.lstm2 = nn.LSTM(6, 4)

    def forward(self, x):
        x, _ = self.lstm1(self.embedder(x))
        return self.lstm2(x)[0]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, q, k, v):
        return self.attn(q, k, v)[0]


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.down = nn.Conv2d(8, 6, 3, stride=2)

    def forward(self, x):
        return self.down(F.relu(self.norm(self.conv(x))))


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(12, 12) for _ in range(10)])

    def forward(self, x):
        return self.layers(x)


def adam(model):
    return torch.optim.Adam(model.parameters(), 0.0078125)


def slow_adam(model):
    return torch.optim.Adam(model.parameters(), 0.00390625)


def squared(output, target):
    return F.mse_loss(output, target)


def halved(output, target):
    return F.mse_loss(output, target) / 2


def mean(output):
    return output.mean()


def accumulating(model, optimizer, loss, inputs, target, index):
    value = loss(model(inputs), target)
    value.backward()
    if index % 2:
        optimizer.step()
        optimizer.zero_grad()
    return value
