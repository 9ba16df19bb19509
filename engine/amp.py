"""Mixed precision on a GPU; on a CPU, or when it is off, the same calls do nothing."""

from contextlib import AbstractContextManager
from typing import NamedTuple

import paddle


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


def choose_precision(use_amp: bool, dtype: str = "float16") -> tuple[Precision, str]:
    """The precision to train in, and a sentence for the log if that is not what was asked for."""
    if use_amp and not paddle.get_device().startswith("gpu"):
        return FLOAT32, "mixed precision is ignored: it needs a GPU, and this run is on a CPU"
    return Precision(dtype) if use_amp else FLOAT32, ""
