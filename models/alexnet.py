"""AlexNet in its one-column form (Krizhevsky 2014, "One weird trick"), with torchvision's names."""

import math
from typing import ClassVar

import paddle
from paddle import nn

from .layers import PublishedLayout, check_count, check_images, check_number

PADDLECLAS = PublishedLayout(
    layers={
        "features.0": "_conv1._conv",
        "features.3": "_conv2._conv",
        "features.6": "_conv3",
        "features.8": "_conv4",
        "features.10": "_conv5._conv",
        "classifier.1": "_fc6",
        "classifier.4": "_fc7",
        "classifier.6": "_fc8",
    },
    # Their dropouts halve in evaluation ("downscale_in_infer"), ours double in training: the same network has half the
    # weights behind a dropout.
    scale={"classifier.1.weight": 0.5, "classifier.4.weight": 0.5},
)


class AlexNet(nn.Layer):
    """Compute logits [B, num_classes] of images [B, 3, H, W] with H and W of 63 or more.

    Args:
        num_classes: width of the head.
        dropout: probability before the first two linear layers; training scales up ("upscale_in_train"), evaluation
            does not scale. paddle.vision's AlexNet scales down in evaluation instead, and gives other logits.

    Raises:
        ModelError: an argument of a wrong type or out of range.
    """

    published_layouts: ClassVar[dict[str, PublishedLayout]] = {"PaddleClas and paddle.vision": PADDLECLAS}

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
    """Initialise weights and biases by U(-b, b) with b = 1 / sqrt(fan_in), the default of torch's layers."""
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
