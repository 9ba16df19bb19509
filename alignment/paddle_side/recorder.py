"""Record the inputs, outputs and gradients of every leaf layer of a Paddle model, and run one layer alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from ..adapter import tensors_of
from ..exchange import DropoutMasks, packed
from ..layers.settings import PADDLE, settings_of
from ..memory import is_refused
from ..replacing import functions_replaced
from ..trace import Trace, TraceRecorder
from ..user_code import USER_ERRORS, place_of_error
from .draws import shared_dropout, turn_off_inner_dropout
from .units import activation_apart, whole_layers

FRAMEWORK = f"{Path(paddle.__file__).parent}/"
# Operators that round to float32 inside, even in float64: {name in paddle._C_ops: kind of the layer in FLOORS}.
ROUNDING_OPERATORS = {
    "linear_interp": "upsample", "bilinear_interp": "upsample", "bicubic_interp": "upsample",
    "trilinear_interp": "upsample", "selu": "selu", "elu": "elu", "celu": "celu", "softplus": "softplus",
}  # fmt: skip
MODELS_OF_FRAMEWORK = "/vision/models/"  # of paddle.vision; lines of its models are model code


class PaddleRecorder(TraceRecorder):
    """Sets hooks on the leaf layers of a Paddle model."""

    def __init__(self, model: nn.Layer, masks: DropoutMasks):
        super().__init__(masks)
        for path, layer in whole_layers(model).items():
            if layer is not model or not list(layer.children()):
                self._hooks.append(layer.register_forward_pre_hook(self._before(path), with_kwargs=True))
                self._hooks.append(layer.register_forward_post_hook(self._after))
                if activation := activation_apart(layer):
                    self._hooks.append(layer.register_forward_post_hook(activation))

    def is_tensor(self, value: object) -> bool:
        return isinstance(value, paddle.Tensor)

    def version(self, tensor: paddle.Tensor) -> int:
        return tensor.inplace_version

    def as_array(self, tensor: paddle.Tensor) -> np.ndarray:
        return tensor.numpy()

    def settings(self, layer: nn.Layer, num_axes: int | None) -> dict:
        return settings_of(layer, PADDLE, num_axes)

    def num_parameters(self, layer: nn.Layer) -> int:
        return sum(parameter.size for parameter in layer.parameters() if not parameter.stop_gradient)

    def is_framework_file(self, path: str) -> bool:
        return is_framework_file(path)

    def _before(self, path: str) -> Callable:
        return lambda layer, args, keywords: self.begin_call(path, layer, args, has_keywords=bool(keywords))

    def _after(self, layer: nn.Layer, arguments: tuple, output) -> None:
        for name, tensor in self.end_call(first_output(layer, output)):
            if not tensor.stop_gradient:
                tensor.register_hook(lambda gradient, name=name: self._keep_gradient(name, gradient))

    def _keep_gradient(self, name: str, gradient: paddle.Tensor) -> None:
        self.trace.gradients[name] = gradient.numpy()


@contextmanager
def rounding_noted(trace: Trace) -> Iterator[None]:
    """Inside the context the trace keeps the calls of operators that round to float32 inside, whoever calls them."""
    operators = paddle._C_ops

    def noted(name: str, function: Callable) -> Callable:
        def call(*arguments, **keywords):
            trace.rounding_calls.append((len(trace.nodes), ROUNDING_OPERATORS[name]))
            return function(*arguments, **keywords)

        return call

    known = [name for name in ROUNDING_OPERATORS if hasattr(operators, name)]
    with functions_replaced(operators, {name: noted(name, getattr(operators, name)) for name in known}):
        yield


def is_framework_file(path: str) -> bool:
    """Whether a source file is of Paddle or this one, and not of a model."""
    return path == __file__ or (path.startswith(FRAMEWORK) and MODELS_OF_FRAMEWORK not in path)


def first_output(layer: nn.Layer, output):
    """The output of a layer; of an attention without its weights and cache."""
    is_several = isinstance(layer, nn.MultiHeadAttention) and isinstance(output, tuple)
    return output[0] if is_several else output


def record_trace(
    model: nn.Layer, images: np.ndarray, loss_of: Callable | None, masks: DropoutMasks, *, is_training: bool,
    watch: Callable = nullcontext, pack: Callable[[np.ndarray], np.ndarray] = packed,
) -> Trace:  # fmt: skip
    """Record one forward of the model, and one backward if there is a loss and the model is in train mode.

    An exception of the model does not leave this function: its message becomes `error` of the trace.

    Args:
        model: computes in the dtype of the images.
        images: [B, 3, H, W].
        loss_of: logits -> loss, or None for a forward alone.
        masks: of the dropout layers.
        is_training: True for train mode, False for evaluation mode.
        watch: makes a context of the trace, in which the forward is run.
        pack: what is kept of the gradient of a parameter.
    """
    model.train() if is_training else model.eval()
    masks.turned_off.update(turn_off_inner_dropout(model) if is_training else ())
    recorder = PaddleRecorder(model, masks)
    images = paddle.to_tensor(images, stop_gradient=loss_of is None)
    given = images.clone()  # a model may change its input in place, which Paddle refuses for a leaf with a gradient
    recorder.value(given)  # v0
    masks.start_step(0)
    with shared_dropout(masks), rounding_noted(recorder.trace), paddle.set_grad_enabled(loss_of is not None):
        try:
            with watch(recorder.trace):
                logits = model(given)
        except USER_ERRORS as error:
            if is_refused(error):
                raise
            recorder.trace.error, logits = last_line(error), images
    del given
    if not recorder.is_tensor(logits):  # an adapter packs what is several tensors in the reference
        words = f"a {type(logits).__name__} of {len(tensors_of(logits, recorder.is_tensor))}"
        recorder.trace.error, logits = f"the port returns {words}, the reference one tensor", images
    trace = recorder.finish(logits)
    trace.unpaired_draws, trace.turned_off = sorted(masks.unpaired), sorted(masks.turned_off)
    if loss_of and not trace.error:
        loss = loss_of(logits)
        trace.loss = loss.item()
    if loss_of and is_training and not trace.error:  # an LSTM of Paddle has no backward in evaluation mode
        loss.backward()
        trace.image_gradient = None if images.grad is None else images.grad.numpy()
        trace.parameter_gradients = {
            name: pack(gradient_array(parameter.grad))
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }
        model.clear_gradients(set_to_zero=False)
    return trace


def has_spectral_norm(layer: nn.Layer) -> bool:
    """Whether the weight is divided by its norm before each call, which in train mode gets nearer to it each time."""
    return any(type(hook).__name__ == "SpectralNorm" for hook in layer._forward_pre_hooks.values())


def run_alone(
    layer: nn.Layer, inputs: list[np.ndarray], gradients: list[np.ndarray] | None, masks: DropoutMasks
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Run one layer on given inputs; returns its outputs and {"in0", "in1", ... or parameter: gradient}.

    The statistics of the layer are the same afterwards as before.

    Args:
        layer: of the port.
        inputs: the tensors that the layer takes.
        gradients: gradient of the loss with respect to each output, or None for a forward alone.
        masks: of the dropout layers, set to the call of the layer.
    """
    tensors = [paddle.to_tensor(array, stop_gradient=gradients is None or array.dtype.kind != "f") for array in inputs]
    is_training, layer.training = layer.training, layer.training and not has_spectral_norm(layer)
    statistics = {name: value.clone() for name, value in layer.state_dict().items() if value.stop_gradient}
    with shared_dropout(masks), paddle.set_grad_enabled(gradients is not None):
        copies = [tensor.clone() for tensor in tensors]  # Paddle does not let a layer change a leaf in place
        outputs = [tensor for _, tensor in tensors_of(first_output(layer, layer(*copies)), paddle.is_tensor)]
    results = {}
    # Paddle's LSTM writes beyond its memory if a gradient has another shape than the output.
    has_shapes = gradients is not None and all(
        tuple(output.shape) == one.shape for output, one in zip(outputs, gradients, strict=True)
    )
    if has_shapes:
        wanted = {f"in{k}": tensor for k, tensor in enumerate(tensors) if not tensor.stop_gradient}
        wanted |= {name: value for name, value in layer.named_parameters() if not value.stop_gradient}
        given = [paddle.to_tensor(array) for array in gradients]
        pairs = [(output, one) for output, one in zip(outputs, given, strict=True) if not output.stop_gradient]
        if wanted and pairs:
            roots, given = [output for output, _ in pairs], [one for _, one in pairs]
            values = paddle.grad(roots, list(wanted.values()), given, allow_unused=True)
            found = {key: value for key, value in zip(wanted, values, strict=True) if value is not None}
            results = {key: gradient_array(value) for key, value in found.items()}
    layer.training = is_training
    for name, value in layer.state_dict().items():
        if name in statistics:
            value.set_value(statistics[name])
    return [output.numpy() for output in outputs], results


def gradient_array(gradient: paddle.Tensor) -> np.ndarray:
    """The values of a gradient; of an embedding with sparse=True, which has some rows alone, with all rows."""
    if not gradient.is_selected_rows():
        return gradient.numpy()
    selected = gradient.get_selected_rows()
    values = np.array(selected.get_tensor())
    dense = np.zeros((selected.height(), *values.shape[1:]), values.dtype)
    np.add.at(dense, list(selected.rows()), values)
    return dense


def last_line(error: BaseException) -> str:
    """Type, last line and place of an exception; Paddle's messages are long and end with the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[-1][:200]}" if lines else type(error).__name__
    return text + place_of_error(error)
