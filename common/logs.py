"""Set up the standard `logging` once: the predecessor's line format on stdout, rank 0 alone."""

import logging
import sys
from datetime import datetime

from .printable import printable_lines

# Loggers are made by `logging.getLogger(__name__)`; lines below WARNING are shown for these packages and scripts only.
PROJECT = {
    "main",
    "eval",
    "predict",
    "export_model",
    "infer",
    "engine",
    "datasets",
    "models",
    "deploy",
    "common",
    "configs",
}


class LineFormatter(logging.Formatter):
    """Formats a record as `[12:34:56.789012] text`."""

    def format(self, record: logging.LogRecord) -> str:
        return f"[{datetime.fromtimestamp(record.created):%H:%M:%S.%f}] {printable_lines(record.getMessage())}"


class StdoutHandler(logging.StreamHandler):
    """Writes to what `sys.stdout` is at the time of writing, and lets errors through, as `print` does."""

    def __init__(self):
        logging.Handler.__init__(self)
        self.setFormatter(LineFormatter())

    @property
    def stream(self):
        return sys.stdout

    def handleError(self, record: logging.LogRecord) -> None:
        raise


def set_up_logging(rank: int = 0) -> None:
    """Print the log lines of the project to stdout on rank 0, and of other packages warnings only, on every rank.

    Called after Paddle is imported, which installs a handler of its own that would print each line a second time.
    """

    def is_shown(record: logging.LogRecord) -> bool:
        if is_ours(record):
            return rank == 0
        return record.levelno >= logging.WARNING

    root = logging.getLogger()
    for other in list(root.handlers):
        if isinstance(other, StdoutHandler):
            root.removeHandler(other)
        elif type(other) is logging.StreamHandler and is_foreign not in other.filters:
            other.addFilter(is_foreign)
    handler = StdoutHandler()
    handler.addFilter(is_shown)
    root.addHandler(handler)
    for name in PROJECT:
        logging.getLogger(name).setLevel(logging.INFO)


def is_ours(record: logging.LogRecord) -> bool:
    """Whether a record comes from a package or script of the project."""
    return record.name.partition(".")[0] in PROJECT


def is_foreign(record: logging.LogRecord) -> bool:
    """Whether a record comes from another package."""
    return not is_ours(record)
