"""What can be wrong with data: the exceptions of this room and the exit codes that the scripts give them."""


class DataError(Exception):
    """A list, a folder or a setting of the data that cannot be used; the message names the place and the next step."""

    exit_code = 3


class BadImage(DataError):
    """An image file that cannot become pixels."""

    def __init__(self, path: str, reason: str):
        super().__init__(path, reason)  # both, so that a worker process can send the error as it is
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class LostWorker(DataError):
    """A process that reads images was killed: by the system, for want of memory, or by what it read."""

    exit_code = 1  # the next try may succeed


class MissingDependencyError(DataError):
    """An optional package that a function needs is not installed; the message names the install command."""

    exit_code = 7
