"""A small ViT backbone with a deconvolution head that gives heat maps, as keypoint detectors have it, in Paddle."""

import paddle
from paddle import nn
from paddle.nn import functional as F


class Block(nn.Layer):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape([batch, tokens, 3, 2, width // 2]).transpose([2, 0, 3, 1, 4])
        q, k, v = qkv[0], qkv[1], qkv[2]
        shares = F.softmax(q @ k.transpose([0, 1, 3, 2]) * (width // 2) ** -0.5, -1)
        x = x + self.proj((shares @ v).transpose([0, 2, 1, 3]).reshape([batch, tokens, width]))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Backbone(nn.Layer):
    def __init__(self, width=16):
        super().__init__()
        self.patches = nn.Conv2D(3, width, 8, stride=8)
        self.position = self.create_parameter([1, 12, width])
        self.blocks = nn.LayerList([Block(width) for _ in range(2)])
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        x = self.patches(x)
        batch, width, height, breadth = x.shape
        x = x.flatten(2).transpose([0, 2, 1]) + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x).transpose([0, 2, 1]).reshape([batch, width, height, breadth])


class Head(nn.Layer):
    def __init__(self, width=16, num_points=5, epsilon=1e-5):
        super().__init__()
        self.deconv = nn.Conv2DTranspose(width, 12, 4, stride=2, padding=1, bias_attr=False)
        self.norm = nn.BatchNorm2D(12, epsilon=epsilon)
        self.final = nn.Conv2D(12, num_points, 1)

    def forward(self, x):
        return self.final(F.relu(self.norm(self.deconv(x))))


class Pose(nn.Layer):
    """[B, 3, 32, 24] to heat maps [B, 5, 8, 6]."""

    def __init__(self, epsilon=1e-5):
        super().__init__()
        self.backbone, self.head = Backbone(), Head(epsilon=epsilon)

    def forward(self, x):
        return self.head(self.backbone(x))


class WrongHead(Pose):
    """The batch norm of the head has another epsilon."""

    def __init__(self):
        super().__init__(epsilon=1e-3)


class WrongCode(Pose):
    """The head is given a map whose axes are exchanged and exchanged back wrongly."""

    def forward(self, x):
        return self.head(self.backbone(x).flip(-1))


def joints_loss(output, target):
    """Half of the mean squared error, the mean over the joints."""
    joints = [F.mse_loss(output[:, k], target[:, k]) for k in range(output.shape[1])]
    return 0.5 * paddle.add_n(joints) / len(joints)


def sum_loss(output, target):
    return 0.5 * ((output - target) ** 2).sum()


def adamw(model):
    return paddle.optimizer.AdamW(0.0078125, parameters=model.parameters(), weight_decay=0.125)


def adamw_without_decay(model):
    return paddle.optimizer.AdamW(0.0078125, parameters=model.parameters(), weight_decay=0.0)
