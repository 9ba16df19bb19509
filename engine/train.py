"""One epoch of training: the loop over steps."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

import numpy as np
import paddle
from paddle import nn

from common.errors import NonFiniteLossError, Preempted

from .amp import FLOAT32, Precision
from .distributed import gather_rows, no_sync
from .losses import Loss
from .nonfinite import NonFiniteGuard, Step, describe_nonfinite
from .progress.meters import ProgressLog
from .run import Run
from .saver import LATEST, Saver
from .schedule import LearningRate
from .state import TrainState, weights_are_finite

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, beside its state and its data.

    Attributes:
        loss_fn: mean loss of a batch, from logits [B, C] and labels.
        learning_rate: learning rate of (epoch, step, steps_per_epoch).
        epochs: number of epochs of the whole training.
        accum_iter: batches whose gradients are accumulated before one optimizer step.
        precision: number format of forward pass and loss.
        seed: seed of dropout and of everything else that is random in the forward pass.
        skip_nonfinite: number of steps of the run that may be skipped because loss or gradient is not finite.
        eval_ema: evaluate the moving average of the weights too, after every epoch.
        patience: number of epochs without a better top-1 that ends the training; None never ends it early.
    """

    loss_fn: Loss
    learning_rate: LearningRate
    epochs: int
    accum_iter: int = 1
    precision: Precision = FLOAT32
    seed: int = 0
    skip_nonfinite: int = 0
    eval_ema: bool = False
    patience: int | None = None


def train_epoch(state: TrainState, network: nn.Layer, loader, recipe: Recipe, run: Run, saver: Saver | None) -> None:
    """Train from `state.next_step` to the end of the epoch `state.next_epoch`; its means are then in the state.

    Args:
        state: model, optimizer and numbers; changed in place.
        network: `state.model`, or that model wrapped by `wrap_model`.
        loader: `steps_per_epoch`, `batches(epoch, first_step)` (micro-batches with images, labels int64 [B] or float32
            [B, C], and indices), `path(index)` and `waiting_for()`, as datasets.loading.loader.TrainLoader.
        recipe: loss, learning rate, accumulation, precision.
        run: this process among the ranks.
        saver: writes checkpoint-latest.pd every `save_steps` steps and when a signal arrived; None writes nothing.

    Raises:
        NonFiniteLossError: a loss or a weight is not finite; on all ranks at the same step.
        Preempted: a signal asked the run to stop; on all ranks at the same step, after the checkpoint is written.
        DiskError: the checkpoint could not be written too often in a row.
    """
    epoch, first_step, num_steps = state.next_epoch, state.next_step, loader.steps_per_epoch
    progress = _start_progress(epoch, first_step, num_steps, run)
    guard = NonFiniteGuard(state, recipe.skip_nonfinite, path_of=loader.path)
    batches = run.watch(loader.batches(epoch, first_step), "training images", lambda: loader.waiting_for())
    unsynced: list[Step] = []
    network.train()
    for step, micro_batches in enumerate(progress.timed(_grouped(batches, recipe.accum_iter)), start=first_step):
        lr = recipe.learning_rate(epoch, step, num_steps)
        state.optimizer.set_lr(lr)
        guard.before_step()
        state.is_inside_step = True
        loss = paddle.zeros([])
        for micro, batch in enumerate(micro_batches):
            paddle.seed(step_seed(recipe.seed, epoch, step * recipe.accum_iter + micro, run.ranks.rank))
            with no_sync(network) if micro < recipe.accum_iter - 1 else nullcontext():
                with recipe.precision.autocast():
                    part = recipe.loss_fn(network(batch.images), batch.labels) / recipe.accum_iter
                state.scaler.scale(part).backward()
            loss += part.detach()
        done = Step(step, lr, loss, [batch.indices for batch in micro_batches])
        if guard.allows(done):
            state.scaler.step(state.optimizer)
            state.scaler.update()
            if state.ema:
                state.ema.update()
            unsynced.append(done)
        state.optimizer.clear_grad()
        state.next_step, state.is_inside_step = step + 1, False

        is_save_step = bool(saver and saver.save_steps and state.next_step % saver.save_steps == 0)
        if progress.is_due or is_save_step or state.next_step % run.steps_per_sync == 0:
            is_stopped = sync_losses(state, unsynced, loader.path, run)
            if saver and (is_save_step or is_stopped):
                saver.save(LATEST)
            if is_stopped:
                raise Preempted(_stopped_message(epoch, state.next_step, is_saved=saver is not None))
        is_logged, num_images = progress.is_due, sum(map(len, done.indices)) * run.ranks.world
        progress.step_done(f"lr: {lr:.6f}  loss: {state.loss_meter}", num_images)
        if is_logged:
            run.step_log.record_step(epoch, step, num_steps, _numbers(lr, state, progress))
    assert state.next_step == num_steps, f"{state.next_step} steps in an epoch of {num_steps}"
    progress.finish()
    logger.info(f"Averaged stats: lr: {state.lr_meter.mean:.6f}  loss: {state.loss_meter}")


