"""env.json: versions, processor, command line and commit of a run, for whoever repeats it."""

import json
import logging
import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from common.cpus import processor_name, usable_cpus
from common.files import write_atomically

logger = logging.getLogger(__name__)

FILE = "env.json"
PACKAGES = (
    "paddlepaddle",
    "paddlepaddle-gpu",
    "numpy",
    "Pillow",
    "opencv-python-headless",
    "simplejpeg",
    "scikit-learn",
)


def write_environment(folder: Path) -> None:
    """Write env.json to `folder`; a run does not end because the file cannot be written."""
    try:
        write_atomically(folder / FILE, json.dumps(describe_environment(), indent=2) + "\n")
    except OSError as error:
        logger.warning(f"cannot write {folder / FILE}: {error.strerror}")


def describe_environment() -> dict:
    """Versions of Python and packages, processor, devices, command line, and the commit of the sources."""
    import paddle

    return {
        "command": shlex.join([os.path.basename(sys.executable), *sys.argv]),
        "folder": os.getcwd(),
        "git": _commit(Path(__file__).parents[2]),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor_name(),
        "cpus": usable_cpus(),
        "device": paddle.get_device(),
        "gpus": [paddle.device.cuda.get_device_name(i) for i in range(_count_gpus(paddle))],
        "ranks": int(os.environ.get("PADDLE_TRAINERS_NUM", 1)),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _commit(root: Path) -> str | None:
    """`abc123...`, with ` and changes` where files differ from the commit; None outside a clone."""

    def ask(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        if Path(ask("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return None  # the sources lie inside another project's clone
        return ask("rev-parse", "HEAD") + (" and changes" if ask("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _count_gpus(paddle) -> int:
    return paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
