"""Size of a model: trainable parameters, and multiply-accumulates per image."""

import math

import paddle
from paddle import nn


def count_parameters(model: nn.Layer) -> int:
    """Count the trainable parameters, without the running statistics of batch norms."""
    return sum(math.prod(parameter.shape) for parameter in model.parameters() if not parameter.stop_gradient)


def count_macs(model: nn.Layer, input_size: int = 224) -> int:
    """Count the multiply-accumulates of convolutions and linear layers for one image [1, 3, input_size, input_size].

    Papers on small models call this number "FLOPs". `paddle.flops` counts some layers differently. The model and the
    modes (training or evaluation) of its layers do not change.
    """
    macs = 0

    def count_layer(layer, inputs, output):
        nonlocal macs
        is_conv = isinstance(layer, nn.Conv2D)  # weights [out, in / groups, kh, kw]; those of a linear layer [in, out]
        num_inputs = math.prod(layer.weight.shape[1:]) if is_conv else layer.weight.shape[0]
        macs += math.prod(output.shape) * num_inputs

    layers = model.sublayers(include_self=True)
    modes = [layer.training for layer in layers]
    hooks = [
        layer.register_forward_post_hook(count_layer) for layer in layers if isinstance(layer, nn.Conv2D | nn.Linear)
    ]
    try:
        model.eval()
        with paddle.no_grad():
            model(paddle.zeros([1, 3, input_size, input_size], dtype=model.parameters()[0].dtype))
    finally:
        for hook in hooks:
            hook.remove()
        for layer, mode in zip(layers, modes, strict=True):
            layer.training = mode
    return macs
