"""Set up the standard `logging` once: the predecessor's line format on stdout, rank 0 alone."""

import logging
import sys
from datetime import datetime

# Loggers are made by `logging.getLogger(__name__)`; lines below WARNING are shown for these packages and scripts only.
PROJECT = {"main", "eval", "predict", "export_model", "infer", "engine", "datasets", "models", "deploy", "common"}


class LineFormatter(logging.Formatter):
    """Formats a record as `[12:34:56.789012] text`."""

    def format(self, record: logging.LogRecord) -> str:
        return f"[{datetime.fromtimestamp(record.created):%H:%M:%S.%f}] {record.getMessage()}"


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
    """Print the log lines of the project to stdout on rank 0, and of other packages warnings only, on every rank."""

    def is_shown(record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] in PROJECT:
            return rank == 0
        return record.levelno >= logging.WARNING

    handler = StdoutHandler()
    handler.addFilter(is_shown)
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, StdoutHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    for name in PROJECT:
        logging.getLogger(name).setLevel(logging.INFO)
