"""Ports of seven nets as a user brings them, right and with one mistake; beside torch_nets/user_torch_nets.py.

The names of the layers differ from those of the references, as in most ports.
"""

import paddle
from paddle import nn
from paddle.nn import functional as F


class ViT(nn.Layer):
    """Patches, a class token, attention, a perceptron: images [B, 3, 16, 16] -> logits [B, 5]."""

    def __init__(self, is_wrong=False):
        super().__init__()
        self.embed = nn.Conv2D(3, 16, 4, 4)
        zeros = nn.initializer.Constant(0.0)
        self.cls = self.create_parameter([16], default_initializer=zeros)
        self.positions = self.create_parameter([17, 16], default_initializer=zeros)
        self.norm1, self.norm2, self.norm = (nn.LayerNorm(16, epsilon=1e-6) for _ in range(3))
        self.attention = nn.MultiHeadAttention(16, 4 if is_wrong else 2)
        self.expand, self.shrink, self.out = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 5)

    def forward(self, image):
        x = self.embed(image).flatten(2).transpose([0, 2, 1])
        x = paddle.concat([self.cls.expand([x.shape[0], 1, 16]), x], 1) + self.positions
        y = self.norm1(x)
        x = x + self.attention(y, y, y)
        x = x + self.shrink(F.gelu(self.expand(self.norm2(x))))
        return self.out(self.norm(x)[:, 0])


class Words(nn.Layer):
    """An embedding and a GRU in both directions: words [B, T] -> logits [B, 4]."""

    def __init__(self, is_wrong=False):
        super().__init__()
        self.table = nn.Embedding(30, 8)
        self.encoder = nn.GRU(8, 6, 2, direction="bidirect")
        self.out = nn.Linear(12, 4)
        self.is_wrong = is_wrong

    def forward(self, words):
        steps, last = self.encoder(self.table(words))
        if self.is_wrong:
            return self.out(steps[:, -1])  # of the backward direction that is the first step
        return self.out(paddle.concat([last[-2], last[-1]], -1))


class Positions(nn.Layer):
    """Words and their positions, which have no batch here and a batch of one in the reference: [B, T] -> [B, 4]."""

    def __init__(self, is_wrong=False):
        super().__init__()
        self.table, self.places, self.out = nn.Embedding(30, 8), nn.Embedding(9, 8), nn.Linear(8, 4)
        self.is_wrong = is_wrong

    def forward(self, words):
        places = paddle.arange(words.shape[1])
        return self.out(F.relu(self.table(words) + self.places(places + 1 if self.is_wrong else places)).max(1))


class Joined(nn.Layer):
    """Attention with one layer for three projections: vectors [B, T, 8] -> logits [B, 4]."""

    def __init__(self, is_wrong=False):
        super().__init__()
        self.embed, self.three, self.out = nn.Linear(8, 6), nn.Linear(6, 18), nn.Linear(6, 4)
        self.is_wrong = is_wrong

    def forward(self, x):
        query, key, value = self.three(F.relu(self.embed(x))).chunk(3, -1)
        weights = F.softmax(query @ key.transpose([0, 2, 1]) * (1.0 if self.is_wrong else 6**-0.5), -1)
        return self.out((weights @ value).mean(1))


class PictureAndWords(nn.Layer):
    """Two inputs: image [B, 3, 8, 8] and words [B, T] -> logits [B, 3]."""

    def __init__(self, is_wrong=False):
        super().__init__()
        self.conv = nn.Conv2D(3, 8, 3, stride=2, padding=1)
        self.table = nn.Embedding(20, 8)
        self.out = nn.Linear(16, 3)
        self.is_wrong = is_wrong

    def forward(self, image, words):
        a, b = F.relu(self.conv(image)).mean((2, 3)), self.table(words).mean(1)
        return self.out(paddle.concat([b, a] if self.is_wrong else [a, b], 1))


class Segmentation(nn.Layer):
    """Down, up and a shortcut: images [B, 3, 16, 16] -> logits of pixels [B, 4, 16, 16]."""

    def __init__(self, is_wrong=False):
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2D(3, 8, 3, padding=1), nn.BatchNorm2D(8), nn.ReLU())
        self.down2 = nn.Sequential(nn.MaxPool2D(2), nn.Conv2D(8, 12, 3, padding=1), nn.BatchNorm2D(12), nn.ReLU())
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=is_wrong)
        self.out = nn.Conv2D(20, 4, 1)

    def forward(self, image):
        x = self.down1(image)
        return self.out(paddle.concat([x, self.up(self.down2(x))], 1))


class Pyramid(nn.Layer):
    """Backbone of a detector, images [B, 3, 16, 16] -> {features: [P2, P3], heads: {boxes: ..., scores: ...}}."""

    def __init__(self, is_wrong=False):
        super().__init__()
        self.c2 = nn.Conv2D(3, 8, 3, 2, 1)
        self.c3 = nn.Conv2D(8, 8, 3, 2, 1)
        self.lateral2, self.lateral3 = nn.Conv2D(8, 8, 1), nn.Conv2D(8, 8, 1)
        self.boxes, self.scores = nn.Conv2D(8, 4, 1), nn.Conv2D(8, 3, 1)
        self.is_wrong = is_wrong

    def forward(self, image):
        x2 = F.relu(self.c2(image))
        x3 = F.relu(self.c3(x2))
        p3 = self.lateral3(x3)
        p2 = self.lateral2(x2) + F.interpolate(p3, scale_factor=2, mode="nearest")
        scores = self.scores(p3 if self.is_wrong else p2)
        if self.is_wrong:
            scores = F.interpolate(scores, scale_factor=2, mode="nearest")
        return {"features": [p2, p3], "heads": {"boxes": self.boxes(p2), "scores": scores}}
