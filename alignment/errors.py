"""What can stop an alignment before it has an answer; each with the exit code of `python -m alignment`."""


class AlignmentError(Exception):
    """Base of the errors below."""

    exit_code = 1


class CaseError(AlignmentError):
    """A case, a name or an option that does not exist or does not fit."""

    exit_code = 2


class WeightsError(AlignmentError):
    """A file of weights that is damaged, dangerous, or does not fit the case."""

    exit_code = 4


class MissingReferenceError(AlignmentError):
    """PyTorch is not installed in the interpreter of the reference."""

    exit_code = 7


class DiskError(AlignmentError):
    """A report cannot be written; the verdict has been printed."""

    exit_code = 74


class ReferenceFailedError(AlignmentError):
    """The reference raised an error of its own; the message carries its last lines."""

    exit_code = 2
