"""Mixed precision on a GPU; on a CPU, or when it is off, the same calls do nothing."""

import logging
from contextlib import AbstractContextManager
from typing import NamedTuple

import paddle

logger = logging.getLogger(__name__)


class Precision(NamedTuple):
    """`dtype` is float32 (off), float16 or bfloat16: what matrix products and convolutions are computed in."""

    dtype: str = "float32"

    def autocast(self) -> AbstractContextManager:
        """The context of the forward pass and the loss."""
        off = self.dtype == "float32"
        return paddle.amp.auto_cast(enable=not off, dtype="float16" if off else self.dtype)

    def scaler(self) -> paddle.amp.GradScaler:
        """Scales the loss from 2^16 on, for float16 only: bfloat16 has the range of float32."""
        return paddle.amp.GradScaler(enable=self.dtype == "float16", init_loss_scaling=2.0**16)


FLOAT32 = Precision()


def choose_precision(use_amp: bool, dtype: str = "float16") -> Precision:
    """The precision to compute in; a line is logged where mixed precision is asked for and there is no GPU."""
    if use_amp and not paddle.get_device().startswith("gpu"):
        logger.warning("mixed precision is ignored: it needs a GPU, and this run is on a CPU")
        return FLOAT32
    return Precision(dtype) if use_amp else FLOAT32
