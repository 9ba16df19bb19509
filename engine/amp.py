"""Mixed precision on a GPU; in float32 the same calls do nothing."""

import logging
from contextlib import AbstractContextManager
from typing import NamedTuple

import paddle

logger = logging.getLogger(__name__)


class Precision(NamedTuple):
    """Number format of matrix products and convolutions.

    Attributes:
        dtype: "float32" (mixed precision is off), "float16" or "bfloat16".
    """

    dtype: str = "float32"

    def autocast(self) -> AbstractContextManager:
        """Return the context in which the forward pass and the loss are computed."""
        off = self.dtype == "float32"
        return paddle.amp.auto_cast(enable=not off, dtype="float16" if off else self.dtype)

    def scaler(self) -> paddle.amp.GradScaler:
        """Create the scaler of the loss, which starts at 2^16. bfloat16 needs none: its range is that of float32."""
        return paddle.amp.GradScaler(enable=self.dtype == "float16", init_loss_scaling=2.0**16)


FLOAT32 = Precision()


def choose_precision(use_amp: bool, dtype: str = "float16") -> Precision:
    """Choose the precision of a run; without a GPU mixed precision is ignored, and a warning is logged."""
    if use_amp and not paddle.get_device().startswith("gpu"):
        logger.warning("mixed precision is ignored: it needs a GPU, and this run is on a CPU")
        return FLOAT32
    return Precision(dtype) if use_amp else FLOAT32
