"""The references of tests/alignment/user_nets.py."""

import torch
from torch import nn
from torch.nn import functional as F


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.pos = nn.Parameter(torch.zeros(1, 17, 16))
        self.ln1, self.ln2, self.ln = (nn.LayerNorm(16, eps=1e-6) for _ in range(3))
        self.mha = nn.MultiheadAttention(16, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.pos
        y = self.ln1(x)
        x = x + self.mha(y, y, y, need_weights=False)[0]
        x = x + self.mlp(self.ln2(x))
        return self.head(self.ln(x)[:, 0])


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.gru = nn.GRU(8, 6, 2, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(12, 4)

    def forward(self, words):
        _, last = self.gru(self.embedding(words))
        return self.classifier(torch.cat([last[-2], last[-1]], -1))


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.positions, self.classifier = nn.Embedding(30, 8), nn.Embedding(9, 8), nn.Linear(8, 4)

    def forward(self, words):
        places = self.positions(torch.arange(words.shape[1])[None])
        return self.classifier((self.words(words) + places).relu().amax(1))


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 6), nn.Linear(6, 4)
        self.query, self.key, self.value = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        x = F.relu(self.first(x))
        weights = F.softmax(self.query(x) @ self.key(x).transpose(1, 2) * 6**-0.5, -1)
        return self.last((weights @ self.value(x)).mean(1))


class PictureAndWords(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.textual = nn.Embedding(20, 8)
        self.classifier = nn.Linear(16, 3)

    def forward(self, image, words):
        a, b = F.relu(self.visual(image)).mean((2, 3)), self.textual(words).mean(1)
        return self.classifier(torch.cat([a, b], 1))


class Segmentation(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.enc2 = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.classifier = nn.Conv2d(20, 4, 1)

    def forward(self, image):
        x = self.enc1(image)
        y = F.interpolate(self.enc2(x), scale_factor=2, mode="bilinear", align_corners=False)
        return self.classifier(torch.cat([x, y], 1))


class Pyramid(nn.Module):
    def __init__(self):
        super().__init__()
        self.stage2, self.stage3 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.fpn2, self.fpn3 = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.box_head, self.score_head = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 3, 1)

    def forward(self, image):
        x2 = F.relu(self.stage2(image))
        x3 = F.relu(self.stage3(x2))
        p3 = self.fpn3(x3)
        p2 = self.fpn2(x2) + F.interpolate(p3, scale_factor=2, mode="nearest")
        return {"features": [p2, p3], "heads": {"boxes": self.box_head(p2), "scores": self.score_head(p2)}}
