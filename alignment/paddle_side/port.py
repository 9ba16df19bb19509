"""The port as one object of replaceable parts: model, preprocessing, loss, optimizer, learning rate, accuracy."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn
from PIL import Image

from common.errors import CaseError

from .. import user_code
from ..adapter import Framework, adapt
from ..case import Case, absolute_spec, package_of
from ..mapping.patterns import match
from ..rules import Arrays
from ..trace import constructor_places
from .draws import without_initial_draws
from .recorder import is_framework_file
from .units import shared_names

FRAMEWORK = Framework(
    paddle.is_tensor,
    lambda tensor, dtype: tensor.astype(dtype),
    lambda tensor, low, high: tensor.clip(low, high),
    lambda tensors, axis: paddle.concat(tensors, axis),
    paddle.as_real,
)


def default_preprocess(image: Image.Image, size: int, resize: int, interpolation: str) -> np.ndarray:
    """Evaluation pixels of the project, [3, size, size] float32.

    Args:
        image: decoded image.
        size: height and width of the centre crop in pixels.
        resize: length of the short side in pixels before the crop.
        interpolation: bilinear, bicubic or nearest.
    """
    from datasets.preprocess import Preprocess
    from datasets.reading.pixels import image_to_input

    return image_to_input(image, Preprocess(input_size=size, resize_size=resize, interpolation=interpolation))


def default_loss(smoothing: float) -> Callable:
    """Cross entropy of the project, a function of (logits, labels)."""
    from engine.losses import cross_entropy

    return cross_entropy(smoothing)


def squares(output: paddle.Tensor, target: paddle.Tensor) -> paddle.Tensor:
    """Mean of the squared distance, for outputs that are not the logits of classes."""
    return ((output - target) ** 2).mean()


def loss_of_port(port: "Port", loss: dict) -> Callable:
    """The loss of a question as a function of (output, target)."""
    return squares if loss["name"] == "squares" else port.loss(loss.get("smoothing", 0.0))


def default_optimizer(name: str, model: nn.Layer, *, lr: float, **settings: float) -> paddle.optimizer.Optimizer:
    """Create an optimizer of the project.

    Args:
        name: value of --opt.
        model: its trainable parameters are optimized.
        lr: learning rate.
        settings: weight_decay (default 0), momentum and other fields of OptimConfig.
    """
    from configs.schema import OptimConfig
    from engine.optim import create_optimizer

    return create_optimizer(model, OptimConfig(opt=name, **({"weight_decay": 0.0} | settings)), lr)


def default_rate(lr: float, epochs: int) -> Callable[[int, int, int], float]:
    """Cosine schedule of the project without warm-up, a function of (epoch, step, steps_per_epoch)."""
    from configs.schema import ScheduleConfig
    from engine.schedule import warmup_cosine

    return warmup_cosine(lr, ScheduleConfig(epochs=epochs, warmup_epochs=0, min_lr=0.0))


def default_counts(logits: np.ndarray, labels: np.ndarray, ks: tuple[int, ...]) -> dict[int, int]:
    """{k: number of labels among the k highest logits} by the metrics of the project."""
    from engine.metrics import per_sample

    positions, _ = per_sample(paddle.to_tensor(logits), paddle.to_tensor(labels)).numpy()
    return {k: int((positions < k).sum()) for k in ks}


def no_schedule() -> None:
    """No schedule: the rates are those of the case."""


@dataclass(frozen=True)
class Port:
    """What is compared with the reference. The defaults are parts of this project; the self-test replaces them.

    Attributes:
        build: () -> model.
        preprocess: (image, size, resize, interpolation) -> [3, size, size] float32.
        loss: smoothing -> (logits, labels) -> scalar.
        optimizer: (name, model, lr=, weight_decay=, momentum=) -> optimizer.
        rate: (lr, epochs) -> (epoch, step, steps_per_epoch) -> learning rate.
        counts: (logits, labels, ks) -> {k: number of labels among the k highest logits}.
        schedule: () -> schedule of the user, or None.
        user_optimizer: (model, schedule) -> optimizer of the user; None for `optimizer`.
        step: training step of the user; None for one of this tool.
    """

    build: Callable[[], nn.Layer]
    preprocess: Callable = default_preprocess
    loss: Callable = default_loss
    optimizer: Callable = default_optimizer
    rate: Callable = default_rate
    counts: Callable = default_counts
    schedule: Callable = no_schedule
    user_optimizer: Callable | None = None
    step: Callable | None = None

    @classmethod
    def of_case(cls, case: Case) -> "Port":
        """The model of the case with the parts of this project."""
        return cls(lambda: build(case))


def build(case: Case) -> nn.Layer:
    """Build the Paddle model of a case.

    Raises:
        CaseError: the file, module or callable that the case names does not exist, or makes no model.
    """
    if case.port.endswith(".py"):
        raise CaseError(f"port: {case.port}: name the class or function in it, for example {case.port}:Net")
    if ":" not in case.port:
        from models import create_model

        with constructor_places(nn.Layer, is_framework_file):
            model = create_model(case.port, **case.port_arguments)
        return adapt(model, case.adapter, FRAMEWORK)
    package = None if case.is_trusted else package_of(case.port)
    spec = absolute_spec(case.port, case.folder)
    make = load_callable(spec, package)
    try:
        with constructor_places(nn.Layer, is_framework_file):
            model = user_code.construct(spec, make, case.port_arguments)
    except user_code.UserCodeError as error:
        raise CaseError(f"the port cannot be built: {error}") from None
    if not isinstance(model, nn.Layer):
        raise CaseError(f"the port {case.port} makes an object of {type(model).__name__}, not a paddle.nn.Layer")
    if isinstance(model, paddle.DataParallel):
        model = model._layers  # the same model, and the names of its weights have no prefix
    return adapt(model, case.adapter, FRAMEWORK)


def load_callable(spec: str, package: str | None = None, what: str = "port") -> Callable:
    """Import `package.module:name`, or `path/file.py:name`; with `package` it must be defined in that package.

    `what` is what the callable is, in the words of messages.

    Raises:
        CaseError: the file, the module or the callable does not exist, or the file has an error.
    """
    try:
        return user_code.load_callable(spec, package)
    except user_code.UserCodeError as error:
        raise CaseError(f"the {what} cannot be used: {error}") from None
    except (ImportError, OSError, AttributeError) as error:
        raise CaseError(f"the {what} {spec} cannot be used: {error}") from None


def state_shapes(model: nn.Layer) -> dict[str, tuple[int, ...]]:
    """{name: shape} of every parameter and buffer of the model."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def state_arrays(model: nn.Layer) -> Arrays:
    """{name: array} of every parameter and buffer of the model."""
    return {name: value.numpy() for name, value in model.state_dict().items()}


