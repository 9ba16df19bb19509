"""Weights of a PyTorch file, converted by the alignment tool: torch runs in a process of its own, never in this one."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from common.errors import CheckpointError, MissingDependencyError

from .safetensors_io import decode

ROOT = Path(__file__).parent.parent
MISSING_DEPENDENCY = 7


def convert_torch_file(path: Path, case: str) -> dict[str, np.ndarray]:
    """The arrays of `path` by the names of the Paddle model that the alignment case called `case` describes.

    Raises:
        CheckpointError: the file is damaged, unsafe or of another model.
        MissingDependencyError: PyTorch is not installed.
    """
    with TemporaryDirectory() as folder:
        converted = Path(folder) / "weights.safetensors"
        command = [sys.executable, "-m", "alignment.weights", "convert", str(path.absolute()), str(converted)]
        done = subprocess.run(
            [*command, "--case", case, "--to", "safetensors"], cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode:
            message = done.stderr.strip().removeprefix("error: ") or f"the conversion ended with {done.returncode}"
            raise (MissingDependencyError if done.returncode == MISSING_DEPENDENCY else CheckpointError)(message)
        print(f"{path} is a PyTorch file: converted by the alignment case '{case}'", file=sys.stderr)
        return decode(converted.read_bytes())[0]
