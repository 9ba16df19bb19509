"""The port as one object of replaceable pieces: model, loss, optimizer, schedule, preprocessing, accuracy."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from PIL import Image

from common.errors import CaseError

from .case import Case, located


def default_preprocess(image: Image.Image, size: int, resize: int, interpolation: str) -> np.ndarray:
    from datasets.preprocess import Preprocess
    from datasets.reading.pixels import image_to_input

    return image_to_input(image, Preprocess(input_size=size, resize_size=resize, interpolation=interpolation))


def default_loss(smoothing: float) -> Callable:
    from engine.losses import cross_entropy

    return cross_entropy(smoothing)


def default_optimizer(name: str, model: nn.Layer, **settings: float) -> paddle.optimizer.Optimizer:
    from configs.schema import OptimConfig
    from engine.optim import create_optimizer

    flags = {"betas": "opt_betas", "eps": "opt_eps", "alpha": "opt_alpha"}
    lr = settings.pop("lr")
    config = OptimConfig(opt=name, **{"weight_decay": 0.0, **{flags.get(key, key): v for key, v in settings.items()}})
    return create_optimizer(model, config, lr)


def default_rate(lr: float, epochs: int) -> Callable[[int, int, int], float]:
    from configs.schema import ScheduleConfig
    from engine.schedule import warmup_cosine

    return warmup_cosine(lr, ScheduleConfig(epochs=epochs, warmup_epochs=0, min_lr=0.0))


def default_counts(logits: np.ndarray, labels: np.ndarray, ks: tuple[int, ...]) -> dict[int, int]:
    from engine.metrics import per_sample

    positions, _ = per_sample(paddle.to_tensor(logits), paddle.to_tensor(labels)).numpy()
    return {k: int((positions < k).sum()) for k in ks}


@dataclass(frozen=True)
class Port:
    """What is held against the reference. Each piece is the project's own; the self-test exchanges one at a time."""

    build: Callable[[], nn.Layer]
    preprocess: Callable = default_preprocess  # (image, size, resize, interpolation) -> [3, size, size] float32
    loss: Callable = default_loss  # smoothing -> (logits, labels) -> scalar
    optimizer: Callable = default_optimizer  # (name, model, lr=, weight_decay=, momentum=) -> optimizer
    rate: Callable = default_rate  # (lr, epochs) -> (epoch, step, steps_per_epoch) -> float
    counts: Callable = default_counts  # (logits, labels, ks) -> {k: how many labels are among the k highest}

    @classmethod
    def of(cls, case: Case) -> "Port":
        return cls(lambda: build(case))


def build(case: Case) -> nn.Layer:
    """The case's model: a name of models/, `package.module:callable` or `path/file.py:callable`."""
    paddle.seed(0)
    if ":" not in case.port:
        from models import create_model

        return create_model(case.port, **case.port_arguments)
    return _load_callable(located(case.port, case.folder))(**case.port_arguments)


def _load_callable(spec: str) -> Callable:
    place, name = spec.rsplit(":", 1)
    try:
        if not place.endswith(".py"):
            return getattr(importlib.import_module(place), name)
        module_spec = importlib.util.spec_from_file_location(f"port_{Path(place).stem}", place)
        module = importlib.util.module_from_spec(module_spec)
        sys.modules[module_spec.name] = module
        module_spec.loader.exec_module(module)
        return getattr(module, name)
    except (ImportError, FileNotFoundError, AttributeError) as error:
        raise CaseError(f"the case's port {spec} cannot be imported: {error}") from None


def set_state(model: nn.Layer, arrays: dict[str, np.ndarray], source: str, dtype: str = "float32") -> nn.Layer:
    """The model with exactly these weights, computing in `dtype`."""
    from engine.weights import set_weights

    set_weights(model, arrays, source=source)
    return model.to(dtype=dtype) if dtype != "float32" else model


@contextmanager
def default_dtype(dtype: str):
    """Paddle's default dtype for the block: that of learning rates and of constants in model code."""
    before = paddle.get_default_dtype()
    paddle.set_default_dtype(dtype)
    try:
        yield
    finally:
        paddle.set_default_dtype(before)
