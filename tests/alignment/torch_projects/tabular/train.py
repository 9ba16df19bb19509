"""Train the perceptron on random rows."""

import torch
from net import Net
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main():
    torch.manual_seed(0)
    rows, labels = torch.randn(256, 12), torch.randint(0, 3, (256,))
    loader = DataLoader(TensorDataset(rows, labels), batch_size=32, shuffle=True, drop_last=True)
    model, loss_function = Net(), nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    for epoch in range(4):
        for x, y in loader:
            optimizer.zero_grad()
            loss = loss_function(model(x), y)
            loss.backward()
            optimizer.step()
        schedule.step()
        print(epoch, loss.item(), optimizer.param_groups[0]["lr"])
    torch.save(model.state_dict(), "net.pth")


if __name__ == "__main__":
    main()
