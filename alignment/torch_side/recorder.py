"""Record the inputs, outputs and gradients of every leaf module of a PyTorch model."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from alignment.adapter import tensors_of
from alignment.exchange import DropoutMasks
from alignment.layers.settings import TORCH, settings_of
from alignment.trace import Trace, TraceRecorder, gradients_or_zeros, split_gradients

from .draws import shared_dropout, turn_off_inner_dropout
from .units import as_array, whole_modules

FRAMEWORK = f"{Path(torch.__file__).parent}/"
Pack = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]  # gradients of parameters -> what is sent of them


class TorchRecorder(TraceRecorder):
    """Sets hooks on the leaf modules of a PyTorch model."""

    def __init__(self, model: nn.Module, masks: DropoutMasks):
        super().__init__(masks)
        for path, module in whole_modules(model).items():
            if module is not model or not list(module.children()):
                self._hooks.append(module.register_forward_pre_hook(self._before(path), with_kwargs=True))
                self._hooks.append(module.register_forward_hook(self._after))

    def is_tensor(self, value: object) -> bool:
        return isinstance(value, torch.Tensor)

    def version(self, tensor: torch.Tensor) -> int:
        return tensor._version

    def as_array(self, tensor: torch.Tensor) -> np.ndarray:
        return as_array(tensor).copy()

    def settings(self, layer: nn.Module, num_axes: int | None) -> dict:
        return settings_of(layer, TORCH, num_axes)

    def num_parameters(self, layer: nn.Module) -> int:
        return sum(parameter.numel() for parameter in layer.parameters() if parameter.requires_grad)

    def is_framework_file(self, path: str) -> bool:
        return is_framework_file(path)

    def _before(self, path: str) -> Callable:
        def begin(module: nn.Module, args: tuple, kwargs: dict) -> None:
            self.begin_call(path, module, args, has_keywords=bool(kwargs))
            self.trace.nodes[-1]["is_packed"] = any(isinstance(value, PackedSequence) for value in args)

        return begin

    def _after(self, module: nn.Module, args: tuple, output) -> None:
        for name, tensor in self.end_call(first_output(module, output)):
            if tensor.requires_grad:
                tensor.register_hook(lambda gradient, name=name: self._keep_gradient(name, gradient))

    def _keep_gradient(self, name: str, gradient: torch.Tensor) -> None:
        self.trace.gradients[name] = as_array(gradient).copy()

    def run_layers_alone(self, masks: DropoutMasks, pack: Pack) -> None:
        """Run every module alone on its recorded inputs and output gradients, and record the gradients it computes."""
        trace = self.trace
        for index, (node, module) in enumerate(zip(trace.nodes, trace.layers, strict=True)):
            found = [trace.gradients.get(name) for name in node["outputs"]]
            if not node["is_isolable"] or all(gradient is None for gradient in found):
                continue
            gradients = gradients_or_zeros(found, [trace.arrays[name] for name in node["outputs"]])
            buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
            inputs = [torch.from_numpy(trace.arrays[name]).clone() for name in node["inputs"]]
            inputs = [tensor.requires_grad_() if tensor.is_floating_point() else tensor for tensor in inputs]
            masks.start_step(0, node["mask_call"])
            is_training = module.training
            module.train(is_training and not has_spectral_norm(module))
            copies = [tensor.clone() for tensor in inputs]  # torch does not let a module change a leaf in place
            outputs = [tensor for _, tensor in tensors_of(first_output(module, module(*copies)), torch.is_tensor)]
            wanted = {f"in{k}": tensor for k, tensor in enumerate(inputs) if tensor.requires_grad}
            wanted |= {name: value for name, value in module.named_parameters() if value.requires_grad}
            given = [torch.from_numpy(gradient) for gradient in gradients]
            pairs = [(output, one) for output, one in zip(outputs, given, strict=True) if output.requires_grad]
            outputs, given = [output for output, _ in pairs], [one for _, one in pairs]
            found = torch.autograd.grad(outputs, list(wanted.values()), given, allow_unused=True)
            found = {
                name: as_array(gradient) for name, gradient in zip(wanted, found, strict=True) if gradient is not None
            }
            of_inputs, of_parameters = split_gradients(node["path"], found)
            trace.isolated_gradients[index] = of_inputs | pack(of_parameters)
            module.train(is_training)
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])


def has_spectral_norm(module: nn.Module) -> bool:
    """Whether the weight is divided by its norm, which in train mode gets nearer to it with each call."""
    hooks = [*module._forward_pre_hooks.values(), *module.modules()]
    return any(type(one).__name__ in ("SpectralNorm", "_SpectralNorm") for one in hooks)


def is_framework_file(path: str) -> bool:
    """Whether a source file is of PyTorch or this one, and not of a model."""
    return path == __file__ or path.startswith(FRAMEWORK)


def first_output(module: nn.Module, output):
    """The output of a module; of an attention without its weights, which Paddle does not return."""
    return output[0] if isinstance(module, nn.MultiheadAttention) else output


def record(
    model: nn.Module, images: torch.Tensor, loss_of: Callable | None, masks: DropoutMasks, pack: Pack,
    *, has_layers_alone: bool = True, watch: Callable = nullcontext,
) -> Trace:  # fmt: skip
    """Record one forward in the mode of the model, and one backward if there is a loss.

    Args:
        model: computes in the dtype of the images.
        images: [B, 3, H, W].
        loss_of: logits -> loss, or None for a forward alone.
        masks: of the dropout layers.
        pack: what is sent of the gradients of parameters.
        has_layers_alone: whether the backward of each layer is run alone, too.
        watch: makes a context of the trace, in which the forward is run.
    """
    masks.turned_off.update(turn_off_inner_dropout(model) if model.training else ())
    recorder = TorchRecorder(model, masks)
    images = images.clone().requires_grad_(loss_of is not None)
    given = images.clone()  # a model may change its input in place, which torch refuses for a leaf with a gradient
    recorder.value(given)  # v0
    with shared_dropout(masks), torch.set_grad_enabled(loss_of is not None), watch(recorder.trace):
        masks.start_step(0)
        logits = model(given)
    del given
    trace = recorder.finish(logits)
    trace.unpaired_draws, trace.turned_off = sorted(masks.unpaired), sorted(masks.turned_off)
    if loss_of:
        loss = loss_of(logits)
        del logits
        loss.backward()
        trace.loss = loss.item()
        trace.image_gradient = None if images.grad is None else images.grad.numpy()
        trace.parameter_gradients = pack({
            name: as_array(parameter.grad) for name, parameter in model.named_parameters() if parameter.grad is not None
        })  # fmt: skip
        model.zero_grad(set_to_none=True)
        if has_layers_alone:
            with shared_dropout(masks):
                recorder.run_layers_alone(masks, pack)
    return trace
