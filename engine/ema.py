"""An exponential moving average of everything in a model, its batch-norm statistics included."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import paddle
from paddle import nn

from .checkpoint import set_tensors

logger = logging.getLogger(__name__)


class Ema:
    """average = decay * average + (1 - decay) * model, on the device; starts as a copy of the model.

    `num_steps` is the length of the training; a line is logged if the decay is too slow for it.
    """

    def __init__(self, model: nn.Layer, decay: float, *, num_steps: int | None = None):
        if num_steps is not None and (kept := decay**num_steps) > 0.5:
            logger.warning(
                f"--model_ema_decay {decay} is slow for {num_steps} steps: at the end the moving average still holds "
                f"{100 * kept:.0f}% of the first weights; a smaller decay follows faster"
            )
        # A tensor: for a number, lerp_ would make one at every call, and take three times as long.
        self._weight = paddle.to_tensor(1 - decay, dtype="float32")
        self._model = model.state_dict()
        self._average = {name: tensor.detach().clone() for name, tensor in self._model.items()}

    @paddle.no_grad()
    def update(self) -> None:
        for name, average in self._average.items():
            if average.is_floating_point():
                average.lerp_(self._model[name], self._weight)
            else:
                average.copy_(self._model[name], False)

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: average.numpy() for name, average in self._average.items()}

    def load(self, arrays: dict[str, np.ndarray], *, source: object) -> None:
        """Take over weights that were read from a file; CheckpointError if they are not those of this model."""
        set_tensors(self._average, arrays, source=f"the moving average of {source}")

    def restart(self) -> None:
        """Begin again from the model as it is now: what is loaded without an average must not keep a random one."""
        for name, average in self._average.items():
            average.set_value(self._model[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model has the averaged weights; after it, its own again, to the last bit."""
        own = {name: tensor.detach().clone() for name, tensor in self._model.items()}
        try:
            for name, tensor in self._model.items():
                tensor.set_value(self._average[name])
            yield
        finally:
            for name, tensor in self._model.items():
                tensor.set_value(own[name])
