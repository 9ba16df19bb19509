"""Words to a class, with an LSTM and a weighted mean over its steps: words [B, T] -> logits [B, 4]."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_words=50, width=16, num_classes=4):
        super().__init__()
        self.embedding = nn.Embedding(num_words, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, batch_first=True, bidirectional=True)
        self.score = nn.Linear(2 * width, 1)
        self.norm = nn.LayerNorm(2 * width)
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, words):
        x, _ = self.lstm(self.embedding(words))
        weights = torch.softmax(self.score(x), dim=1)
        return self.head(self.norm((weights * x).sum(dim=1)))
