"""TrainState: everything that survives a restart; whatever is not a field of it is computed anew."""

import logging
import platform
from typing import NamedTuple

import numpy as np
import paddle
from paddle import nn
from paddle.optimizer import Optimizer

from common.errors import CheckpointError

from .checkpoint import Checkpoint
from .cpu_threads import cpu_threads
from .distributed import world_size
from .ema import Ema
from .onednn.convolution import PADDLE, convolution_library
from .optim import optimizer_arrays, set_optimizer_arrays
from .progress.meters import Meter
from .weights import set_weights

logger = logging.getLogger(__name__)


class Snapshot(NamedTuple):
    """Arguments of `write_checkpoint`: arrays by name, and JSON values."""

    tensors: dict[str, np.ndarray]
    meta: dict


class TrainState:
    """Model, optimizer and the numbers of a training.

    There is no random state: every draw is a function of (seed, epoch, step, rank), so all ranks resume from one file.

    Args:
        model: the model in training.
        optimizer: of the parameters of `model`.
        ema: moving average of the weights; None keeps none.
        scaler: scaler of the loss for float16; None does not scale.
        info: facts of the run that are kept with the weights (flags, class names, checksums) as JSON values;
            `check_resumable` compares them with those of a checkpoint.
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
        self.best_loss: float | None = None  # of the epoch with the best top-1
        self.best_loss_ema: float | None = None
        self.best_epoch = -1  # the last one in which top-1, of the model or of its average, was better than before
        self.has_best = False  # whether checkpoint-best.pd was written by this run; its accuracy may be 0 %
        self.is_inside_step = False  # between the first forward pass of a step and the update of the weights
        self.num_skipped = 0  # steps that were skipped because a number was not finite
        self.lr_meter = Meter()  # over the steps done in next_epoch
        self.loss_meter = Meter()

    @property
    def place(self) -> tuple[int, int]:
        """(next_epoch, next_step): the step that will run next."""
        return self.next_epoch, self.next_step

    def begin_epoch(self, epoch: int) -> None:
        """Go to the first step of `epoch`, and empty the meters."""
        self.next_epoch, self.next_step = epoch, 0
        self.lr_meter, self.loss_meter = Meter(), Meter()

    def snapshot(self) -> Snapshot:
        """Copy the whole state to the host, so that training can continue while the copy is written."""
        sections = {
            "model": {name: tensor.numpy() for name, tensor in self.model.state_dict().items()},
            "model_ema": self.ema.arrays() if self.ema else {},
            "optimizer": optimizer_arrays(self.optimizer, self.model),
        }
        tensors = {f"{section}/{name}": a for section, arrays in sections.items() for name, a in arrays.items()}
        meta = {
            "next_epoch": self.next_epoch,
            "next_step": self.next_step,
            "epoch": self.next_epoch - (self.next_step == 0),  # the last epoch that was begun, as in PeleeNet-paddle
            "best_top1_percent": self.best_top1_percent,
            "best_top1_ema_percent": self.best_top1_ema_percent,
            "best_loss": self.best_loss,
            "best_loss_ema": self.best_loss_ema,
            "best_epoch": self.best_epoch,
            "has_best": self.has_best,
            "num_skipped": self.num_skipped,
            "lr_meter": self.lr_meter.to_dict(),
            "loss_meter": self.loss_meter.to_dict(),
            "scaler": {key: np.asarray(value).tolist() for key, value in self.scaler.state_dict().items()},
            "environment": environment(self.model),
            "info": self.info,
        }
        return Snapshot(tensors, meta)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the state of a checkpoint that was written from a `snapshot`.

        A warning names each difference of the environment (versions, device, ranks) that may change the last bits.

        Raises:
            CheckpointError: the checkpoint does not fit; at most the model is changed then.
        """
        path, meta = checkpoint.path, checkpoint.meta
        try:
            lr_meter, loss_meter = Meter.from_dict(meta["lr_meter"]), Meter.from_dict(meta["loss_meter"])
            numbers = {name: meta[name] for name in PLAIN_NUMBERS}
            numbers["best_epoch"] = meta.get("best_epoch", meta["next_epoch"] - 1)  # files of before December 2026
            numbers |= {name: meta.get(name) for name in ("best_loss", "best_loss_ema")}
            numbers["num_skipped"] = meta.get("num_skipped", 0)
            numbers["has_best"] = meta.get("has_best", meta["best_top1_percent"] > 0)
            scaler, written_in = meta["scaler"], meta["environment"]
        except KeyError as error:
            raise CheckpointError(f"{path} lacks the entry {error}: not a state of training of this version") from error
        set_weights(self.model, checkpoint.section("model"), source=path)
        set_optimizer_arrays(self.optimizer, self.model, checkpoint.section("optimizer"), source=path)
        if self.ema and (average := checkpoint.section("model_ema")):
            self.ema.load(average, source=path)
        elif self.ema:
            logger.warning(f"{path} has no moving average: the average starts from the weights of the model")
            self.ema.restart()
        if scaler:
            self.scaler.load_state_dict({k: np.array(v) if k == "scale" else v for k, v in scaler.items()})
        self.lr_meter, self.loss_meter = lr_meter, loss_meter
        for name, value in numbers.items():
            setattr(self, name, value)
        for name, now in environment(self.model).items():
            if (then := written_in.get(name, OLDER.get(name))) != now:
                remedy = f"; --cpu_threads {then} gives the same bits" if name == "threads" and then else ""
                if (name, then) == ("convolutions", PADDLE):
                    remedy = "; --no_onednn gives the same bits"
                logger.warning(
                    f"{path} was written with {name} {then}, this run has {now}: the last bits may differ{remedy}"
                )


OLDER = {"convolutions": PADDLE}  # environment of files of before December 2026
PLAIN_NUMBERS = ("next_epoch", "next_step", "best_top1_percent", "best_top1_ema_percent")


def environment(model: nn.Layer) -> dict[str, str | int]:
    """Versions, device, threads and ranks, which can change the last bits of a result of the same command."""
    device = paddle.get_device().split(":")[0]
    return {
        "paddle": paddle.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": device,
        **(_cpu_environment(model) if device == "cpu" else {}),
        "ranks": world_size(),
    }


def _cpu_environment(model: nn.Layer) -> dict[str, str]:
    return {"threads": str(cpu_threads()), "convolutions": convolution_library(model)}


@paddle.no_grad()
def weights_are_finite(model: nn.Layer) -> bool:
    """Whether all parameters and statistics are finite. Paddle's relu turns NaN to 0, so the loss can stay finite."""
    return are_finite(model.state_dict().values())


def are_finite(tensors) -> bool:
    """Whether all values of all tensors are finite; waits for the device once."""
    return bool(paddle.stack([tensor.sum() for tensor in tensors]).isfinite().all().item())
