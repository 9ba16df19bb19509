"""Exponential moving average of the weights and batch-norm statistics of a model."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import paddle
from paddle import nn

from configs.schema import EmaConfig

from .weights import set_tensors

logger = logging.getLogger(__name__)


class Ema:
    """Keeps average = decay * average + (1 - decay) * model on the device; the average starts as a copy of the model.

    Args:
        model: the model in training.
        decay: share of the old average that stays at each step.
        num_steps: number of steps of the training; a warning is logged if the decay is too slow for it.
    """

    def __init__(self, model: nn.Layer, decay: float, *, num_steps: int | None = None):
        if num_steps is not None and (kept := decay**num_steps) > 0.5:
            logger.warning(
                f"--model_ema_decay {decay} is slow for {num_steps} steps: at the end the moving average still holds "
                f"{100 * kept:.0f}% of the first weights; a smaller decay follows faster"
            )
        # A tensor: of a Python number lerp_ would create a tensor at every call, and take three times as long.
        self._weight = paddle.to_tensor(1 - decay, dtype="float32")
        self._model = model.state_dict()
        self._average = {name: tensor.detach().clone() for name, tensor in self._model.items()}

    @paddle.no_grad()
    def update(self) -> None:
        """Move the average towards the model, after a step of the optimizer."""
        for name, average in self._average.items():
            if average.is_floating_point():
                average.lerp_(self._model[name], self._weight)
            else:
                average.copy_(self._model[name], False)

    def arrays(self) -> dict[str, np.ndarray]:
        """Copy the average to the host, by the structured names of the model."""
        return {name: average.numpy() for name, average in self._average.items()}

    def load(self, arrays: dict[str, np.ndarray], *, source: object) -> None:
        """Set the average to weights that were read from the file `source`.

        Raises:
            CheckpointError: the weights are not those of this model.
        """
        set_tensors(self._average, arrays, source=f"the moving average of {source}")

    def restart(self) -> None:
        """Set the average to the model as it is now: weights that were loaded without an average need a new one."""
        for name, average in self._average.items():
            average.set_value(self._model[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights inside the context, and then its own weights again, bit for bit."""
        own = {name: tensor.detach().clone() for name, tensor in self._model.items()}
        try:
            for name, tensor in self._model.items():
                tensor.set_value(self._average[name])
            yield
        finally:
            for name, tensor in self._model.items():
                tensor.set_value(own[name])


def create_ema(model: nn.Layer, config: EmaConfig, num_steps: int) -> Ema | None:
    """Create the moving average for a training of `num_steps` steps; None without --model_ema."""
    return Ema(model, config.model_ema_decay, num_steps=num_steps) if config.model_ema else None
