"""What can go wrong with an exported model, each with the exit code of the scripts."""


class DeployError(Exception):
    """Base of this room's errors."""


class ExportedModelError(DeployError):
    """An exported folder is incomplete, damaged, or not what was asked for."""

    exit_code = 4


class ParityError(DeployError):
    """A written program disagrees with the eager model."""

    exit_code = 6


class MissingDependencyError(DeployError):
    """A package or a piece of hardware that the chosen engine needs is not there."""

    exit_code = 7


class EngineOptionError(DeployError):
    """A switch, or a combination of switches, that the chosen engine does not have."""

    exit_code = 2


class DiskError(DeployError):
    """A file could not be written; what was there before is untouched."""

    exit_code = 74


class RecordsError(DeployError):
    """A file of records that cannot be read, or a name that says no format."""

    exit_code = 2
