"""All epochs of a run: train, evaluate, remember the best, write checkpoints and log.txt."""

from collections.abc import Callable
from datetime import timedelta
from time import perf_counter

from .log import Logger
from .metrics import Scores
from .state import TrainState

LATEST, BEST, BEST_EMA = "checkpoint-latest.pd", "checkpoint-best.pd", "checkpoint-best-ema.pd"


def fit(
    state: TrainState,
    *,
    epochs: int,
    train_one: Callable[[int], None],
    scores: Callable[[], Scores],
    ema_eval: bool,
    save: Callable[[str], None] | None,
    save_freq: int,
    logger: Logger,
    record: Callable[[dict], None],
    constants: dict,
) -> None:
    """Run the epochs that `state` still has before it.

    `train_one` trains an epoch, `scores` evaluates the model as it is, `save` writes the state under a name. `record`
    gets the numbers of every epoch, `constants` added.
    """
    logger.forget_from(state.next_epoch)
    logger.line(f"Start training for {epochs} epochs")
    started = perf_counter()
    for epoch in range(state.next_epoch, epochs):
        train_one(epoch)
        numbers = {"train_lr": state.lr_meter.mean, "train_loss": state.loss_meter.mean}
        found = scores()
        is_best = found.top1_percent > state.best_top1_percent
        state.best_top1_percent = max(state.best_top1_percent, found.top1_percent)
        numbers |= {"test_loss": found.loss, "test_acc1": found.top1_percent, "test_acc5": found.top5_percent}
        numbers["best_acc1"] = state.best_top1_percent
        logger.line(f"Accuracy of the network on the {found.num_samples} test images: {found.top1_percent:.1f}%")
        logger.line(f"Max accuracy: {state.best_top1_percent:.2f}%")

        is_best_ema = False
        if ema_eval:
            with state.ema.applied():
                found = scores()
            is_best_ema = found.top1_percent > state.best_top1_ema_percent
            state.best_top1_ema_percent = max(state.best_top1_ema_percent, found.top1_percent)
            numbers |= {"test_loss_ema": found.loss, "test_acc1_ema": found.top1_percent}
            numbers |= {"test_acc5_ema": found.top5_percent, "best_acc1_ema": state.best_top1_ema_percent}
            logger.line(f"Accuracy of the model EMA on {found.num_samples} test images: {found.top1_percent:.1f}%")
            logger.line(f"Max accuracy of the model EMA: {state.best_top1_ema_percent:.2f}%")

        record({**numbers, "epoch": epoch, **constants})
        state.begin_epoch(epoch + 1)
        if save:
            save_epoch(save, epoch, epochs, save_freq, is_best=is_best, is_best_ema=is_best_ema)
    logger.line(f"Training time {timedelta(seconds=int(perf_counter() - started))}")


def save_epoch(
    save: Callable[[str], None], epoch: int, epochs: int, save_freq: int, *, is_best: bool, is_best_ema: bool
) -> None:
    """The latest last: a resume begins with it, so all that the epoch should leave is there when it is."""
    if is_best:
        save(BEST)
    if is_best_ema:
        save(BEST_EMA)
    if (epoch + 1) % save_freq == 0 or epoch + 1 == epochs:
        save(f"checkpoint-{epoch}.pd")
    save(LATEST)


def log_to_wandb(entity: str | None, project: str | None, config: dict) -> Callable[[dict], None]:
    """A function that sends the numbers of an epoch to Weights & Biases.

    Raises:
        MissingDependencyError: wandb is not installed.
    """
    try:
        import wandb
    except ImportError:
        from .errors import MissingDependencyError

        raise MissingDependencyError("--log_wandb needs the package wandb: pip install wandb") from None
    run = wandb.init(entity=entity, project=project, config=config)
    return lambda numbers: run.log(numbers, step=numbers["epoch"])
