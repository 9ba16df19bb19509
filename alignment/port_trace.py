"""Record what every leaf layer of a Paddle model takes and gives, forward and backward, and run one layer alone."""

import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from .exchange import DropoutMasks

FRAMEWORK = f"{Path(paddle.__file__).parent}/"
THIS_FILE = __file__

# What a layer is told at construction, in the words of torch_side/recorder.py: {class: {word: attribute}}.
SETTINGS = {
    "Conv2D": {"stride": "_stride", "padding": "_padding", "dilation": "_dilation", "groups": "_groups",
               "padding_mode": "_padding_mode", "kernel": "_kernel_size"},
    "BatchNorm2D": {"epsilon": "_epsilon"},
    "LayerNorm": {"epsilon": "_epsilon"},
    "AvgPool2D": {"kernel": "ksize", "stride": "stride", "padding": "padding", "ceil_mode": "ceil_mode"},
    "MaxPool2D": {"kernel": "ksize", "stride": "stride", "padding": "padding", "ceil_mode": "ceil_mode"},
    "AdaptiveAvgPool2D": {"output_size": "_output_size"},
    "Dropout": {"drop_rate": "p"},
    "LeakyReLU": {"slope": "_negative_slope"},
    "GELU": {},
    "Upsample": {"mode": "mode", "align_corners": "align_corners"},
}  # fmt: skip


@dataclass
class Trace:
    """What ran (`nodes`), the values by name, and the layer behind every node."""

    nodes: list[dict] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    layers: list[nn.Layer] = field(default_factory=list)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)  # of node outputs, by the name of the value
    logits: str = ""
    error: str = ""  # of a model that stopped on the way; the trace holds what ran before
    loss: float | None = None
    parameter_gradients: dict[str, np.ndarray] = field(default_factory=dict)
    image_gradient: np.ndarray | None = None


class Recorder:
    """Hooks on the leaves of a model; fills a Trace."""

    def __init__(self, model: nn.Layer, masks: DropoutMasks):
        self.trace, self._masks = Trace(), masks
        self._alive, self._names, self._calls = [], {}, {}
        self._handles = []
        for path, layer in model.named_sublayers(include_self=True):
            if not list(layer.children()):
                self._handles.append(layer.register_forward_pre_hook(self._before(path)))
                self._handles.append(layer.register_forward_post_hook(self._after))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def value(self, tensor: paddle.Tensor) -> str:
        """The name of a value; one value that flows to several layers has one name."""
        identity = (id(tensor), tensor.inplace_version)
        if identity not in self._names:
            self._names[identity] = name = f"v{len(self._names)}"
            self._alive.append(tensor)  # or its id could be given to another tensor
            self.trace.arrays[name] = tensor.numpy()
        return self._names[identity]

    def _before(self, path: str) -> Callable:
        def hook(layer, args):
            self._calls[path] = call = self._calls.get(path, 0) + 1
            tensors = [value for value in args if isinstance(value, paddle.Tensor)]
            self.trace.layers.append(layer)
            self.trace.nodes.append({
                "path": path if call == 1 else f"{path}#{call}",
                "class": type(layer).__name__,
                "place": call_place(),
                    "mask_call": self._masks.call,
                "settings": settings_of(layer),
                "inputs": [self.value(tensor) for tensor in tensors],
                "is_isolable": len(tensors) == len(args),
                "num_parameters": sum(p.size for p in layer.parameters() if not p.stop_gradient),
            })  # fmt: skip

        return hook

    def _after(self, layer, args, output):
        outputs = output if isinstance(output, tuple | list) else [output]
        tensors = [value for value in outputs if isinstance(value, paddle.Tensor)]
        self.trace.nodes[-1]["outputs"] = names = [self.value(tensor) for tensor in tensors]
        for name, tensor in zip(names, tensors, strict=True):
            if not tensor.stop_gradient:
                tensor.register_hook(lambda gradient, name=name: self._keep_gradient(name, gradient))

    def _keep_gradient(self, name: str, gradient: paddle.Tensor) -> None:
        self.trace.gradients[name] = gradient.numpy()


