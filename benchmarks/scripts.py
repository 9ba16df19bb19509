"""Run the scripts of the project in processes of their own."""

import subprocess
import sys
from pathlib import Path

from common.errors import ProjectError

ROOT = Path(__file__).parent.parent


def run(*command: str) -> str:
    """Run a script of the project, and return what it printed.

    Raises:
        ProjectError: the script failed.
    """
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise ProjectError(f"{' '.join(command)} failed with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout
