"""What can go wrong in the engine, each with the exit code of the scripts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class EngineError(Exception):
    """Base of the errors below; the message says what happened, where, and what to do next."""

    exit_code = 1


class CheckpointError(EngineError):
    """A file of weights cannot be used: missing, damaged, foreign, unsafe, or made for another model."""

    exit_code = 4


class NonFiniteLossError(EngineError):
    """The loss or the weights are no longer finite numbers."""

    exit_code = 5


class LostRankError(EngineError):
    """The conversation between the ranks broke off."""

    exit_code = 1


class MissingDependencyError(EngineError):
    """A package or a device that was asked for is not on this machine."""

    exit_code = 7


class DiskError(EngineError):
    """A file could not be written; what was there before is untouched."""

    exit_code = 74


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """What the system refuses inside is a DiskError that names the folder."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"cannot write into --output_dir {folder}: {error.strerror or error}") from error


class Preempted(EngineError):
    """A signal asked the run to stop; a checkpoint is written and the same command continues from it."""

    exit_code = 75
