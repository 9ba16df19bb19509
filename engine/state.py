"""Everything that survives a restart, as one object; what is not a field here is computed anew."""

import logging
import os
import platform
from pathlib import Path
from typing import NamedTuple

import numpy as np
import paddle
from paddle import nn
from paddle.optimizer import Optimizer

from common.errors import CheckpointError

from .checkpoint import Checkpoint, set_weights, write_checkpoint
from .distributed import world_size
from .ema import Ema
from .meters import Meter
from .optim import optimizer_arrays, set_optimizer_arrays

logger = logging.getLogger(__name__)


class Snapshot(NamedTuple):
    """What `write_checkpoint` takes."""

    tensors: dict[str, np.ndarray]
    meta: dict


class TrainState:
    """The objects in training and the numbers beside them.

    `info` is what the run keeps with the weights (flags, class names, checksums): plain JSON values, which
    resume_check.py compares with those of the file. There is no random state: every draw is a function of (seed, epoch,
    step, rank), so one file serves all ranks.
    """

    def __init__(
        self,
        model: nn.Layer,
        optimizer: Optimizer,
        *,
        ema: Ema | None = None,
        scaler: paddle.amp.GradScaler | None = None,
        info: dict | None = None,
    ):
        self.model = model
        self.optimizer = optimizer
        self.ema = ema
        self.scaler = scaler or paddle.amp.GradScaler(enable=False)
        self.info = info or {}
        self.next_epoch = 0
        self.next_step = 0  # of next_epoch: a step is one update of the weights
        self.best_top1_percent = 0.0
        self.best_top1_ema_percent = 0.0
        self.has_best = False  # whether checkpoint-best.pd was written by this run; its accuracy may be 0 %
        self.is_inside_step = False  # between the first forward pass of a step and the update of the weights
        self.num_skipped = 0  # steps left out because a number was not finite
        self.lr_meter = Meter()  # of the steps done in next_epoch
        self.loss_meter = Meter()

    @property
    def place(self) -> tuple[int, int]:
        """(next_epoch, next_step): the step that will run next."""
        return self.next_epoch, self.next_step

    def begin_epoch(self, epoch: int) -> None:
        """Stand before the first step of `epoch`."""
        self.next_epoch, self.next_step = epoch, 0
        self.lr_meter, self.loss_meter = Meter(), Meter()

    def snapshot(self) -> Snapshot:
        """A copy of everything as it is now, for `write_checkpoint`: training may go on while it is written."""
        sections = {
            "model": {name: tensor.numpy() for name, tensor in self.model.state_dict().items()},
            "model_ema": self.ema.arrays() if self.ema else {},
            "optimizer": optimizer_arrays(self.optimizer, self.model),
        }
        tensors = {f"{section}/{name}": a for section, arrays in sections.items() for name, a in arrays.items()}
        meta = {
            "next_epoch": self.next_epoch,
            "next_step": self.next_step,
            "epoch": self.next_epoch - (self.next_step == 0),  # the last one begun, as the predecessor counts
            "best_top1_percent": self.best_top1_percent,
            "best_top1_ema_percent": self.best_top1_ema_percent,
            "has_best": self.has_best,
            "num_skipped": self.num_skipped,
            "lr_meter": self.lr_meter.to_dict(),
            "loss_meter": self.loss_meter.to_dict(),
            "scaler": {key: np.asarray(value).tolist() for key, value in self.scaler.state_dict().items()},
            "environment": environment(),
            "info": self.info,
        }
        return Snapshot(tensors, meta)

    def save(self, path: str | Path) -> None:
        """Write one file and wait for it; DiskError if it cannot be written."""
        write_checkpoint(path, *self.snapshot())

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint that `snapshot` made.

        What may make the continuation differ from the uninterrupted run in the last bits is logged.

        Raises:
            CheckpointError: it does not fit; nothing but the model is changed then.
        """
        path, meta = checkpoint.path, checkpoint.meta
        try:
            lr_meter, loss_meter = Meter.from_dict(meta["lr_meter"]), Meter.from_dict(meta["loss_meter"])
            numbers = {name: meta[name] for name in PLAIN_NUMBERS}
            numbers["num_skipped"] = meta.get("num_skipped", 0)
            numbers["has_best"] = meta.get("has_best", meta["best_top1_percent"] > 0)
        except KeyError as error:
            raise CheckpointError(f"{path} lacks the entry {error}: not a state of training of this version") from error
        set_weights(self.model, checkpoint.section("model"), source=path)
        set_optimizer_arrays(self.optimizer, self.model, checkpoint.section("optimizer"), source=path)
        if self.ema and (average := checkpoint.section("model_ema")):
            self.ema.load(average, source=path)
        elif self.ema:
            logger.warning(f"{path} has no moving average: the average starts from the weights of the model")
            self.ema.restart()
        if meta["scaler"]:
            self.scaler.load_state_dict({k: np.array(v) if k == "scale" else v for k, v in meta["scaler"].items()})
        self.lr_meter, self.loss_meter = lr_meter, loss_meter
        for name, value in numbers.items():
            setattr(self, name, value)
        for name, now in environment().items():
            if (then := meta["environment"].get(name)) != now:
                logger.warning(f"{path} was written with {name} {then}, this run has {now}: the last bits may differ")


PLAIN_NUMBERS = ("next_epoch", "next_step", "best_top1_percent", "best_top1_ema_percent")


def environment() -> dict[str, str | int]:
    """What can change the last bits of a result on the same command line."""
    return {
        "paddle": paddle.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": paddle.get_device().split(":")[0],
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "ranks": world_size(),
    }


@paddle.no_grad()
def weights_are_finite(model: nn.Layer) -> bool:
    """Check all parameters and statistics. Paddle's relu makes 0 of NaN, so NaN weights can have a finite loss."""
    return are_finite(model.state_dict().values())


def are_finite(tensors) -> bool:
    """Whether all values of all tensors are finite; waits for the device once."""
    return bool(paddle.stack([tensor.sum() for tensor in tensors]).isfinite().all().item())
