"""Programs that show the curves of a run: VisualDL, TensorBoard, Weights & Biases; each is imported when asked for."""

from pathlib import Path
from typing import Protocol

from common.errors import MissingDependencyError, UsageError
from configs.schema import OutputConfig


class Tracker(Protocol):
    """Takes the numbers of a run as they come."""

    def step(self, numbers: dict[str, float], step: int) -> None:
        """Take the numbers of one step of the training; `step` counts over all epochs."""

    def epoch(self, numbers: dict[str, float], epoch: int) -> None:
        """Take the numbers of one epoch."""


def create_trackers(config: OutputConfig, settings: dict) -> list[Tracker]:
    """Create the trackers that --log_to and --log_wandb ask for.

    Raises:
        MissingDependencyError: the package of a tracker is not installed.
        UsageError: VisualDL and TensorBoard write files, and there is no --output_dir.
    """
    names = list(config.trackers)
    for name in names:
        if name != "wandb" and not config.output_dir:
            raise UsageError(f"--log_to {name} writes files into --output_dir, which is not given")
    create = {
        "visualdl": lambda: _Scalars(_visualdl(Path(config.output_dir) / "visualdl")),
        "tensorboard": lambda: _Scalars(_tensorboard(Path(config.output_dir) / "tensorboard")),
        "wandb": lambda: _Wandb(config, settings),
    }
    return [create[name]() for name in names]


def _visualdl(folder: Path):
    try:
        from visualdl import LogWriter
    except ImportError:
        raise _missing("visualdl", "visualdl") from None
    return LogWriter(logdir=str(folder))


def _tensorboard(folder: Path):
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise _missing("tensorboard", "tensorboardX") from None
    return SummaryWriter(logdir=str(folder))


def _missing(name: str, package: str) -> MissingDependencyError:
    return MissingDependencyError(f"--log_to {name} needs the package {package}: python -m pip install {package}")


class _Scalars:
    """A writer with `add_scalar`, whose curves each have their own axis."""

    def __init__(self, writer):
        self._writer = writer

    def step(self, numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(f"step/{name}", value, step)

    def epoch(self, numbers: dict[str, float], epoch: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(f"epoch/{name}", value, epoch)
        getattr(self._writer, "flush", lambda: None)()


class _Wandb:
    """Gets the epochs alone: a run of Weights & Biases has one axis, which counts epochs as in PeleeNet-paddle."""

    def __init__(self, config: OutputConfig, settings: dict):
        try:
            import wandb
        except ImportError:
            raise _missing("wandb", "wandb") from None
        self._run = wandb.init(entity=config.wandb_entity, project=config.wandb_project, config=settings)

    def step(self, numbers: dict[str, float], step: int) -> None:
        pass

    def epoch(self, numbers: dict[str, float], epoch: int) -> None:
        self._run.log(numbers, step=epoch)
