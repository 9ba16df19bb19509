"""A predictor of trained weights that are not exported, for `deploy.load`."""

import warnings
from typing import TYPE_CHECKING

from configs.schema import TrainedModelConfig, TrainedPreprocessConfig, WeightsConfig

from .trained import read_trained

if TYPE_CHECKING:
    from deploy.predictor import Predictor


def open_trained(
    path: str, *, label_list: str = "", use_ema: bool = False, device: str = "auto", num_threads: int | None = None
) -> "Predictor":
    """Open a file of weights as predict.py does; what it does not say of itself is a warning.

    Args:
        path: checkpoint of main.py, or weights of another project that are called by a network of `models`.
        label_list: file of class names; "" takes those of the checkpoint.
        use_ema: take the averaged weights.
        device: "cpu", "gpu" or "auto".
        num_threads: of a CPU; None: one per usable processor. Where Paddle was imported before with another number,
            that one stays, and a warning says so.

    Raises:
        CheckpointError: no such file, damaged, or of another model.
        DataError: the label list does not fit.
        MissingDependencyError: a GPU is asked for where there is none.
        ModelError: no such model.
    """
    from engine.cpu_threads import import_paddle

    if (now := import_paddle(num_threads)) != (num_threads or now):
        warnings.warn(
            f"num_threads={num_threads}: Paddle was imported with {now} threads before, which stay", stacklevel=3
        )
    from deploy.engines import EagerEngine
    from deploy.predictor import Predictor
    from engine.distributed import choose_device

    choose_device(device)
    weights = WeightsConfig(resume=path, use_ema=use_ema)
    trained = read_trained(TrainedModelConfig(), weights, TrainedPreprocessConfig(), label_list)
    for note in trained.notes:
        warnings.warn(note, stacklevel=4)
    model = trained.create_model()
    return Predictor(EagerEngine(model), trained.card(model))
