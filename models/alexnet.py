"""AlexNet in its one-column form (Krizhevsky 2014, "One weird trick"), as torchvision has it."""

import math

import paddle
from paddle import nn

from .layers import check_count, check_images, check_number


class AlexNet(nn.Layer):
    """images [B, 3, H, W] with H and W of 63 or more -> logits [B, num_classes]; names are torchvision's.

    Args:
        num_classes: width of the head.
        dropout: before the first two linear layers; scaled up in training ("upscale_in_train"), so that evaluation
            changes nothing. paddle.vision's AlexNet scales down in evaluation instead and gives other logits.
    """

    def __init__(self, num_classes: int = 1000, dropout: float = 0.5):
        super().__init__()
        check_count("num_classes", num_classes)
        check_number("dropout", dropout, 0, 1)
        self.features = nn.Sequential(
            nn.Conv2D(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2D(3, stride=2),
            nn.Conv2D(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2D(3, stride=2),
            nn.Conv2D(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2D(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2D(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2D(3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2D(6)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, num_classes),
        )
        _init_fan_in_uniform(self)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        check_images("alexnet", x)
        x = self.avgpool(self.features(x)).flatten(1)  # [B, 9216]
        return self.classifier(x)


def _init_fan_in_uniform(model: nn.Layer) -> None:
    """Weights and biases U(-b, b) with b = 1 / sqrt(fan_in): what torch's layers do by default."""
    for layer in model.sublayers():
        if isinstance(layer, nn.Conv2D):
            fan_in = math.prod(layer.weight.shape[1:])  # [out, in, kh, kw]
        elif isinstance(layer, nn.Linear):
            fan_in = layer.weight.shape[0]  # [in, out]
        else:
            continue
        bound = 1 / math.sqrt(fan_in)
        for parameter in (layer.weight, layer.bias):
            nn.initializer.Uniform(-bound, bound)(parameter)
