"""R7: order of the system calls of a save, by strace, and a kill at each of them."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from engine.checkpoint import find_latest, read_checkpoint

from .job import ROOT

CALLS = "fsync,rename,renameat,renameat2,link,linkat,unlink,write,writev"
# An older latest checkpoint becomes the previous one; stdout tells when the save is reported.
WRITER = """
import sys
import numpy as np
from engine.checkpoint import write_checkpoint
folder = sys.argv[1]
write_checkpoint(folder + "/checkpoint-latest.pd", {"model/w": np.full(200_000, 2.0)},
                 {"next_epoch": 2, "next_step": 0}, keep_old_as=folder + "/checkpoint-previous.pd")
print("reported", flush=True)
"""


def r7(cases: int, seed: int) -> dict:
    """Trace one save, then kill saves at the nth call of each kind, up to the last call or n = `cases`."""
    if not shutil.which("strace"):
        return {"cases": 0, "broken": 0, "skipped": "no strace on this machine"}
    folder = _folder()
    trace = folder.with_name(f"{folder.name}.trace")
    _save(folder, ["-f", "-y", "-o", str(trace), "-e", f"trace={CALLS}"])
    calls = re.findall(r"\b(fsync|rename\w*|link\w*)\((.*)", trace.read_text())
    order = [_name(call, rest) for call, rest in calls if "checkpoint-" in rest or f"{folder}>" in rest]
    expected = [
        "fsync temporary checkpoint-latest.pd",
        "link temporary checkpoint-previous.pd",
        "rename checkpoint-previous.pd",
        "rename checkpoint-latest.pd",
        "fsync folder",
    ]
    wrong_order, broken, kills = int(order != expected), 0, 0
    for call in CALLS.split(","):
        for nth in range(1, cases + 1):
            is_killed, is_broken = _killed_save(call, nth)
            kills, broken = kills + is_killed, broken + is_broken
            if not is_killed:  # there was no nth call of this kind
                break
    return {"cases": kills, "broken": broken + wrong_order, "order": order}


def _killed_save(call: str, nth: int) -> tuple[bool, bool]:
    folder = _folder()
    done = _save(folder, ["-f", "-o", "/dev/null", "-e", f"inject={call}:signal=SIGKILL:when={nth}"])
    epochs = [read_checkpoint(path).meta["next_epoch"] for path in folder.glob("checkpoint-*.pd")]
    found = read_checkpoint(find_latest(folder)).meta["next_epoch"]
    is_latest_there = (folder / "checkpoint-latest.pd").exists()
    is_lost = not is_latest_there or found != max(epochs) or ("reported" in done.stdout and found != 2)
    shutil.rmtree(folder)
    return done.returncode != 0, is_lost


def _folder() -> Path:
    from engine.checkpoint import write_checkpoint

    folder = Path(tempfile.mkdtemp(prefix="faults-r7-"))
    write_checkpoint(folder / "checkpoint-latest.pd", {}, {"next_epoch": 1, "next_step": 0})
    return folder


def _save(folder: Path, flags: list[str]) -> subprocess.CompletedProcess:
    command = ["strace", *flags, sys.executable, "-B", "-c", WRITER, str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def _name(call: str, rest: str) -> str:
    names = re.findall(r"(checkpoint-\w+\.pd)(\.[\w-]+\.tmp)?", rest)
    if not names:
        return f"{call.rstrip('at2')} folder"
    name, suffix = names[-1]
    return f"{call.rstrip('at2')} {'temporary ' * bool(suffix)}{name}"