def record_trace(
    model: nn.Layer, images: np.ndarray, loss_of: Callable | None, masks: DropoutMasks, is_training: bool
) -> Trace:
    """One forward, and one backward when `loss_of` (logits -> loss) is given."""
    model.train() if is_training else model.eval()
    recorder = Recorder(model, masks)
    images = paddle.to_tensor(images, stop_gradient=loss_of is None)
    recorder.value(images)  # v0
    masks.start_step(0)
    with shared_dropout(masks), paddle.set_grad_enabled(loss_of is not None):
        try:
            logits = model(images)
        except Exception as error:
            recorder.trace.error, logits = last_line(error), images
    recorder.remove()
    trace = recorder.trace
    trace.logits = recorder.value(logits)
    if loss_of and not trace.error:
        loss = loss_of(logits)
        loss.backward()
        trace.loss = loss.item()
        trace.image_gradient = None if images.grad is None else images.grad.numpy()
        trace.parameter_gradients = {
            name: parameter.grad.numpy() for name, parameter in model.named_parameters() if parameter.grad is not None
        }
        model.clear_gradients()
    return trace


def run_alone(
    layer: nn.Layer,
    inputs: list[np.ndarray],
    gradients: list[np.ndarray] | None,
    masks: DropoutMasks,
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """(outputs, {in0, ..., weight, ...: gradients}) of one layer; its statistics are left as they were."""
    tensors = [paddle.to_tensor(array, stop_gradient=gradients is None or array.dtype.kind != "f") for array in inputs]
    statistics = {name: value.clone() for name, value in layer.state_dict().items()}
    with shared_dropout(masks), paddle.set_grad_enabled(gradients is not None):
        output = layer(*tensors)
        outputs = [*output] if isinstance(output, tuple | list) else [output]
    found = {}
    if gradients is not None:
        wanted = {f"in{k}": tensor for k, tensor in enumerate(tensors) if not tensor.stop_gradient}
        wanted |= {name: value for name, value in layer.named_parameters() if not value.stop_gradient}
        given = [paddle.to_tensor(array) for array in gradients]
        if wanted and not any(output.stop_gradient for output in outputs):
            values = paddle.grad(outputs, list(wanted.values()), given, allow_unused=True)
            found = {key: value.numpy() for key, value in zip(wanted, values, strict=True) if value is not None}
    for name, value in layer.state_dict().items():
        value.set_value(statistics[name])
    return [output.numpy() for output in outputs], found


@contextmanager
def shared_dropout(masks: DropoutMasks):
    """While active, every dropout of this process takes its mask from `masks`; scaling stays the layer's own."""
    original = nn.functional.dropout

    def dropout(x, p=0.5, axis=None, training=True, inplace=False, mode="upscale_in_train", name=None):
        if not training:
            return original(x, p, axis, training=False, mode=mode)
        if p == 0:
            return x
        keeps = paddle.to_tensor(masks.keeps(tuple(x.shape), p)).astype(x.dtype)
        return x * keeps / (1 - p) if mode == "upscale_in_train" else x * keeps

    nn.functional.dropout = dropout
    try:
        yield
    finally:
        nn.functional.dropout = original


def settings_of(layer: nn.Layer) -> dict:
    """The constructor arguments that decide what the layer computes, in the shared words."""
    words = SETTINGS.get(type(layer).__name__, {})
    settings = {word: plain(getattr(layer, attribute)) for word, attribute in words.items()}
    match layer:
        case nn.Conv2D() | nn.Linear():
            settings["bias"] = layer.bias is not None
        case nn.BatchNorm2D():
            settings["new_batch_share"] = round(1 - layer._momentum, 12)  # torch's convention
            if layer._use_global_stats:
                settings["use_global_stats"] = True
        case nn.AvgPool2D():
            settings["count_include_pad"] = not layer.exclusive
        case nn.GELU():
            settings["approximate"] = "tanh" if layer._approximate else "none"
        case nn.Dropout() if layer.mode != "upscale_in_train":
            settings["dropout_mode"] = layer.mode
    return settings


def last_line(error: Exception) -> str:
    """Paddle's messages are long; what happened is at their end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:200]}" if lines else type(error).__name__


def plain(value):
    """[1, 1] and 1 are the same setting."""
    if isinstance(value, tuple | list):
        value = [plain(one) for one in value]
        return value[0] if value and all(one == value[0] for one in value) else value
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def call_place() -> str:
    """file:line of the model's own code that is calling now."""
    frame = sys._getframe(1)
    while frame and _is_machinery(frame.f_code.co_filename):
        frame = frame.f_back
    if not frame:
        return ""
    path = frame.f_code.co_filename
    path = path.split("site-packages/", 1)[1] if "site-packages/" in path else path
    path = str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path
    return f"{path}:{frame.f_lineno}"


def _is_machinery(file: str) -> bool:
    return file == THIS_FILE or (file.startswith(FRAMEWORK) and "/vision/models/" not in file)
