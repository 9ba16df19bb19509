"""One epoch of training."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from itertools import islice

import numpy as np
import paddle
from paddle import nn

from common.errors import NonFiniteLossError, Preempted

from .amp import FLOAT32, Precision
from .distributed import Ranks, gather_rows, no_sync
from .log import Logger, ProgressLog
from .losses import Loss
from .nonfinite import NonFiniteGuard, Step, describe_nonfinite, weights_are_finite
from .preemption import Preemption
from .schedule import LearningRate
from .state import TrainState

ALONE = Ranks()


def train_epoch(
    state: TrainState,
    network: nn.Layer,
    batches: Iterable,
    *,
    loss_fn: Loss,
    learning_rate: LearningRate,
    steps_per_epoch: int,
    accum_iter: int = 1,
    seed: int = 0,
    ranks: Ranks = ALONE,
    precision: Precision = FLOAT32,
    logger: Logger,
    path_of: Callable[[int], str] = str,
    log_every: int = 20,
    look_every: int | None = None,
    save: Callable[[], None] | None = None,
    save_steps: int | None = None,
    skip_nonfinite: int = 0,
    preemption: Preemption | None = None,
) -> None:
    """Train from `state.next_step` to the end of the epoch; the means of the epoch are then in the state's meters.

    `network` is `state.model`, or that wrapped by `wrap_model`. `batches` are micro-batches from `state.next_step` on,
    `accum_iter` for each step: images, labels (int64 [b] or float32 [b, C]), indices. `path_of` names an image by its
    index. `save` writes a checkpoint (the function sees to it that rank 0 does), every `save_steps` steps and when a
    signal came. Every `look_every` steps the losses are fetched from the device and the ranks compare notes: looking
    costs nothing on a CPU (default 1) and waits for the device on a GPU (default `log_every`). Up to `skip_nonfinite`
    steps of the run are left out where loss or gradient are not finite.

    Raises NonFiniteLossError and Preempted, each on all ranks at the same step.
    """
    epoch = state.next_epoch
    look_every = look_every or (1 if paddle.get_device() == "cpu" else log_every)
    pace = ProgressLog(logger, f"Epoch: [{epoch}]", steps_per_epoch, log_every=log_every, first_step=state.next_step)
    guard = NonFiniteGuard(state, skip_nonfinite, logger=logger, path_of=path_of)
    unseen: list[Step] = []
    network.train()
    for step, micro_batches in enumerate(pace.timed(_groups(batches, accum_iter)), start=state.next_step):
        lr = learning_rate(epoch, step, steps_per_epoch)
        state.optimizer.set_lr(lr)
        guard.before_step()
        loss = paddle.zeros([])
        for micro, batch in enumerate(micro_batches):
            paddle.seed(step_seed(seed, epoch, step * accum_iter + micro, ranks.rank))
            with no_sync(network) if micro < accum_iter - 1 else nullcontext():
                with precision.autocast():
                    part = loss_fn(network(batch.images), batch.labels) / accum_iter
                state.scaler.scale(part).backward()
            loss += part.detach()
        done = Step(step, lr, loss, [batch.indices for batch in micro_batches])
        if guard.allows(done):
            state.scaler.step(state.optimizer)
            state.scaler.update()
            if state.ema:
                state.ema.update()
            unseen.append(done)
        state.optimizer.clear_grad()
        state.next_step = step + 1

        is_save_step = bool(save and save_steps and state.next_step % save_steps == 0)
        if pace.is_due or is_save_step or state.next_step % look_every == 0:
            is_stopped = look(state, unseen, path_of, preemption)
            if is_save_step or (is_stopped and save):
                save()
            if is_stopped:
                raise Preempted(_farewell(epoch, state.next_step, is_saved=save is not None))
        pace.step_done(f"lr: {lr:.6f}  loss: {state.loss_meter}")
    assert state.next_step == steps_per_epoch, f"{state.next_step} steps in an epoch of {steps_per_epoch}"
    pace.finish()
    logger.line(f"Averaged stats: lr: {state.lr_meter.mean:.6f}  loss: {state.loss_meter}")


def step_seed(seed: int, epoch: int, iteration: int, rank: int) -> int:
    """The seed of everything random in a forward pass, such as dropout: a function of place, never of history."""
    return int(np.random.SeedSequence((seed, epoch, iteration, rank)).generate_state(1)[0])


def _groups(batches: Iterable, size: int) -> Iterator[list]:
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        yield group


def look(state: TrainState, unseen: list[Step], path_of: Callable[[int], str], preemption: Preemption | None) -> bool:
    """Fetch the losses of the unseen steps into the meters; True if a rank was asked to stop. Before every save.

    One message between the ranks carries the losses, the state of the weights and the signals, so all ranks take the
    same decision at the same step. The meters hold means over the ranks.
    """
    losses = paddle.stack([step.loss for step in unseen]).numpy().astype(np.float64) if unseen else np.zeros(0)
    is_broken = not weights_are_finite(state.model)
    notes = gather_rows(np.array([*losses, is_broken, preemption is not None and preemption.requested]))
    losses, is_broken, is_stopped = notes[:, :-2], notes[:, -2], notes[:, -1]  # [world, n], [world], [world]
    if not np.isfinite(losses).all() or is_broken.any():
        raise NonFiniteLossError(describe_nonfinite(state.next_epoch, unseen, losses, path_of))
    for step, loss in zip(unseen, losses.mean(axis=0), strict=True):
        state.lr_meter.add(step.lr)
        state.loss_meter.add(float(loss))
    unseen.clear()
    return bool(is_stopped.any())


def _farewell(epoch: int, next_step: int, *, is_saved: bool) -> str:
    if not is_saved:
        return f"stopped by a signal before epoch {epoch}, step {next_step}; nothing is saved without --output_dir"
    return f"stopped by a signal before epoch {epoch}, step {next_step}; saved: go on with --resume auto"
