"""NaN and infinity in losses, gradients and weights: detected on all ranks, skipped within a budget, never saved."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import paddle

from .distributed import gather_objects, gather_rows
from .state import TrainState, are_finite

logger = logging.getLogger(__name__)

SHOWN_IMAGES = 8


class Step(NamedTuple):
    """A training step whose loss is still on the device."""

    step: int
    lr: float
    loss: paddle.Tensor
    indices: list[np.ndarray]  # of each micro-batch


class NonFiniteGuard:
    """Skips steps whose loss or gradient is not finite, and restores the batch-norm statistics of before the step.

    Args:
        state: the state of the training, which counts the skipped steps of the whole run.
        budget: largest number of steps that may be skipped. With 0 nothing is checked; otherwise every step waits for
            the device and for one message between the ranks.
        path_of: path of an image by its index, for the log.
    """

    def __init__(self, state: TrainState, budget: int = 0, *, path_of: Callable[[int], str] = str):
        self._state, self._budget, self._path_of = state, budget, path_of
        self._statistics = [tensor for tensor in state.model.state_dict().values() if tensor.stop_gradient]
        self._before: list[paddle.Tensor] = []

    @property
    def _is_on(self) -> bool:
        return self._state.num_skipped < self._budget

    @paddle.no_grad()
    def before_step(self) -> None:
        """Copy the batch-norm statistics, which the forward pass changes."""
        if self._is_on:
            self._before = [tensor.clone() for tensor in self._statistics]

    @paddle.no_grad()
    def allows(self, step: Step) -> bool:
        """Whether the optimizer may take the step; equal on all ranks, and always true when the budget is spent."""
        if not self._is_on:
            return True
        gradients = [p.grad for p in self._state.model.parameters() if p.grad is not None]
        # With float16 an overflow of the scaled gradient is normal: the scaler skips the step and halves the scale.
        is_bad = not (self._state.scaler.is_enable() or are_finite(gradients))
        notes = gather_rows(np.array([step.loss.item(), is_bad]))
        bad_ranks = np.flatnonzero(~np.isfinite(notes[:, 0]))
        if not (len(bad_ranks) or notes[:, 1].any()):
            return True
        for tensor, before in zip(self._statistics, self._before, strict=True):
            tensor.set_value(before)
        self._state.num_skipped += 1
        what = "the gradient is not finite"
        if len(bad_ranks):
            what = f"the loss is {notes[bad_ranks[0], 0]} on rank {bad_ranks[0]}"
        names = name_images(step, bad_ranks.tolist(), self._path_of)
        logger.warning(
            f"step {step.step} of epoch {self._state.next_epoch} is skipped ({self._state.num_skipped} of "
            f"{self._budget} allowed): {what}; images of the step: {names}"
        )
        return False


def describe_nonfinite(epoch: int, unsynced: list[Step], losses: np.ndarray, path_of: Callable[[int], str]) -> str:
    """Describe the first step that is not finite and its images; every rank calls this and gets the same text.

    Args:
        epoch: the current epoch.
        unsynced: the steps since the last exchange of losses.
        losses: [world, len(unsynced)] float64, of all ranks.
        path_of: path of an image by its index.
    """
    if not unsynced:  # all steps were skipped
        return f"the weights are no longer finite in epoch {epoch}: they were not finite before the last steps"
    bad_steps = np.flatnonzero(~np.isfinite(losses).all(axis=0))
    which = int(bad_steps[0]) if len(bad_steps) else -1
    step = unsynced[which]
    bad_ranks = np.flatnonzero(~np.isfinite(losses[:, which])).tolist()
    if bad_ranks:
        what = f"the loss is {losses[bad_ranks[0], which]} on rank {bad_ranks[0]}"
    else:
        what = "the weights are no longer finite, though the loss is,"
    return (
        f"{what} in epoch {epoch}, step {step.step}, learning rate {step.lr:g}; the last checkpoint is older "
        f"and good.\nTry a smaller --lr, a longer --warmup_epochs, --clip_grad 1 or no --use_amp; or allow some "
        f"steps to be skipped with --skip_nonfinite;\nor check the images of that step:\n"
        f"{name_images(step, bad_ranks, path_of)}"
    )


def name_images(step: Step, ranks: list[int], path_of: Callable[[int], str]) -> str:
    """List the images of a step on `ranks` (empty: on all ranks); every rank calls this."""
    of_ranks = gather_objects([path_of(int(index)) for indices in step.indices for index in indices])
    names = [name for rank in ranks or range(len(of_ranks)) for name in of_ranks[rank]]
    more = len(names) - SHOWN_IMAGES
    return ", ".join(names[:SHOWN_IMAGES]) + (f" and {more} more" if more > 0 else "")
