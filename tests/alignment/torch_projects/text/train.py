"""Train the classifier on random words."""

import torch
from net import Net
from torch import nn
from torch.nn.utils.rnn import pad_sequence


def batch(size):
    lengths = torch.randint(3, 9, (size,))
    words = pad_sequence([torch.randint(1, 50, (int(length),)) for length in lengths], batch_first=True)
    return words, torch.randint(0, 4, (size,))


def main():
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss_function = nn.CrossEntropyLoss(ignore_index=-100)
    for _ in range(20):
        words, labels = batch(16)
        loss = loss_function(model(words), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= 0.95
    print(loss.item())


if __name__ == "__main__":
    main()
