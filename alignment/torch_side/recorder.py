"""Record what every leaf module of a PyTorch model takes and gives, forward and backward."""

import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from alignment.exchange import DropoutMasks

FRAMEWORK = f"{Path(torch.__file__).parent}/"
THIS_FILE = __file__

# What a layer is told at construction, in words that both frameworks share: {class: {word: attribute}}.
SETTINGS = {
    "Conv2d": {"stride": "stride", "padding": "padding", "dilation": "dilation", "groups": "groups",
               "padding_mode": "padding_mode", "kernel": "kernel_size"},
    "BatchNorm2d": {"epsilon": "eps", "new_batch_share": "momentum"},
    "LayerNorm": {"epsilon": "eps"},
    "AvgPool2d": {"kernel": "kernel_size", "stride": "stride", "padding": "padding", "ceil_mode": "ceil_mode",
                  "count_include_pad": "count_include_pad"},
    "MaxPool2d": {"kernel": "kernel_size", "stride": "stride", "padding": "padding", "ceil_mode": "ceil_mode"},
    "AdaptiveAvgPool2d": {"output_size": "output_size"},
    "Dropout": {"drop_rate": "p"},
    "LeakyReLU": {"slope": "negative_slope"},
    "GELU": {"approximate": "approximate"},
    "Upsample": {"mode": "mode", "align_corners": "align_corners"},
}  # fmt: skip


class Recorder:
    """Hooks on the leaves of a model; `nodes` says what ran, `arrays` holds the values as v0, v1, ..."""

    def __init__(self, model: nn.Module, masks: DropoutMasks):
        self.nodes, self.arrays, self.output_gradients = [], {}, {}
        self._masks = masks
        self._alive, self._names, self._calls, self._modules = [], {}, {}, []
        self._handles = []
        for path, module in model.named_modules():
            if hasattr(module, "inplace"):
                module.inplace = False  # the same result, and the layer's input survives to be recorded
            if not list(module.children()):
                self._handles.append(module.register_forward_pre_hook(self._before(path), with_kwargs=True))
                self._handles.append(module.register_forward_hook(self._after))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def value(self, tensor: torch.Tensor) -> str:
        """The name of a value; one value that flows to several layers has one name."""
        identity = (id(tensor), tensor._version)
        if identity not in self._names:
            self._names[identity] = name = f"v{len(self._names)}"
            self._alive.append(tensor)  # or its id could be given to another tensor
            self.arrays[name] = tensor.detach().numpy().copy()
        return self._names[identity]

    def _before(self, path: str) -> Callable:
        def hook(module, args, kwargs):
            self._calls[path] = call = self._calls.get(path, 0) + 1
            tensors = [value for value in args if isinstance(value, torch.Tensor)]
            self._modules.append(module)
            self.nodes.append({
                "path": path if call == 1 else f"{path}#{call}",
                "class": type(module).__name__,
                "place": call_place(),
                    "mask_call": self._masks.call,
                "settings": settings_of(module),
                "inputs": [self.value(tensor) for tensor in tensors],
                "is_isolable": len(tensors) == len(args) and not kwargs,
                "num_parameters": sum(parameter.numel() for parameter in module.parameters()),
            })  # fmt: skip

        return hook

    def _after(self, module, args, output):
        outputs = output if isinstance(output, tuple | list) else [output]
        tensors = [value for value in outputs if isinstance(value, torch.Tensor)]
        self.nodes[-1]["outputs"] = names = [self.value(tensor) for tensor in tensors]
        for name, tensor in zip(names, tensors, strict=True):
            if tensor.requires_grad:
                tensor.register_hook(lambda gradient, name=name: self._keep_gradient(name, gradient))

    def _keep_gradient(self, name: str, gradient: torch.Tensor) -> None:
        self.output_gradients[name] = gradient.detach().clone()

    def isolated_gradients(self, masks: DropoutMasks, pack: Callable) -> None:
        """Run every leaf alone on its recorded input and gradient: adds i<node>.in<k> and i<node>.<parameter>."""
        for index, (node, module) in enumerate(zip(self.nodes, self._modules, strict=True)):
            gradients = [self.output_gradients.get(name) for name in node["outputs"]]
            if not node["is_isolable"] or not gradients or any(gradient is None for gradient in gradients):
                continue
            buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
            inputs = [torch.from_numpy(self.arrays[name]).clone() for name in node["inputs"]]
            inputs = [tensor.requires_grad_() if tensor.is_floating_point() else tensor for tensor in inputs]
            masks.start_step(0, node["mask_call"])
            output = module(*inputs)
            outputs = output if isinstance(output, tuple | list) else [output]
            wanted = {f"i{index}.in{k}": tensor for k, tensor in enumerate(inputs) if tensor.requires_grad}
            wanted |= {f"i{index}.{name}": value for name, value in module.named_parameters() if value.requires_grad}
            found = torch.autograd.grad(list(outputs), list(wanted.values()), gradients, allow_unused=True)
            for key, gradient in zip(wanted, found, strict=True):
                if gradient is not None:
                    parameter = key.split(".", 1)[1]
                    self.arrays[key] = pack(f"{node['path'].split('#')[0]}.{parameter}", gradient.numpy())
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])


