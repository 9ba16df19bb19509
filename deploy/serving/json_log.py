"""Log lines of the service: one JSON object per line on stdout, never a picture, a token or a header."""

import contextlib
import json
import logging
import sys
import traceback
from datetime import datetime, timezone


def log(event: str, fields: dict) -> None:
    """Write one line: time, event and fields. A reader of stdout that is gone does not end the service."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    line = json.dumps({"time": now, "event": event, **fields}, default=str)
    with contextlib.suppress(OSError, ValueError):
        print(line, flush=True)


def log_exception(error: BaseException, fields: dict) -> None:
    """Write a line with the traceback of a fault of the project."""
    lines = traceback.format_exception(error)
    log("fault", {**fields, "traceback": "".join(lines)})


class JsonHandler(logging.Handler):
    """Writes the warnings of other packages as lines of this log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        fields = {"logger": record.name, "level": record.levelname, "message": record.getMessage()}
        if record.exc_info and record.exc_info[1]:
            fields["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        log("log", fields)


def set_up_json_log() -> None:
    """Send warnings and errors of all packages to the JSON log."""
    logging.basicConfig(level=logging.WARNING, handlers=[JsonHandler()], force=True)
    logging.getLogger("uvicorn.access").propagate = False  # this log has a line for every request
    for name in ("uvicorn.error", "python_multipart"):  # which warn of malformed requests
        logging.getLogger(name).setLevel(logging.ERROR)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
