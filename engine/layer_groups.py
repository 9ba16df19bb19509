"""Layers of a model from the input to the classifier: which are frozen, and how fast each learns."""

import logging

import paddle
from paddle import nn

from common.errors import UsageError
from configs.schema import OptimConfig

from .weights import find_head

logger = logging.getLogger(__name__)

Layers = dict[str, nn.Layer]


def list_layers(model: nn.Layer) -> Layers:
    """List the layers that have parameters from the input to the classifier, by name; the classifier is the last.

    A layer is a child of the model, or a child of a Sequential that is a child of the model, such as `features.3`.
    """
    layers: Layers = {}
    for name, child in model.named_children():
        parts = child.named_children() if type(child) is nn.Sequential else [("", child)]
        layers |= {f"{name}.{part}".rstrip("."): layer for part, layer in parts if layer.parameters()}
    head = find_head(model)
    assert list(layers)[-1] == head, f"the classifier {head} is not the last of {list(layers)}"
    return layers


def freeze_layers(model: nn.Layer, config: OptimConfig) -> None:
    """Freeze the layers that --freeze names, before the optimizer is created.

    A frozen layer is the same function in training and in evaluation: its parameters have no gradient and no weight
    decay, and its batch norms use their stored statistics and do not change them.

    Raises:
        UsageError: the model has no such number of layers before its classifier.
    """
    if not config.freeze:
        return
    layers = list_layers(model)
    names = list(layers)[:-1]
    number = len(names) if config.freeze == "backbone" else int(config.freeze)
    if number > len(names):
        raise UsageError(
            f"--freeze {number}: the model has {len(names)} layers before its classifier: {', '.join(names)}"
        )
    for name in names[:number]:
        for parameter in layers[name].parameters():
            parameter.stop_gradient = True
        for layer in layers[name].sublayers(include_self=True):
            if isinstance(layer, nn.BatchNorm2D):
                layer._use_global_stats = True
    logger.info(
        f"frozen: {number} of {len(names) + 1} layers, from {names[0]} to {names[number - 1]}; the number of params is "
        "that of the others"
    )


def lr_multipliers(model: nn.Layer, config: OptimConfig) -> dict[str, float]:
    """Learning rate of each parameter as a share of the rate of the schedule, by Paddle's name of the parameter.

    The classifier has 1. The other layers have `backbone_lr_mult`; or with `layer_decay` d the n-th layer before the
    classifier has d**n (Clark et al., ELECTRA, 2020, section 3.2; timm's --layer-decay).
    """
    if config.backbone_lr_mult == 1 and config.layer_decay is None:
        return {}
    layers = list(list_layers(model).values())
    if config.layer_decay is None:
        shares = [config.backbone_lr_mult] * (len(layers) - 1) + [1.0]
    else:
        shares = [config.layer_decay**depth for depth in reversed(range(len(layers)))]
    logger.info(
        f"learning rates: the first layer has {shares[0]:.3g} of --lr, the last before the classifier {shares[-2]:.3g}"
    )
    return {p.name: share for layer, share in zip(layers, shares, strict=True) for p in layer.parameters()}


def set_lr_multipliers(parameters: list[paddle.Tensor], multipliers: dict[str, float]) -> None:
    """Tell Paddle's optimizers the multiplier of each parameter; those that are not named have 1."""
    for parameter in parameters:
        parameter.optimize_attr = {"learning_rate": multipliers.get(parameter.name, 1.0)}
