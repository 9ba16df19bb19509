"""Where a run begins: from nothing, from weights, or in the middle of an earlier run."""

from pathlib import Path

from paddle import nn

from common.errors import CheckpointError

from .checkpoint import Weights, drop_head, find_latest, is_checkpoint, load_weights, set_weights
from .log import Logger
from .state import TrainState


def find_checkpoint(path: str, output_dir: Path | None, *, is_needed: bool, logger: Logger) -> Path | None:
    """The checkpoint `path`, or with "auto" the newest good one of `output_dir`; None where there is nothing to resume.

    Raises:
        CheckpointError: there is none that is good, or none at all and it `is_needed`, to be evaluated.
    """
    if not path:
        return None
    found = find_latest(output_dir, logger.line) if path == "auto" else Path(path)
    if found is None and is_needed:
        raise CheckpointError(f"no checkpoint in {output_dir}, and random weights are never evaluated")
    begins = f"no checkpoint in {output_dir}: starting from the beginning"
    logger.line(f"Resume checkpoint {found}" if found else begins)
    return found


def resume_training(state: TrainState, found: Path, *, model_name: str, logger: Logger) -> bool:
    """Go on from the checkpoint `found`.

    Returns whether the best accuracy so far is known: weights of others say at most after which epoch they were saved,
    and the optimizer starts anew.

    Raises:
        CheckpointError: no such file, damaged, or of another model.
    """
    if is_checkpoint(found):
        state.restore(found, logger.line)
        return True
    weights = load_weights(found, model_name=model_name)
    set_weights(state.model, weights.arrays, source=found, trained_with=weights.trained_with)
    last_epoch = weights.meta.get("epoch")
    state.begin_epoch(last_epoch + 1 if isinstance(last_epoch, int) else state.next_epoch)
    if state.ema:
        _restart_ema(state, found, logger)
    logger.line(f"{found} holds no state of training of this project: the optimizer starts anew")
    return False


def load_model(model: nn.Layer, found: Path, *, model_name: str) -> Weights:
    """The weights that `resume` would go on with, for an evaluation: no matter how they were and would be trained.

    Raises:
        CheckpointError: no such file, damaged, or of another model.
    """
    weights = load_weights(found, model_name=model_name)
    set_weights(model, weights.arrays, source=found, trained_with=weights.trained_with)
    return weights


def load_ema(state: TrainState, path: str | Path) -> None:
    """Go on with the averaged weights of `path`; CheckpointError if it cannot be read or has none."""
    state.ema.load(load_weights(path, ema=True).arrays, source=path)


def _restart_ema(state: TrainState, path: Path, logger: Logger) -> None:
    """The averaged weights of `path`, which is loaded, or where it has none, those of its model: never random ones."""
    try:
        load_ema(state, path)
    except CheckpointError:
        logger.line(f"{path} has no moving average: it starts from the weights of the model")
        state.ema.restart()


def load_finetune(state: TrainState, path: str, *, remove_head: bool, model_name: str, logger: Logger) -> None:
    """Begin with the weights of `path`; a classifier of another size, or with `remove_head` any, stays fresh.

    Raises:
        CheckpointError: no such file, damaged, or of another model.
    """
    weights = load_weights(path, model_name=model_name)
    logger.line(f"Load pre-trained checkpoint from: {path}")
    arrays, dropped = drop_head(weights.arrays, state.model, remove=remove_head)
    for name in dropped:
        logger.line(f"Removing key {name} from pretained checkpoint")
    set_weights(state.model, arrays, source=path, trained_with=weights.trained_with)
    if state.ema:
        state.ema.restart()
