"""All epochs of a run: train, evaluate, remember the best, write checkpoints and log.txt."""

from collections.abc import Callable
from datetime import timedelta
from time import perf_counter

from common.errors import NonFiniteLossError, Preempted

from .log import Logger
from .metrics import Scores
from .saver import BEST, BEST_EMA, LATEST, Saver
from .state import TrainState


def fit(
    state: TrainState,
    *,
    epochs: int,
    train_one: Callable[[int], None],
    scores: Callable[[], Scores],
    ema_eval: bool,
    saver: Saver | None,
    save_freq: int,
    logger: Logger,
    record: Callable[[dict], None],
    constants: dict,
) -> None:
    """Run the epochs that `state` still has before it.

    `train_one` trains an epoch, `scores` evaluates the model as it is. `record` gets the numbers of every epoch,
    `constants` added. When it returns, or raises Preempted, the last checkpoint is on the disk.
    """
    logger.forget_from(state.next_epoch)
    logger.line(f"Start training for {epochs} epochs")
    if state.next_epoch >= epochs:
        logger.line(f"nothing is left to train: epoch {state.next_epoch} comes after the last, --epochs {epochs}")
    started = perf_counter()
    try:
        for epoch in range(state.next_epoch, epochs):
            train_one(epoch)
            names = [LATEST]  # the last to be written: a resume begins with it, and all the epoch leaves is there
            if (epoch + 1) % save_freq == 0 or epoch + 1 == epochs:
                names.insert(0, f"checkpoint-{epoch}.pd")
            numbers = _judge(state, scores, ema_eval, names, logger, saver)
            record({**numbers, "epoch": epoch, **constants})
            state.begin_epoch(epoch + 1)
            if saver:
                saver.save(*names)
        if saver:
            saver.finish()
    except (Preempted, NonFiniteLossError):  # raised by all ranks together
        if saver:
            saver.finish()
        raise
    logger.line(f"Training time {timedelta(seconds=int(perf_counter() - started))}")


def _judge(
    state: TrainState, scores: Callable, ema_eval: bool, names: list[str], logger: Logger, saver: Saver | None
) -> dict:
    """The numbers of the epoch; names of the best are put before the others.

    A signal in the meantime saves the state as it is after the last step: the next run evaluates again. So nothing
    is changed before both evaluations are done.
    """
    try:
        found = scores()
        found_ema = None
        if ema_eval:
            with state.ema.applied():
                found_ema = scores()
    except Preempted:
        if saver:
            saver.save(LATEST)
        raise
    numbers = {"train_lr": state.lr_meter.mean, "train_loss": state.loss_meter.mean}
    if found.top1_percent > state.best_top1_percent:
        state.best_top1_percent = found.top1_percent
        names.insert(0, BEST)
    numbers |= {"test_loss": found.loss, "test_acc1": found.top1_percent, "test_acc5": found.top5_percent}
    numbers["best_acc1"] = state.best_top1_percent
    logger.line(f"Accuracy of the network on the {found.num_samples} test images: {found.top1_percent:.1f}%")
    logger.line(f"Max accuracy: {state.best_top1_percent:.2f}%")
    if found_ema:
        if found_ema.top1_percent > state.best_top1_ema_percent:
            state.best_top1_ema_percent = found_ema.top1_percent
            names.insert(0, BEST_EMA)
        numbers |= {"test_loss_ema": found_ema.loss, "test_acc1_ema": found_ema.top1_percent}
        numbers |= {"test_acc5_ema": found_ema.top5_percent, "best_acc1_ema": state.best_top1_ema_percent}
        logger.line(f"Accuracy of the model EMA on {found_ema.num_samples} test images: {found_ema.top1_percent:.1f}%")
        logger.line(f"Max accuracy of the model EMA: {state.best_top1_ema_percent:.2f}%")
    return numbers


def log_to_wandb(entity: str | None, project: str | None, config: dict) -> Callable[[dict], None]:
    """A function that sends the numbers of an epoch to Weights & Biases.

    Raises:
        MissingDependencyError: wandb is not installed.
    """
    try:
        import wandb
    except ImportError:
        from common.errors import MissingDependencyError

        raise MissingDependencyError("--log_wandb needs the package wandb: pip install wandb") from None
    run = wandb.init(entity=entity, project=project, config=config)
    return lambda numbers: run.log(numbers, step=numbers["epoch"])