def trace(
    model: nn.Module, images: torch.Tensor, loss_of: Callable | None, masks: DropoutMasks, pack: Callable
) -> tuple[dict, dict[str, np.ndarray]]:
    """One forward, and one backward when `loss_of` (logits -> loss) is given; in the mode the model is in."""
    recorder = Recorder(model, masks)
    images = images.clone().requires_grad_(loss_of is not None)
    recorder.value(images)  # v0
    with shared_dropout(masks), torch.set_grad_enabled(loss_of is not None):
        masks.start_step(0)
        logits = model(images)
    recorder.remove()
    answer = {"nodes": recorder.nodes, "images": "v0", "logits": recorder.value(logits)}
    if loss_of:
        loss = loss_of(logits)
        loss.backward()
        answer["loss"] = loss.item()
        with shared_dropout(masks):
            recorder.isolated_gradients(masks, pack)
        recorder.arrays["gradient_of_images"] = images.grad.numpy()
        for name, gradient in recorder.output_gradients.items():
            recorder.arrays[f"g.{name}"] = gradient.numpy()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                recorder.arrays[f"p.{name}"] = pack(name, parameter.grad.numpy())
    return answer, recorder.arrays


@contextmanager
def shared_dropout(masks: DropoutMasks):
    """While active, every dropout of this process takes its mask from `masks`."""
    original = nn.functional.dropout

    def dropout(input, p=0.5, training=True, inplace=False):
        if not training or p == 0:
            return input
        keeps = torch.from_numpy(masks.keeps(tuple(input.shape), p)).to(input.dtype)
        return input * keeps / (1 - p)

    nn.functional.dropout = dropout
    try:
        yield
    finally:
        nn.functional.dropout = original


def settings_of(module: nn.Module) -> dict:
    """The constructor arguments that decide what the layer computes, in the shared words."""
    words = SETTINGS.get(type(module).__name__, {})
    settings = {word: plain(getattr(module, attribute)) for word, attribute in words.items()}
    if isinstance(module, nn.Conv2d | nn.Linear):
        settings["bias"] = module.bias is not None
    return settings


def plain(value):
    """(1, 1) and 1 are the same setting."""
    if isinstance(value, tuple | list):
        value = [plain(one) for one in value]
        return value[0] if value and all(one == value[0] for one in value) else value
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def call_place() -> str:
    """file:line of the model's own code that is calling now."""
    frame = sys._getframe(1)
    while frame and (frame.f_code.co_filename.startswith(FRAMEWORK) or frame.f_code.co_filename == THIS_FILE):
        frame = frame.f_back
    return f"{short_path(frame.f_code.co_filename)}:{frame.f_lineno}" if frame else ""


def short_path(path: str) -> str:
    """The path from the package's folder or the working directory."""
    marker = "site-packages/"
    if marker in path:
        return path.split(marker, 1)[1]
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path
