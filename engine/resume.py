"""Where a run begins: from initial weights, from a file of weights, or from a checkpoint of an earlier run."""

import logging
from collections.abc import Mapping
from pathlib import Path

from common.errors import CheckpointError
from configs.schema import ResumeConfig

from .checkpoint import find_latest, is_checkpoint, read_checkpoint
from .distributed import check_same_place
from .resume_check import check_resumable
from .state import TrainState
from .weights import drop_head, load_weights, set_weights

logger = logging.getLogger(__name__)


def start_from(state: TrainState, config: ResumeConfig, output_dir: Path | None, *, rules: Mapping[str, str]) -> bool:
    """Load what --resume names, or else --finetune, into a training; then --resume_ema.

    With --resume auto, --finetune and --resume_ema are where the run began: once there is a checkpoint, they are not
    read.

    Args:
        state: the state before its first step; changed in place.
        config: the flags that name the files.
        output_dir: where --resume auto looks.
        rules: what a changed flag means, see `check_resumable`.

    Returns:
        Whether the best accuracy so far is known: foreign weights tell at most their epoch.

    Raises:
        CheckpointError: no such file, damaged, of another model, or the ranks found different checkpoints.
    """
    is_best_known = True
    path = find_checkpoint(config.resume, output_dir)
    if path:
        is_best_known = resume_training(state, path, rules=rules)
        if output_dir and path.resolve().parent != output_dir.resolve():
            state.has_best = False  # the best weights of the other folder are not in this one
    elif config.finetune:
        remove = config.remove_head_from_pretained
        load_finetune(state, config.finetune, remove_head=remove)
    check_same_place((state.next_epoch, state.next_step))
    if config.resume_ema and not (path and config.resume == "auto"):
        load_ema(state, config.resume_ema)
    return is_best_known


def find_checkpoint(resume: str, output_dir: Path | None, *, is_required: bool = False) -> Path | None:
    """Find the file that --resume names, or with "auto" the newest undamaged checkpoint of `output_dir`, or None.

    Raises:
        CheckpointError: no good checkpoint is left, or there is none at all and one `is_required`.
    """
    if not resume:
        return None
    path = find_latest(output_dir) if resume == "auto" else Path(resume)
    if path is None and is_required:
        raise CheckpointError(f"no checkpoint in {output_dir}, and random weights are never evaluated")
    nothing = f"no checkpoint in {output_dir}: starting from the beginning"
    logger.info(f"Resume checkpoint {path}" if path else nothing)
    return path


def resume_training(state: TrainState, path: Path, *, rules: Mapping[str, str]) -> bool:
    """Continue from the file `path`: from the whole state of a checkpoint, or from foreign weights alone.

    Returns:
        Whether the best accuracy so far is known.

    Raises:
        CheckpointError: no such file, damaged, of another model, or of a run with other settings.
    """
    if is_checkpoint(path):
        checkpoint = read_checkpoint(path)
        is_inside_epoch = checkpoint.meta.get("next_step", 0) > 0
        check_resumable(
            checkpoint.meta.get("info", {}), state.info, rules, is_inside_epoch=is_inside_epoch, source=path
        )
        state.restore(checkpoint)
        return True
    weights = load_weights(path)
    weights.load_into(state.model)
    last_epoch = weights.meta.get("epoch")
    state.begin_epoch(last_epoch + 1 if isinstance(last_epoch, int) else state.next_epoch)
    if state.ema:
        _restart_ema(state, path)
    logger.warning(f"{path} holds no state of training of this project: the optimizer starts anew")
    return False


def load_ema(state: TrainState, path: str | Path) -> None:
    """Load the averaged weights of `path` into the moving average.

    Raises:
        CheckpointError: the file cannot be read, or has no averaged weights.
    """
    state.ema.load(load_weights(path, ema=True).for_model(state.model).arrays, source=path)


def _restart_ema(state: TrainState, path: Path) -> None:
    """Load the averaged weights of a file, or restart the average from the model: never keep a random one."""
    try:
        load_ema(state, path)
    except CheckpointError as error:
        logger.warning(f"{error}; the moving average starts from the weights of the model")
        state.ema.restart()


def load_finetune(state: TrainState, path: str, *, remove_head: bool) -> None:
    """Load the weights that --finetune names; a classifier of another size, or with `remove_head` any, stays fresh.

    Raises:
        CheckpointError: no such file, damaged, or of another model.
    """
    logger.info(f"Load pre-trained checkpoint from: {path}")
    weights = load_weights(path).for_model(state.model)
    arrays, dropped = drop_head(weights.arrays, state.model, remove=remove_head)
    for name in dropped:
        logger.info(f"Removing key {name} from pretained checkpoint")
    set_weights(state.model, arrays, source=path, trained_with=weights.trained_with)
    if state.ema:
        state.ema.restart()
