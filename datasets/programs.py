"""How the programs of this room end: with an exit code, or as any program that Ctrl-C stops."""

import sys
from collections.abc import Callable


def run(main: Callable[[], int]) -> None:
    """Exit with the code that `main` returns."""
    if hasattr(sys.stdout, "reconfigure"):  # a name that the terminal's alphabet lacks must not end a check
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.excepthook = lambda *error: None  # no traceback; Python then cleans up, and dies of the signal
        raise
