"""The mutations of the self-test: mistakes of real ports, each as a small change of one part of a right port."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F
from PIL import Image

from ..paddle_side.port import Port, default_loss, default_optimizer, default_preprocess, default_rate
from .toy_models import Hardsigmoid

Change = Callable[[nn.Layer], str]  # changes a built model, returns the path of the layer that is wrong then


@dataclass(frozen=True)
class Mutation:
    """A mistake, either in the model or in another part of the port.

    Attributes:
        name: what is wrong.
        stages: names of the stages that can see it, in the order in which they are run.
        change: changes the model.
        exchange: replaces another part of the port.
    """

    name: str
    stages: tuple[str, ...]
    change: Change | None = None
    exchange: Callable[[Port], Port] | None = None

    def apply(self, port: Port) -> tuple[Port, list[str]]:
        """The wrong port, and a list that holds the path of the wrong layer after the model was built."""
        if self.change is None:
            return self.exchange(port), []
        wrong_layers: list[str] = []

        def build() -> nn.Layer:
            model = port.build()
            wrong_layers[:] = [self.change(model)]
            return model

        return replace(port, build=build), wrong_layers


# --- Finding and exchanging layers ----------------------------------------------------------------------------------


def find(model: nn.Layer, kind: type, condition: Callable = lambda layer: True) -> tuple[str, nn.Layer]:
    """Path and layer of the first layer of a class that meets the condition.

    Classes are compared by name: a case loads its port from a file, and the classes of that module are not equal to
    those of an import.
    """
    name = kind.__name__
    return next(
        (path, layer) for path, layer in model.named_sublayers() if type(layer).__name__ == name and condition(layer)
    )


def setting(kind: type, condition=lambda layer: True, **values) -> Change:
    """Set attributes of the first layer of a class."""

    def change(model: nn.Layer) -> str:
        path, layer = find(model, kind, condition)
        for name, value in values.items():
            setattr(layer, name, value)
        return path

    return change


def exchanged(kind: type, make: Callable[[nn.Layer], nn.Layer], condition=lambda layer: True) -> Change:
    """Replace the first layer of a class by `make(layer)`."""

    def change(model: nn.Layer) -> str:
        path, layer = find(model, kind, condition)
        parent, _, name = path.rpartition(".")
        owner = model
        for step in parent.split(".") if parent else ():
            owner = getattr(owner, step)
        setattr(owner, name, make(layer))
        return path

    return change


def wrapped(kind: type, wrap: Callable, condition=lambda layer: True) -> Change:
    """Replace the forward of the first layer of a class by `wrap(layer, forward, x)`."""

    def change(model: nn.Layer) -> str:
        path, layer = find(model, kind, condition)
        forward = layer.forward
        object.__setattr__(layer, "forward", lambda x: wrap(layer, forward, x))
        return path

    return change


def code(owner: str, method: str, function: Callable, wrong_layer: str | Callable[[nn.Layer], str]) -> Change:
    """Replace a method, that is, code between layers.

    Args:
        owner: path of the layer that has the method; an empty text for the model.
        method: its name.
        function: (original method, arguments of the method) -> result.
        wrong_layer: path of the first layer that is given a wrong value, or a function of the model that returns it.
    """

    def change(model: nn.Layer) -> str:
        target = getattr(model, owner) if owner else model
        original = getattr(target, method)
        object.__setattr__(target, method, lambda x, *rest: function(original, x, *rest))
        return wrong_layer if isinstance(wrong_layer, str) else wrong_layer(model)

    return change


def copied(new: nn.Layer, old: nn.Layer) -> nn.Layer:
    """The new layer with the weights of the old one."""
    new.set_state_dict(old.state_dict())
    return new


def conv_like(layer: nn.Conv2D, **changed) -> nn.Conv2D:
    """A convolution with the arguments of another one, but for those that are changed."""
    arguments = {"stride": layer._stride, "padding": layer._padding, "groups": layer._groups,
                 "bias_attr": None if layer.bias is not None else False}  # fmt: skip
    out_channels, _, kernel, _ = layer.weight.shape
    return nn.Conv2D(layer._in_channels, out_channels, kernel, **(arguments | changed))


def _freeze(model: nn.Layer) -> str:
    path, layer = find(model, nn.Conv2D, _is_first)
    layer.weight.stop_gradient = True
    return path


def _is_first(layer: nn.Conv2D) -> bool:
    return layer._in_channels == 3


def _is_depthwise(layer: nn.Conv2D) -> bool:
    return layer._groups > 1


def _after_join(model: nn.Layer) -> str:
    return "head.shrink" if hasattr(model, "conv1") else "mixed.0"


def _after_add(model: nn.Layer) -> str:
    return "up" if hasattr(model, "conv1") else "act"


def _first_layer(model: nn.Layer) -> str:
    return "conv1" if hasattr(model, "conv1") else "stem.0"


SQUARE_LINEAR = "head.hidden"


def _transposed_weight(layer: nn.Linear, forward: Callable, x: paddle.Tensor) -> paddle.Tensor:
    return F.linear(x, layer.weight.T, layer.bias)


def _zero_mean(layer: nn.BatchNorm2D, forward: Callable, x: paddle.Tensor) -> paddle.Tensor:
    if layer.training:
        return forward(x)
    zeros = paddle.zeros_like(layer._mean)
    return F.batch_norm(x, zeros, layer._variance, layer.weight, layer.bias, epsilon=layer._epsilon)


# --- Other parts of the port ----------------------------------------------------------------------------------------


def _loss(make: Callable) -> Callable[[Port], Port]:
    return lambda port: replace(port, loss=make)


def _optimizer(**changed) -> Callable[[Port], Port]:
    def create(name, model, **settings):
        return default_optimizer(name, model, **(settings | changed))

    return lambda port: replace(port, optimizer=create)


def _nesterov(name, model, *, lr, weight_decay, momentum):
    parameters = [parameter for parameter in model.parameters() if not parameter.stop_gradient]
    return paddle.optimizer.Momentum(lr, momentum, parameters, use_nesterov=True, weight_decay=weight_decay)


def _decoupled(name, model, *, lr, weight_decay, momentum):
    """Weight decay that changes the weights, not the gradient."""
    optimizer = default_optimizer(name, model, lr=lr, weight_decay=0.0, momentum=momentum)
    step = optimizer.step

    def decayed_step():
        with paddle.no_grad():
            for parameter in model.parameters():
                if not parameter.stop_gradient:
                    parameter.set_value(parameter * (1 - optimizer.get_lr() * weight_decay))
        step()

    optimizer.step = decayed_step
    return optimizer


def _rate(make: Callable) -> Callable[[Port], Port]:
    """`make(rule)` returns another rule of (epoch, step, steps_per_epoch)."""
    return lambda port: replace(port, rate=lambda lr, epochs: make(default_rate(lr, epochs)))


def _pixels(make: Callable) -> Callable[[Port], Port]:
    """`make(image, size, resize, interpolation)` returns pixels [3, size, size]."""
    return lambda port: replace(port, preprocess=make)


def _shifted_crop(image: Image.Image, size: int, resize: int, interpolation: str) -> np.ndarray:
    """The corner of the crop rounded up; torchvision rounds half to even, which differs for odd margins."""
    from datasets.preprocess import Preprocess
    from datasets.reading.crop import RESAMPLING

    scale = resize / min(image.size)
    width, height = (max(resize, int(side * scale)) for side in image.size)
    image = image.resize((width, height), RESAMPLING[interpolation])
    left, top = (width - size + 1) // 2 + 1, (height - size + 1) // 2
    return Preprocess(size, resize).normalize(np.asarray(image.crop((left, top, left + size, top + size))))


def _resized_to_square(image: Image.Image, size: int, resize: int, interpolation: str) -> np.ndarray:
    return default_preprocess(image.resize((resize, resize)), size, resize, interpolation)


def _counts_ties(logits: np.ndarray, labels: np.ndarray, ks: tuple[int, ...]) -> dict[int, int]:
    own = logits[np.arange(len(labels)), labels][:, None]
    return {k: int(((logits > own).sum(1) < k).sum()) for k in ks}


def _counts_one_fewer(logits: np.ndarray, labels: np.ndarray, ks: tuple[int, ...]) -> dict[int, int]:
    order = np.argsort(-logits, 1, kind="stable")
    return {k: int((order[:, : max(1, k - 1)] == labels[:, None]).any(1).sum()) for k in ks}


# --- The mutations --------------------------------------------------------------------------------------------------

MODEL = ("weights", "forward", "backward", "train")
TRAIN = ("loss", "backward", "train")
DATA, METRIC = ("data",), ("metric",)
N, P = nn, paddle

MUTATIONS = (
    Mutation("batch norm epsilon 1e-3 for 1e-5", MODEL, setting(N.BatchNorm2D, _epsilon=1e-3)),
    Mutation("batch norm epsilon 1.01e-5 for 1e-5", MODEL, setting(N.BatchNorm2D, _epsilon=1.01e-5)),
    Mutation("batch norm momentum in torch's convention", MODEL, setting(N.BatchNorm2D, _momentum=0.1)),
    Mutation("batch norm momentum 0.99 for 0.9", MODEL, setting(N.BatchNorm2D, _momentum=0.99)),
    Mutation("batch norm ignores the batch", MODEL, setting(N.BatchNorm2D, _use_global_stats=True)),
    Mutation("batch norm evaluates with a stale mean", MODEL, wrapped(N.BatchNorm2D, _zero_mean)),
    Mutation("convolution stride 1 for 2", MODEL, setting(N.Conv2D, _is_first, _stride=[1, 1])),
    Mutation("convolution padding one more", MODEL, exchanged(
        N.Conv2D, lambda old: copied(conv_like(old, padding=old._padding + 1), old), _is_first)),
    Mutation("convolution pads by reflection", MODEL, exchanged(
        N.Conv2D, lambda old: copied(conv_like(old, padding_mode="reflect"), old), _is_first)),
    Mutation("convolution dilation 2 for 1", MODEL, exchanged(
        N.Conv2D, lambda old: copied(conv_like(old, dilation=2, padding=2), old), _is_depthwise)),
    Mutation("convolution groups halved", MODEL, exchanged(
        N.Conv2D, lambda old: conv_like(old, groups=old._groups // 2), _is_depthwise)),
    Mutation("convolution without its bias", MODEL, exchanged(
        N.Conv2D, lambda old: conv_like(old, bias_attr=False), _is_first)),
    Mutation("convolution with a bias too many", MODEL, exchanged(
        N.Conv2D, lambda old: conv_like(old, bias_attr=None), _is_depthwise)),
    Mutation("average pool does not count the padding", MODEL, setting(N.AvgPool2D, exclusive=True)),
    Mutation("average pool rounds sizes up", MODEL, setting(N.AvgPool2D, ceil_mode=True)),
    Mutation("max pool of 3 for 2", MODEL, setting(N.MaxPool2D, ksize=3, stride=2)),
    Mutation("adaptive pool takes the maximum", MODEL, exchanged(
        N.AdaptiveAvgPool2D, lambda old: N.AdaptiveMaxPool2D(2), lambda layer: layer._output_size == 2)),
    Mutation("GELU for ReLU", MODEL, exchanged(N.ReLU, lambda old: N.GELU())),
    Mutation("ReLU left out", MODEL, exchanged(N.ReLU, lambda old: N.Identity())),
    Mutation("GELU by tanh", MODEL, setting(N.GELU, _approximate=True)),
    Mutation("hardsigmoid slope 0.2 for 1/6", MODEL, setting(Hardsigmoid, slope=0.2)),
    Mutation("hardsigmoid slope 0.1666667 for 1/6", MODEL, setting(Hardsigmoid, slope=0.1666667)),
    Mutation("swish for hardswish", MODEL, exchanged(N.Hardswish, lambda old: N.Swish())),
    Mutation("leaky ReLU slope 0.01 for 0.1", MODEL, setting(N.LeakyReLU, _negative_slope=0.01)),
    Mutation("dropout of 0.5 for 0.25", MODEL, setting(N.Dropout, p=0.5)),
    Mutation("dropout scales down in evaluation", MODEL, setting(N.Dropout, mode="downscale_in_infer")),
    Mutation("dropout left out", MODEL, exchanged(N.Dropout, lambda old: N.Identity())),
    Mutation("upsampling aligns corners", MODEL, setting(N.Upsample, align_corners=True)),
    Mutation("upsampling by nearest neighbour", MODEL, setting(N.Upsample, mode="nearest")),
    Mutation("square linear weight not transposed", MODEL, wrapped(N.Linear, _transposed_weight)),
    Mutation("a layer computes in float16", MODEL, wrapped(
        N.Linear, lambda layer, forward, x: forward(x).astype("float16").astype(x.dtype))),
    Mutation("a frozen weight", MODEL, _freeze),
    Mutation("a detached value", MODEL, wrapped(N.Hardswish, lambda layer, forward, x: forward(x).detach())),
    Mutation("two classes exchanged", MODEL, code(
        "", "forward", lambda forward, x: forward(x)[:, [1, 0, *range(2, 10)]], "(logits)")),
    Mutation("softmax inside the model", MODEL, code(
        "", "forward", lambda forward, x: F.softmax(forward(x)), "(logits)")),
    Mutation("images scaled inside the model", MODEL, code(
        "", "forward", lambda forward, x: forward(x * 2 - 1), _first_layer)),
    Mutation("branches joined in the other order", MODEL, code(
        "", "join", lambda join, x, y: join(y, x), _after_join)),
    Mutation("residual left out", MODEL, code("", "add", lambda add, x, y: y, _after_add)),
    Mutation("flattened with channels last", MODEL, code(
        "head", "flat", lambda flat, x: flat(x.transpose([0, 2, 3, 1])), SQUARE_LINEAR)),
    Mutation("no label smoothing", TRAIN, exchange=_loss(lambda smoothing: default_loss(0.0))),
    Mutation("the loss is a sum", TRAIN, exchange=_loss(
        lambda smoothing: lambda logits, labels: default_loss(smoothing)(logits, labels) * logits.shape[0])),
    Mutation("softmax twice", TRAIN, exchange=_loss(
        lambda smoothing: lambda logits, labels: default_loss(smoothing)(F.softmax(logits), labels))),
    Mutation("momentum 0.8 for 0.875", TRAIN, exchange=_optimizer(momentum=0.8)),
    Mutation("nesterov momentum", TRAIN, exchange=lambda port: replace(port, optimizer=_nesterov)),
    Mutation("no weight decay", TRAIN, exchange=_optimizer(weight_decay=0.0)),
    Mutation("no weight decay on norms and biases", TRAIN, exchange=_optimizer(decay_norm_and_bias=False)),
    Mutation("decoupled weight decay", TRAIN, exchange=lambda port: replace(port, optimizer=_decoupled)),
    Mutation("gradients clipped", TRAIN, exchange=_optimizer(clip_grad=0.05)),
    Mutation("learning rate 2 % low", TRAIN, exchange=_rate(lambda rule: lambda e, s, n: 0.98 * rule(e, s, n))),
    Mutation("schedule one step late", TRAIN, exchange=_rate(lambda rule: lambda e, s, n: rule(e, max(s - 1, 0), n))),
    Mutation("schedule by epoch, not by step", TRAIN, exchange=_rate(lambda rule: lambda e, s, n: rule(e, 0, n))),
    Mutation("channels in BGR order", DATA, exchange=_pixels(
        lambda image, *rest: default_preprocess(Image.merge("RGB", image.split()[::-1]), *rest))),
    Mutation("divided by one standard deviation for all", DATA, exchange=_pixels(
        lambda image, *rest: default_preprocess(image, *rest) * np.float32([[[0.229]], [[0.224]], [[0.225]]]) / 0.226)),
    Mutation("mean not subtracted", DATA, exchange=_pixels(
        lambda image, *rest: default_preprocess(image, *rest) + np.float32([[[2.118]], [[2.036]], [[1.804]]]))),
    Mutation("bilinear for bicubic", DATA, exchange=_pixels(
        lambda image, size, resize, _: default_preprocess(image, size, resize, "bilinear"))),
    Mutation("nearest for the named interpolation", DATA, exchange=_pixels(
        lambda image, size, resize, _: default_preprocess(image, size, resize, "nearest"))),
    Mutation("crop one pixel aside", DATA, exchange=_pixels(_shifted_crop)),
    Mutation("resized to a square", DATA, exchange=_pixels(_resized_to_square)),
    Mutation("mirrored", DATA, exchange=_pixels(
        lambda image, *rest: np.ascontiguousarray(default_preprocess(image, *rest)[:, :, ::-1]))),
    Mutation("equal logits count as right", METRIC, exchange=lambda port: replace(port, counts=_counts_ties)),
    Mutation("top-5 looks at four", METRIC, exchange=lambda port: replace(port, counts=_counts_one_fewer)),
)  # fmt: skip
