"""Convert the code of a PyTorch project with PaConvert, which runs as a program of its own."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from common.errors import MissingDependencyError, UsageError

MARK = ">>>>>>"  # before a line that PaConvert could not convert; the line is then no Python
INSTALL = "install PaConvert with `pip install paconvert==3.3.1`, or name its program with --paconvert"
MAX_SECONDS = 1800
# What to write instead of calls that PaConvert 3.3.1 leaves, {regular expression: advice}.
ADVICE = {
    r"torch\.optim\.SGD\(.*momentum": "paddle.optimizer.Momentum(learning_rate=..., momentum=..., parameters=...)",
    r"torch\.optim\.SGD": "paddle.optimizer.SGD(learning_rate=..., parameters=...)",
    r"param_groups": "optimizer.set_lr(value), or optimizer.get_lr()",
    r"register_buffer": "self.register_buffer(name, tensor)",
    r"\.cuda\(\)|\.to\(device": "paddle.set_device; a tensor needs no call",
}


class CallSite(NamedTuple):
    """A line of the converted project that has to be mended by hand."""

    file: str
    line: int
    text: str
    advice: str


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


def call_sites(folder: Path) -> list[CallSite]:
    """The lines that PaConvert marked, and uses of attributes that Paddle does not have, in order."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            text = line.replace(MARK, "").strip()
            if MARK in line or re.search(r"\.param_groups\b", line):
                found.append(CallSite(str(path.relative_to(folder)), number, text, advice_for(text)))
    return found


def advice_for(text: str) -> str:
    """What to write instead of a line, or an empty text."""
    return next((advice for pattern, advice in ADVICE.items() if re.search(pattern, text)), "")
