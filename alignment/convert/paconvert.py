"""Convert the code of a PyTorch project with PaConvert, which runs as a program of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

from common.errors import MissingDependencyError, UsageError

INSTALL = "install PaConvert with `pip install paconvert==3.3.1`, or name its program with --paconvert"
MAX_SECONDS = 1800


def convert_code(source: Path, target: Path, program: str = "paconvert") -> None:
    """Write the converted project to `target`.

    Args:
        source: folder of the PyTorch project.
        target: folder to write.
        program: name or path of PaConvert's program.

    Raises:
        UsageError: the source is no folder, or PaConvert failed.
        MissingDependencyError: PaConvert is missing.
    """
    if not source.is_dir():
        raise UsageError(f"{source}: no such folder")
    found = shutil.which(program) or shutil.which(program, path=str(Path(sys.executable).parent))
    if not found:
        raise MissingDependencyError(f"{program} is missing; {INSTALL}")
    command = [found, "--in_dir", str(source), "--out_dir", str(target), "--log_dir", "disable"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MAX_SECONDS)
    if done.returncode or not target.is_dir():
        lines = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise UsageError(f"PaConvert ended with code {done.returncode}: " + " ".join(lines))