@dataclass(frozen=True)
class PortState:
    """The state of a new port.

    Attributes:
        arrays: {name: array}; of the values only those that are kept.
        shared: {name: first name of the same tensor}.
        trained: {name: number of elements} of the parameters that are trained.
    """

    arrays: Arrays
    shared: dict[str, str]
    trained: dict[str, int]

    @classmethod
    def of_model(cls, model: nn.Layer, kept: Iterable[str]) -> "PortState":
        """The state of a model; `kept` are patterns of entries whose values are needed, and not the shapes alone."""
        trained = {name: value.size for name, value in model.named_parameters() if not value.stop_gradient}
        arrays = {
            name: array if _is_kept(name, kept) else np.broadcast_to(np.zeros((), array.dtype), array.shape)
            for name, array in state_arrays(model).items()
        }
        return cls(arrays, shared_names(model), trained)

    def completed(self, arrays: Arrays, kept: Iterable[str], shared_in_reference: Mapping[str, str]) -> Arrays:
        """Arrays of the port with every name of its state that the reference accounts for.

        Args:
            arrays: what the rules make of the reference's weights.
            kept: patterns of entries that keep the values of the new port.
            shared_in_reference: second names of tensors of the reference, which the port need not have.
        """
        found = {
            name: array for name, array in arrays.items() if name in self.arrays or name not in shared_in_reference
        }
        for name, first in self.shared.items():
            if first not in found and name in found:
                found[first] = found[name]
            if first in found:
                found[name] = found[first]
        for name, array in self.arrays.items():
            if name not in found and _is_kept(name, kept):
                found[name] = array
        return {name: found[name] for name in self.arrays if name in found} | found


def _is_kept(name: str, patterns: Iterable[str]) -> bool:
    return any(match(pattern, name) is not None for pattern in patterns)


def set_state(model: nn.Layer, arrays: Arrays, source: str, dtype: str = "float32") -> nn.Layer:
    """Give the model these weights and return it.

    Args:
        model: built in float32.
        arrays: {name: array}, one for each parameter and buffer.
        source: where the arrays come from, for messages.
        dtype: type in which the model computes afterwards.

    Raises:
        CheckpointError: the arrays do not fit the model.
    """
    from engine.weights import set_weights

    set_weights(to_dtype(model, dtype), arrays, source=source)
    return model


def build_with(port: Port, arrays: Arrays, source: str, dtype: str = "float32") -> nn.Layer:
    """Build the port and give it these weights; the arguments are those of `set_state`.

    The fresh weights are not drawn, unless the constructor fails without them.

    Raises:
        CaseError: the port cannot be built.
        CheckpointError: the arrays do not fit the model.
    """
    with default_dtype("float32"):  # the constructor of the reference makes its constants in this type, too
        model = user_code.build_undrawn(port.build, without_initial_draws)
    return set_state(model, arrays, source, dtype)


def to_dtype(model: nn.Layer, dtype: str) -> nn.Layer:
    """Let a model that was built in float32 compute in this type, and return it.

    Buffers of whole numbers and of truth values keep their type, as in torch; `Layer.to` casts an index, too. Tensors
    that are mere attributes of a layer are cast with its buffers, because few of Paddle's functions take two types.
    """
    if dtype == "float32":
        return model
    for layer in model.sublayers(include_self=True):
        for name, value in vars(layer).items():
            if isinstance(value, paddle.Tensor) and value.is_floating_point():
                vars(layer)[name] = value.astype(dtype)
    return model._to_impl(dtype=dtype, floating_only=True)


@contextmanager
def default_dtype(dtype: str) -> Iterator[None]:
    """Set Paddle's default dtype inside the context: the type of learning rates and of constants in model code."""
    before = paddle.get_default_dtype()
    paddle.set_default_dtype(dtype)
    try:
        yield
    finally:
        paddle.set_default_dtype(before)