def _start_progress(epoch: int, first_step: int, num_steps: int, run: Run) -> ProgressLog:
    run.live.begin_epoch(epoch)
    header = f"Epoch: [{epoch}]"
    return ProgressLog(header, num_steps, log_every=run.log_every, first_step=first_step, live=run.live)


def _numbers(lr: float, state: TrainState, progress: ProgressLog) -> dict[str, float]:
    """The numbers of one line of metrics.jsonl; the loss is the mean over the last steps."""
    return {
        "lr": lr,
        "loss": state.loss_meter.recent_mean,
        "images_per_second": round(progress.images_per_second, 2),
        "waiting_share": round(progress.waiting_share, 4),
    }


def step_seed(seed: int, epoch: int, iteration: int, rank: int) -> int:
    """Compute the seed of everything random in one forward pass, such as dropout, from its place in the training.

    Args:
        seed: seed of the run.
        epoch: number of the epoch.
        iteration: number of the micro-batch in the epoch.
        rank: number of the process.
    """
    return int(np.random.SeedSequence((seed, epoch, iteration, rank)).generate_state(1)[0])


def _grouped(batches: Iterable, size: int) -> Iterator[list]:
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        yield group


def sync_losses(state: TrainState, unsynced: list[Step], path_of: Callable[[int], str], run: Run) -> bool:
    """Fetch the losses of the last steps from the device and exchange them with the other ranks.

    One message between the ranks carries the losses, whether the weights are finite, and the signals, so all ranks
    take the same decision at the same step. The meters get the means over the ranks. `train_epoch` calls it before
    every save, so that weights that are not finite are never saved.

    Args:
        state: its meters are changed in place.
        unsynced: the steps since the last exchange; emptied.
        path_of: path of an image by its index, for the error.
        run: this process among the ranks.

    Returns:
        Whether a rank was asked to stop.

    Raises:
        NonFiniteLossError: a loss or a weight is not finite; names the step and its images.
    """
    losses = paddle.stack([step.loss for step in unsynced]).numpy().astype(np.float64) if unsynced else np.zeros(0)
    is_broken = not weights_are_finite(state.model)
    rows = gather_rows(np.array([*losses, is_broken, run.is_stop_requested]))
    losses, is_broken, is_stopped = rows[:, :-2], rows[:, -2], rows[:, -1]  # [world, steps], [world], [world]
    if not np.isfinite(losses).all() or is_broken.any():
        raise NonFiniteLossError(describe_nonfinite(state.next_epoch, unsynced, losses, path_of))
    for step, loss in zip(unsynced, losses.mean(axis=0), strict=True):
        state.lr_meter.add(step.lr)
        state.loss_meter.add(float(loss))
    unsynced.clear()
    return bool(is_stopped.any())


def _stopped_message(epoch: int, next_step: int, *, is_saved: bool) -> str:
    what_next = "saved: continue with --resume auto" if is_saved else "nothing is saved without --output_dir"
    return f"stopped by a signal before epoch {epoch}, step {next_step} (counted from 0); {what_next}"
