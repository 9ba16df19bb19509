"""Small Paddle models in the situations of PaddlePaddle/PaDiff's tests; torch_nets.py has the same in PyTorch."""

import paddle
from paddle import nn
from paddle.nn import functional as F


class Residual(nn.Layer):
    """A linear layer with a residual sum, as most of the situations have."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.second = nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 5)

    def forward(self, x):
        return self.second(self.act(self.first(x)) + x)


class Parallel(nn.Layer):
    """Two branches, the first of which is called twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, x):
        return self.first(x) + 2 * self.first(x + 1) + self.second(x)


class ScaledGradient(Parallel):
    """A port whose gradient is wrong in the code after a layer."""

    def forward(self, x):
        branch = self.second(x)
        branch.register_hook(lambda gradient: gradient * 2)
        return self.first(x) + 2 * self.first(x + 1) + branch


class ExtraReLU(Parallel):
    """A port with a function between the layers that the reference does not have."""

    def forward(self, x):
        return self.first(x) + 2 * self.first(x + 1) + F.relu(self.second(x))


class TwoOutputs(nn.Layer):
    """A layer with two outputs, whose weight has a gradient that is `factor` times the right one."""

    def __init__(self, factor):
        super().__init__()
        self.weight, self.factor = self.create_parameter([12, 5]), factor

    def forward(self, x):
        weight = self.weight * self.factor - (self.weight * (self.factor - 1)).detach()
        return x @ weight, x * 2


class OneOfTwo(nn.Layer):
    """A model that uses one of the two outputs of its layer."""

    def __init__(self, factor=1):
        super().__init__()
        self.inner = TwoOutputs(factor)

    def forward(self, x):
        return self.inner(x)[0]


class Nested(nn.Layer):
    """Two inputs, and outputs in a list or a table."""

    def __init__(self, in_table=False):
        super().__init__()
        self.first, self.second, self.in_table = nn.Linear(12, 4), nn.Linear(12, 6), in_table

    def forward(self, x, y):
        outputs = [self.first(x), self.second(x), self.first(y)]
        return {"a": outputs[0], "rest": outputs[1:]} if self.in_table else outputs


class Recurrent(nn.Layer):
    """Token ids, an embedding, and two LSTMs one after the other."""

    def __init__(self):
        super().__init__()
        self.embedder = nn.Embedding(9, 8)
        self.lstm1 = nn.LSTM(8, 6, 2, time_major=True)
        self.lstm2 = nn.LSTM(6, 4, time_major=True)

    def forward(self, x):
        x, _ = self.lstm1(self.embedder(x))
        return self.lstm2(x)[0]


class Attention(nn.Layer):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiHeadAttention(16, 2)

    def forward(self, q, k, v):
        return self.attn(q, k, v)


class Convolutional(nn.Layer):
    """A feature map as output."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2D(3, 8, 3, padding=1), nn.BatchNorm2D(8)
        self.down = nn.Conv2D(8, 6, 3, stride=2)

    def forward(self, x):
        return self.down(F.relu(self.norm(self.conv(x))))


class Chain(nn.Layer):
    """Ten linear layers."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(12, 12) for _ in range(10)])

    def forward(self, x):
        return self.layers(x)


class Wrapped(Residual):
    """A layer more than the reference has, which does nothing."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Identity()

    def forward(self, x):
        return super().forward(self.nothing(x))


def adam(model):
    return paddle.optimizer.Adam(0.0078125, parameters=model.parameters())


def accumulating(model, optimizer, loss, inputs, target, index):
    """A step of the optimizer after every second batch."""
    value = loss(model(inputs), target)
    value.backward()
    if index % 2:
        optimizer.step()
        optimizer.clear_grad()
    return value


def accumulating_wrongly(model, optimizer, loss, inputs, target):
    optimizer.clear_grad()
    value = loss(model(inputs), target)
    value.backward()
    optimizer.step()
    return value
