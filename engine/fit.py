"""All epochs of a training: train, evaluate, keep the best accuracy, write checkpoints and log.txt."""

import logging
from datetime import timedelta
from time import perf_counter

from common.errors import DiskError, NonFiniteLossError, Preempted

from .distributed import explain_lost_ranks, wrap_model
from .evaluate import evaluate
from .metrics import Scores
from .run import Run
from .saver import BEST, BEST_EMA, LATEST, Saver
from .state import TrainState
from .train import Recipe, train_epoch

logger = logging.getLogger(__name__)


def fit(
    state: TrainState,
    recipe: Recipe,
    train_loader,
    val_loader,
    run: Run,
    saver: Saver | None,
    constants: dict | None = None,
) -> None:
    """Run the remaining epochs. When `fit` returns or is preempted, the last checkpoint is on the disk.

    Args:
        state: the state from which the training continues; changed in place.
        recipe: how the model is trained.
        train_loader: see `train_epoch`.
        val_loader: see `evaluate`.
        run: this process among the ranks.
        saver: writes the checkpoints; None writes nothing.
        constants: numbers that are added to every line of log.txt.

    Raises:
        Preempted: a signal asked the run to stop.
        NonFiniteLossError: a loss or a weight is not finite.
        LostRankError: another rank is gone.
        DiskError: a checkpoint could not be written too often in a row, or log.txt cannot be written.
    """
    run.epoch_log.forget_from(state.next_epoch)
    run.step_log.forget_from(*state.place)
    _log_start(state, recipe)
    started, start = perf_counter(), state.place
    network = wrap_model(state.model, run.ranks)
    with run.live, explain_lost_ranks(run.members):
        try:
            for epoch in range(state.next_epoch, recipe.epochs):
                if _is_out_of_patience(state, recipe):  # also where a run resumes that had stopped here
                    since = f"no better top-1 since epoch {state.best_epoch} (--patience {recipe.patience})"
                    logger.info(f"the training ends before epoch {epoch}: {since}")
                    break
                train_epoch(state, network, train_loader, recipe, run, saver)
                scores, ema_scores = _evaluate(state, val_loader, recipe, run, saver)
                best_names = _update_best(state, scores, ema_scores)
                numbers = _numbers(state, scores, ema_scores)
                run.epoch_log.record({**numbers, "epoch": epoch, **(constants or {})})
                run.step_log.record_epoch(epoch, numbers)
                state.begin_epoch(epoch + 1)
                if saver:
                    # LATEST is written last: when a run resumes from it, all other files of the epoch are on the disk.
                    num_epochs = epoch + 1 if _is_out_of_patience(state, recipe) else recipe.epochs
                    saver.save(*best_names, *saver.numbered_names(epoch, num_epochs), LATEST)
            if saver:
                saver.finish()
            run.epoch_log.finish()
        except (Preempted, NonFiniteLossError):  # raised by all ranks together
            if saver:
                saver.finish()
            raise
        except DiskError:
            raise
        except Exception:  # on one rank; the others learn of it when the communication ends
            if saver and state.place not in (start, saver.last_saved):
                _save_after_error(state, saver)
            raise
    logger.info(f"Training time {timedelta(seconds=int(perf_counter() - started))}")


def _log_start(state: TrainState, recipe: Recipe) -> None:
    logger.info(f"Start training for {recipe.epochs} epochs")
    if state.next_epoch >= recipe.epochs:
        last = f"--epochs {recipe.epochs}"
        logger.info(f"nothing is left to train: epoch {state.next_epoch} comes after the last, {last}")


def _is_out_of_patience(state: TrainState, recipe: Recipe) -> bool:
    num_epochs = state.next_epoch - 1 - state.best_epoch  # without a better top-1
    return recipe.patience is not None and state.has_best and num_epochs >= recipe.patience


def _evaluate(
    state: TrainState, val_loader, recipe: Recipe, run: Run, saver: Saver | None
) -> tuple[Scores, Scores | None]:
    """Evaluate the model, and its moving average if the recipe asks for it.

    When a signal arrives, the state after the last step is saved, and the resumed run evaluates again. So the state
    must not change before both evaluations are done.
    """
    try:
        scores, ema_scores = evaluate(state.model, val_loader, run, recipe.precision), None
        if recipe.eval_ema:
            with state.ema.applied():
                ema_scores = evaluate(state.model, val_loader, run, recipe.precision)
    except Preempted:
        if saver:
            saver.save(LATEST)
        raise
    return scores, ema_scores


def _save_after_error(state: TrainState, saver: Saver) -> None:
    """Write a checkpoint of the finished steps: an image that cannot be read must not cost the work of an epoch."""
    try:
        path = saver.save_after_error(LATEST)
    except DiskError as error:
        logger.error(f"{error}; the steps since the last checkpoint are lost")
        return
    if path:
        impure = "; its batch norm statistics hold a part of the step that failed" if state.is_inside_step else ""
        logger.error(
            f"an error ends the run: {path} holds all steps before epoch {state.next_epoch}, step {state.next_step}"
            f"{impure}; continue with the same command and --resume auto"
        )


def _update_best(state: TrainState, scores: Scores, ema_scores: Scores | None) -> list[str]:
    """Keep the best accuracies in the state; returns the names of the checkpoints that are to be replaced."""
    names, is_first, before = [], not state.has_best, (state.best_top1_percent, state.best_top1_ema_percent)
    if is_first or _is_better(scores, state.best_top1_percent, state.best_loss):
        state.best_top1_percent, state.best_loss, state.has_best = scores.top1_percent, scores.loss, True
        names.insert(0, BEST)
    logger.info(f"Accuracy of the network on the {scores.num_samples} test images: {scores.top1_percent:.1f}%")
    logger.info(f"Max accuracy: {state.best_top1_percent:.2f}%")
    if ema_scores:
        if is_first or _is_better(ema_scores, state.best_top1_ema_percent, state.best_loss_ema):
            state.best_top1_ema_percent, state.best_loss_ema = ema_scores.top1_percent, ema_scores.loss
            names.insert(0, BEST_EMA)
        num = ema_scores.num_samples
        logger.info(f"Accuracy of the model EMA on {num} test images: {ema_scores.top1_percent:.1f}%")
        logger.info(f"Max accuracy of the model EMA: {state.best_top1_ema_percent:.2f}%")
    if is_first or (state.best_top1_percent, state.best_top1_ema_percent) != before:
        state.best_epoch = state.next_epoch
    return names


def _is_better(scores: Scores, top1_percent: float, loss: float | None) -> bool:
    """Whether scores are better than the best so far: by accuracy, and of equal ones, as of few images, by the loss.

    The loss of the best is None in checkpoints of before December 2026.
    """
    if scores.top1_percent == top1_percent:
        return loss is not None and scores.loss < loss
    return scores.top1_percent > top1_percent


def _numbers(state: TrainState, scores: Scores, ema_scores: Scores | None) -> dict[str, float]:
    """The numbers of one epoch under the names that PeleeNet-paddle uses in log.txt."""
    numbers = {
        "train_lr": state.lr_meter.mean,
        "train_loss": state.loss_meter.mean,
        "test_loss": scores.loss,
        "test_acc1": scores.top1_percent,
        "test_acc5": scores.top5_percent,
        "best_acc1": state.best_top1_percent,
    }
    if ema_scores:
        numbers |= {
            "test_loss_ema": ema_scores.loss,
            "test_acc1_ema": ema_scores.top1_percent,
            "test_acc5_ema": ema_scores.top5_percent,
            "best_acc1_ema": state.best_top1_ema_percent,
        }
    return numbers
