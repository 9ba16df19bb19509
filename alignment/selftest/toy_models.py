"""Small networks with every kind of layer that ports get wrong; torch_side/toy_models.py has their references."""

import paddle
from paddle import nn
from paddle.nn import functional as F


class Hardsigmoid(nn.Layer):
    """Hardsigmoid with the slope of torch, 1 / 6; nn.Hardsigmoid of Paddle has 0.1666667."""

    def __init__(self, slope: float = 1 / 6):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        return F.hardsigmoid(x, slope=self.slope)


class Gate(nn.Layer):
    """Squeeze and excitation."""

    def __init__(self, channels: int):
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2D(1)
        self.fc1 = nn.Conv2D(channels, 4, 1)
        self.act = nn.ReLU()
        self.fc2 = nn.Conv2D(4, channels, 1)
        self.scale = Hardsigmoid()

    def forward(self, x):
        return x * self.scale(self.fc2(self.act(self.fc1(self.squeeze(x)))))


class Head(nn.Layer):
    """Pool, flatten, a square linear layer, dropout, logits."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.shrink = nn.AdaptiveAvgPool2D(2)
        self.hidden = nn.Linear(4 * channels, 4 * channels)
        self.act = nn.LeakyReLU(0.1)
        self.dropout = nn.Dropout(0.25)
        self.logits = nn.Linear(4 * channels, num_classes)

    def flat(self, x):
        return x.flatten(1)

    def forward(self, x):
        return self.logits(self.dropout(self.act(self.hidden(self.flat(self.shrink(x))))))


class Ladder(nn.Layer):
    """Layers in sequence with one residual: images [B, 3, 32, 32] -> logits [B, num_classes]."""

    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2D(3, 8, 3, stride=2, padding=1)
        self.norm1 = nn.BatchNorm2D(8)
        self.act1 = nn.ReLU()
        self.pool1 = nn.AvgPool2D(3, 2, 1, exclusive=False)
        self.depthwise = nn.Conv2D(8, 8, 3, padding=1, groups=8, bias_attr=False)
        self.norm2 = nn.BatchNorm2D(8, momentum=0.99, epsilon=1e-3)
        self.act2 = nn.Hardswish()
        self.gate = Gate(8)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.conv2 = nn.Conv2D(8, 12, 1)
        self.act3 = nn.GELU()
        self.pool2 = nn.MaxPool2D(2)
        self.head = Head(12, num_classes)

    def add(self, x, y):
        return x + y

    def join(self, x, y):
        return paddle.concat([x, y], axis=1)

    def forward(self, x):
        x = self.pool1(self.act1(self.norm1(self.conv1(x))))
        x = self.add(x, self.gate(self.act2(self.norm2(self.depthwise(x)))))
        x = self.act3(self.conv2(self.up(x)))
        x = self.pool2(x)
        return self.head(self.join(x[:, 6:], x[:, :6]))


class Fork(nn.Layer):
    """Two branches that are joined, then a residual: images [B, 3, 32, 32] -> logits [B, num_classes]."""

    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2D(3, 6, 5, stride=2, padding=2), nn.BatchNorm2D(6), nn.ReLU())
        self.left = nn.Sequential(nn.AvgPool2D(3, 2, 1, exclusive=False), nn.Conv2D(6, 6, 1), nn.GELU())
        self.right = nn.Sequential(
            nn.Conv2D(6, 6, 3, stride=2, padding=1, groups=6, bias_attr=False), nn.BatchNorm2D(6), nn.Hardswish()
        )
        self.mixed = nn.Sequential(nn.Conv2D(12, 12, 3, padding=1), nn.BatchNorm2D(12, epsilon=1e-3), Gate(12))
        self.act = nn.ReLU()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.pool = nn.MaxPool2D(2)
        self.head = Head(12, num_classes)

    def add(self, x, y):
        return x + y

    def join(self, x, y):
        return paddle.concat([x, y], axis=1)

    def forward(self, x):
        x = self.stem(x)
        x = self.join(self.left(x), self.right(x))
        x = self.act(self.add(x, self.mixed(x)))
        return self.head(self.up(self.pool(x)))


class FunctionalLadder(nn.Layer):
    """Ladder as another port: functions in place of most activation layers, one more Sequential, other names."""

    def __init__(self, num_classes: int = 10, slope: float = 0.1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Sequential(nn.Conv2D(3, 8, 3, stride=2, padding=1), nn.BatchNorm2D(8)),
            nn.Sequential(
                nn.Conv2D(8, 8, 3, padding=1, groups=8, bias_attr=False), nn.BatchNorm2D(8, momentum=0.99, epsilon=1e-3)
            ),
        )
        self.gate = nn.Sequential(nn.Conv2D(8, 4, 1), nn.ReLU(), nn.Conv2D(4, 8, 1))
        self.widen = nn.Conv2D(8, 12, 1)
        self.hidden = nn.Linear(48, 48)
        self.logits = nn.Linear(48, num_classes)
        self.slope = slope

    def forward(self, x):
        x = F.avg_pool2d(F.relu(self.body[0](x)), 3, 2, 1, exclusive=False)
        y = F.hardswish(self.body[1](x))
        x = x + y * F.hardsigmoid(self.gate(F.adaptive_avg_pool2d(y, 1)), slope=1 / 6)
        x = F.gelu(self.widen(F.interpolate(x, scale_factor=2, mode="bilinear")))
        x = F.max_pool2d(x, 2)
        x = F.adaptive_avg_pool2d(paddle.concat([x[:, 6:], x[:, :6]], axis=1), 2).flatten(1)
        x = F.leaky_relu(self.hidden(x), self.slope)
        return self.logits(F.dropout(x, 0.25, training=self.training))
