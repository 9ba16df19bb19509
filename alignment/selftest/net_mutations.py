"""Sixty mistakes in ports of ResNet-18, MobileNetV2, ViT, ConvNeXt and an LSTM classifier, each an edit of a layer."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from .mutations import Change, Mutation, conv_like, copied

STAGES = ("weights", "forward", "backward", "train")
CODE = "in the code that calls"  # what the tool says of a difference between two layers


class NetMutation(NamedTuple):
    """A mistake in one net.

    Attributes:
        net: name of the case.
        mutation: the mistake.
        cause: what a problem must say, in small letters.
    """

    net: str
    mutation: Mutation
    cause: str


# --- Edits by the path of a layer -----------------------------------------------------------------------------------


def layer_at(model: nn.Layer, path: str) -> nn.Layer:
    """The layer of a path; the model for an empty path."""
    for step in path.split(".") if path else ():
        model = getattr(model, step)
    return model


def with_values(path: str, **values: object) -> Change:
    """Set attributes of a layer."""

    def change(model: nn.Layer) -> str:
        for name, value in values.items():
            setattr(layer_at(model, path), name, value)
        return path

    return change


def with_layer(path: str, make: Callable[[nn.Layer], nn.Layer]) -> Change:
    """Replace a layer by `make(layer)`."""

    def change(model: nn.Layer) -> str:
        parent, _, name = path.rpartition(".")
        owner = layer_at(model, parent)
        setattr(owner, name, make(getattr(owner, name)))
        return path

    return change


def with_forward(path: str, function: Callable) -> Change:
    """Replace the forward of a layer by `function(layer, forward, x)`."""

    def change(model: nn.Layer) -> str:
        layer = layer_at(model, path)
        forward = layer.forward
        object.__setattr__(layer, "forward", lambda *inputs: function(layer, forward, *inputs))
        return path or "(logits)"

    return change


def with_code(path: str, method: str, function: Callable, wrong: str) -> Change:
    """Replace a method by `function(owner, *arguments)`, that is, code between layers.

    Args:
        path: of the layer that has the method.
        method: its name.
        function: the wrong code.
        wrong: path of the first layer that is given a wrong value, or (logits).
    """

    def change(model: nn.Layer) -> str:
        owner = layer_at(model, path)
        object.__setattr__(owner, method, lambda *arguments: function(owner, *arguments))
        return wrong

    return change


def _frozen(path: str) -> Change:
    def change(model: nn.Layer) -> str:
        layer_at(model, path).weight.stop_gradient = True
        return path

    return change


def _strides_exchanged(model: nn.Layer) -> str:
    """The stride in the second convolution of a block."""
    block = model.layer2[0]
    block.conv1._stride, block.conv2._stride = block.conv2._stride, block.conv1._stride
    return "layer2.0.conv1"


def _without_residual(block: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
    """The forward of a basic block of paddle.vision without its last addition."""
    return block.relu(block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x))))))


def _flipped(layer: nn.Conv2D, forward: Callable, x: paddle.Tensor) -> paddle.Tensor:
    return F.conv2d(x, layer.weight.flip([2, 3]), layer.bias, layer._stride, layer._padding)


def _exchanged_projections(layer: nn.MultiHeadAttention, forward: Callable, *inputs) -> paddle.Tensor:
    """Attention whose queries are made by the projection of the keys."""
    layer.q_proj, layer.k_proj = layer.k_proj, layer.q_proj
    output = forward(*inputs)
    layer.q_proj, layer.k_proj = layer.k_proj, layer.q_proj
    return output


def _unscaled(layer: nn.MultiHeadAttention, forward: Callable, query, *rest) -> paddle.Tensor:
    """Attention without the division by the root of the width of a head."""

    def heads(x, projection):
        x = projection(x)
        return x.reshape([x.shape[0], x.shape[1], layer.num_heads, layer.head_dim]).transpose([0, 2, 1, 3])

    q, k, v = (heads(query, projection) for projection in (layer.q_proj, layer.k_proj, layer.v_proj))
    x = F.softmax(q @ k.transpose([0, 1, 3, 2])) @ v
    return layer.out_proj(x.transpose([0, 2, 1, 3]).flatten(2))


def _with_gates(order: list[int]) -> Callable:
    """The forward of an LSTM whose four gates are stored in another order."""

    def function(layer: nn.LSTM, forward: Callable, x: paddle.Tensor):
        return _with_state(layer, x, lambda name, array: array.reshape([4, -1, *array.shape[1:]])[order].reshape(
            array.shape))  # fmt: skip

    return function


def _without_hidden_bias(layer: nn.LSTM, forward: Callable, x: paddle.Tensor):
    return _with_state(layer, x, lambda name, array: array * ("bias_hh" not in name))


def _with_state(layer: nn.LSTM, x: paddle.Tensor, change: Callable[[str, np.ndarray], np.ndarray]):
    """The outputs of an LSTM of the same kind with changed weights."""
    other = nn.LSTM(layer.input_size, layer.hidden_size, layer.num_layers, "bidirect")
    other.set_state_dict({name: change(name, value.numpy()) for name, value in layer.state_dict().items()})
    return other.astype(x.dtype)(x)


def _not_reversed(layer: nn.LSTM, forward: Callable, x: paddle.Tensor):
    """Both directions read the sequence from its end."""
    output, state = forward(x.flip([1]))
    return output.flip([1]), state


# --- The mistakes ---------------------------------------------------------------------------------------------------


def _net(net: str, *mistakes: tuple[str, Change, str]) -> tuple[NetMutation, ...]:
    return tuple(NetMutation(net, Mutation(name, STAGES, change), cause) for name, change, cause in mistakes)


BLOCK = "encoder.layers.encoder_layer_1"
N = nn
NET_MUTATIONS = (
    *_net(
        "resnet18",
        ("epsilon 1e-3 for 1e-5", with_values("layer2.0.bn1", _epsilon=1e-3), "epsilon"),
        ("momentum in torch's convention", with_values("layer1.1.bn2", _momentum=0.1), "momentum"),
        ("stride in the second convolution of a block", _strides_exchanged, "stride"),
        ("max pool without padding", with_values("maxpool", padding=0), "padding"),
        ("max pool that rounds sizes up", with_values("maxpool", ceil_mode=True), "ceil_mode"),
        ("residual left out", with_code("layer3.1", "forward", _without_residual, "layer3.1.relu"), CODE),
        ("GELU for ReLU", with_layer("layer4.0.relu", lambda old: N.GELU()), "gelu"),
        ("shortcut without its norm", with_layer("layer2.0.downsample.1", lambda old: N.Identity()),
         "layer2.0.downsample.1"),
        ("kernel flipped, a true convolution", with_forward("layer1.0.conv1", _flipped), "layer1.0.conv1"),
        ("maximum for the mean over all positions", with_layer("avgpool", lambda old: N.AdaptiveMaxPool2D(1)),
         "adaptivemaxpool2d"),
        ("head without bias", with_layer("fc", lambda old: N.Linear(512, 10, bias_attr=False)), "fc.bias"),
        ("frozen stem", _frozen("conv1"), "frozen"),
    ),
    *_net(
        "mobilenet_v2",
        ("ReLU for ReLU6", with_layer("features.0.2", lambda old: N.ReLU()), "relu6"),
        ("stride 1 for 2", with_values("features.2.conv.1.0", _stride=[1, 1]), "stride"),
        ("epsilon 1e-3 for 1e-5", with_values("features.5.conv.0.1", _epsilon=1e-3), "epsilon"),
        ("momentum 0.99 for 0.9", with_values("features.9.conv.3", _momentum=0.99), "momentum"),
        ("dropout of 0.5 for 0.2", with_values("classifier.0", p=0.5), "p is 0.5"),
        ("dropout that scales down in evaluation", with_values("classifier.0", mode="downscale_in_infer"),
         "dropout_mode"),
        ("depthwise convolution dilated", with_layer(
            "features.7.conv.1.0", lambda old: copied(conv_like(old, dilation=2, padding=2), old)), "dilation"),
        ("depthwise convolution without padding", with_layer(
            "features.4.conv.1.0", lambda old: copied(conv_like(old, padding=0), old)), "padding"),
        ("residual left out", with_values("features.3", use_res_connect=False), CODE),
        ("softmax at the end", with_forward("", lambda net, forward, x: F.softmax(forward(x))), "softmax"),
        ("maximum for the mean over all positions", with_layer("pool2d_avg", lambda old: N.AdaptiveMaxPool2D(1)),
         "adaptivemaxpool2d"),
        ("batch norm that ignores the batch", with_values("features.1.conv.0.1", _use_global_stats=True),
         "statistics"),
    ),
    *_net(
        "vit",
        ("epsilon 1e-5 for 1e-6", with_values(f"{BLOCK}.ln_1", _epsilon=1e-5), "epsilon"),
        ("GELU by tanh", with_values(f"{BLOCK}.mlp.1", _approximate=True), "approximate"),
        ("four heads for two", with_values(f"{BLOCK}.self_attention", num_heads=4, head_dim=4), "num_heads"),
        ("residual of the perceptron left out", with_code(BLOCK, "add", lambda block, x, y: y, "encoder.ln"), CODE),
        ("last norm left out", with_layer("encoder.ln", lambda old: N.Identity()), "encoder.ln"),
        ("class token at the end", with_code("", "with_token", lambda net, x: paddle.concat(
            [x, net.class_token.expand([x.shape[0], -1, -1])], axis=1), "encoder.dropout"), CODE),
        ("position embedding left out", with_code(
            "encoder", "add_positions", lambda encoder, x: x, "encoder.dropout"), CODE),
        ("attention without its scale", with_forward(f"{BLOCK}.self_attention", _unscaled),
         f"{BLOCK}.self_attention"),
        ("query and key exchanged", with_forward(f"{BLOCK}.self_attention", _exchanged_projections),
         f"{BLOCK}.self_attention"),
        ("mean over the tokens for the class token", with_code(
            "", "token", lambda net, x: x.mean(1), "heads.head"), CODE),
        ("ReLU for GELU", with_layer(f"{BLOCK}.mlp.1", lambda old: N.ReLU()), "relu"),
        ("dropout of 0.1 for none", with_values(f"{BLOCK}.mlp.2", p=0.1), "p is 0.1"),
    ),
    *_net(
        "convnext",
        ("padding by reflection", with_layer("stage1.1.dwconv", lambda old: copied(
            conv_like(old, padding_mode="reflect"), old)), "padding_mode"),
        ("epsilon 1e-5 for 1e-6", with_values("stage2.0.norm", _epsilon=1e-5), "epsilon"),
        ("layer scale left out", with_code("stage1.0", "scale", lambda block, x: x, "stage1.1.dwconv"), CODE),
        ("GELU by tanh", with_values("stage1.0.act", _approximate=True), "approximate"),
        ("residual left out", with_code("stage1.0", "add", lambda block, x, y: y, "stage1.1.dwconv"), CODE),
        ("depthwise convolution dilated", with_layer("stage2.0.dwconv", lambda old: copied(
            conv_like(old, dilation=2, padding=6), old)), "dilation"),
        ("last norm left out", with_layer("norm", lambda old: N.Identity()), "norm.weight"),
        ("stride 1 for 2", with_values("down.1", _stride=[1, 1]), "stride"),
        ("maximum for the mean over all positions", with_layer("pool", lambda old: N.AdaptiveMaxPool2D(1)),
         "adaptivemaxpool2d"),
        ("head without bias", with_layer("head", lambda old: N.Linear(16, 10, bias_attr=False)), "head.bias"),
        ("a layer in float16", with_forward("stage2.0.pwconv1", lambda layer, forward, x: forward(x).astype(
            "float16").astype(x.dtype)), "stage2.0.pwconv1"),
        ("gradient cut off", with_code("", "flat", lambda net, x: x.detach().flatten(1), "pool"), "gradient"),
    ),
    *_net(
        "lstm_classifier",
        ("gates in another order", with_forward("lstm", _with_gates([0, 2, 1, 3])), "lstm"),
        ("sequence first", with_values("lstm", time_major=True), "time_first"),
        ("one direction", with_layer("lstm", lambda old: N.LSTM(8, 8, 2)), "lstm"),
        ("one layer", with_layer("lstm", lambda old: N.LSTM(8, 8, 1, "bidirect")), "lstm"),
        ("GRU for LSTM", with_layer("lstm", lambda old: N.GRU(8, 8, 2, "bidirect")), "lstm"),
        ("last step for the mean", with_code("", "mean", lambda net, x: x[:, -1], "norm"), CODE),
        ("first word for the mean", with_code("", "mean", lambda net, x: x[:, 0], "norm"), CODE),
        ("no padding word", with_values("embedding", _padding_idx=-1), "padding_idx"),
        ("dropout of 0.5 for 0.25", with_values("dropout", p=0.5), "p is 0.5"),
        ("hidden bias left out", with_forward("lstm", _without_hidden_bias), "lstm"),
        ("both directions from the end", with_forward("lstm", _not_reversed), "lstm"),
        ("embedding times the root of its width", with_code(
            "", "embed", lambda net, words: net.embedding(words) * 8**0.5, "lstm"), CODE),
    ),
)  # fmt: skip
