"""Every exception of the project, each with the exit code that its program returns."""

from .printable import printable


class ProjectError(Exception):
    """Base of all errors below; the message names the value, the place and the next step.

    `exit_code` is what a program returns that ends with the error. An exception without one is a fault of the project
    and keeps its traceback.
    """

    exit_code = 1


# --- 2: usage -------------------------------------------------------------------------------------------------------


class UsageError(ProjectError):
    """A flag, a recipe key or an argument that cannot be used as given."""

    exit_code = 2


class ModelError(UsageError, ValueError):
    """A model name, an argument or an image size that no model has; the message names those that exist."""


class EngineOptionError(UsageError):
    """An option, or a combination of options, that the chosen inference engine does not have."""


class PredictionsFileError(UsageError):
    """A file of predictions that cannot be read, or a file name whose extension names no format."""


class CaseError(UsageError):
    """An alignment case, a name or an option of it that does not exist or does not fit."""


class UserFunctionError(CaseError):
    """A function of the user that an alignment case names, a loss for example, raised an error on the port's side."""


class ReferenceFailedError(UsageError):
    """The PyTorch reference raised an error of its own; the message carries its last lines."""


# --- 3: data --------------------------------------------------------------------------------------------------------


class DataError(ProjectError):
    """A list, a folder or a setting of the data that cannot be used."""

    exit_code = 3


class BadImage(DataError):
    """An image file that cannot be decoded to pixels."""

    def __init__(self, path: str, reason: str):
        super().__init__(path, reason)  # both, so that a worker process can send the exception by pickle
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.reason}"


class LostWorker(DataError):
    """A worker process that reads images was killed: by the system for lack of memory, or by the file it read."""

    exit_code = 1  # a restart may succeed, so the supervisor must not take this for a final error


# --- 4: checkpoint or model -----------------------------------------------------------------------------------------


class CheckpointError(ProjectError):
    """A file of weights cannot be used: missing, damaged, foreign, unsafe, or made for another model."""

    exit_code = 4


class ExportedModelError(ProjectError):
    """An exported folder is incomplete, damaged, or not what was asked for."""

    exit_code = 4


class WeightsError(ProjectError):
    """A file of weights of an alignment that is damaged, unsafe, or does not fit the case."""

    exit_code = 4


# --- 5, 6, 7 --------------------------------------------------------------------------------------------------------


class NonFiniteLossError(ProjectError):
    """The loss or the weights are not finite numbers."""

    exit_code = 5


class ParityError(ProjectError):
    """An exported program disagrees with the eager model."""

    exit_code = 6


class MissingDependencyError(ProjectError):
    """A package or a device that was asked for is not on this machine; the message names the install command."""

    exit_code = 7


class OutOfMemoryError(ProjectError):
    """The memory of this machine was not enough; the message names what was held, and what needs less."""

    exit_code = 7


class ShadowedPackageError(MissingDependencyError, ImportError):
    """A package of this project cannot be imported, because another one with its name comes first on `sys.path`."""


class DownloadError(ProjectError):
    """A file cannot be had from the network; the message names the address and the path where to put the file."""

    exit_code = 7


class ServiceError(ProjectError):
    """A service does not answer, or refuses a request for a reason that is not the image."""

    exit_code = 7


# --- faults of the machine ------------------------------------------------------------------------------------------


class LostRankError(ProjectError):
    """The communication between the ranks ended; a restart may succeed."""

    exit_code = 1


class DiskError(ProjectError):
    """A file could not be written; an older file of that name is untouched."""

    exit_code = 74


class Preempted(ProjectError):
    """A signal asked the run to stop; a checkpoint is written, and the same command continues from it."""

    exit_code = 75
