"""Runs pytest in a process of its own, forked from one that has imported the large libraries already.

Importing Paddle takes longer than most tests that should notice a fault. No module of the project is taken over from
the process that forks.
"""

import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.source import PARTS

LIBRARIES = ("paddle", "numpy", "PIL.Image", "yaml", "pytest", "cv2", "sklearn.metrics", "scipy.optimize")
PASSED, FAILED, HUNG, NOTHING = "passed", "failed", "hung", "nothing was run"
NO_TESTS_RAN = 5  # exit code of pytest
POLL_SECONDS = 0.05
# Plugins of other packages: loading them takes longer than most tests.
WITHOUT = [f"-pno:{plugin}" for plugin in ("cacheprovider", "hypothesispytest", "xdist", "xdist.looponfail", "anyio")]


def import_libraries() -> None:
    """Import what nearly all tests need; a library that is missing is left out."""
    for name in LIBRARIES:
        try:
            __import__(name)
        except ImportError:
            continue


def run_pytest(tree: Path, words: Sequence[str], timeout_seconds: float, output: Path) -> str:
    """Run pytest in a copy of the project and say how it ended: PASSED, FAILED, HUNG or NOTHING.

    Args:
        tree: root of the copy.
        words: tests and options of pytest.
        timeout_seconds: after these seconds the process and what it has started are killed.
        output: file for all that pytest and the tests print.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as temporary:
        child = os.fork()
        if child == 0:
            os.setsid()
            _become_pytest(tree, [*words, f"--basetemp={temporary}/tests"], output)
        end = time.monotonic() + timeout_seconds
        status = None
        while time.monotonic() < end:
            finished, status = os.waitpid(child, os.WNOHANG)
            if finished:
                break
            time.sleep(POLL_SECONDS)
        else:
            status = None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # also what a test has left behind
        if status is None:
            os.waitpid(child, 0)
            return HUNG
    code = os.waitstatus_to_exitcode(status)
    return {0: PASSED, NO_TESTS_RAN: NOTHING}.get(code, FAILED)


def _become_pytest(tree: Path, words: Sequence[str], output: Path) -> None:
    """Run pytest in this process, which ends with it, as if Python had been started at the root of the copy."""
    code = 1
    try:
        descriptor = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        os.chdir(tree)
        for name in [name for name in sys.modules if name.partition(".")[0] in PARTS]:
            del sys.modules[name]
        here = str(Path(__file__).parents[2])
        sys.path[:] = [str(tree), *(path for path in sys.path if path not in ("", here))]
        sys.argv[:] = ["pytest", *words]
        import pytest

        code = int(pytest.main([*WITHOUT, "-q", *words]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
