"""R15: number of starts by the supervisor of commands that end with scripted exit codes."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .job import ROOT

# A command that counts its starts, writes the given progress, and ends with the given exit codes one after another.
COMMAND = """
import json, os, sys
folder, codes, progress = sys.argv[-1], json.loads(sys.argv[1]), json.loads(sys.argv[2])
count = len(os.listdir(folder + "/starts"))
open(f"{folder}/starts/{count}", "w").close()
code = codes[min(count, len(codes) - 1)]
state = {"status": "finished" if code == 0 else "failed", "exit_code": code, "message": "", "time": count,
         "next_epoch": progress * count, "next_step": 0}
open(folder + "/run_state.json", "w").write(json.dumps(state))
sys.exit(0 if code == 75 else code)
"""

# exit codes of the starts, epochs of progress per start, --max_restarts -> starts, exit code of the supervisor
CASES = [
    ([0], 1, 9, 1, 0),
    ([1, 1, 0], 1, 9, 3, 0),
    ([75, 75, 74, 0], 1, 9, 4, 0),
    ([1], -1, 4, 5, 1),  # --max_restarts, with a run that continues from an older checkpoint each time
    ([1], 0, 9, 3, 1),  # two restarts without progress
    ([2], 1, 9, 1, 2),
    ([1, 3], 1, 9, 2, 3),
    ([5], 1, 9, 1, 5),
]


def r15(cases: int, seed: int) -> dict:
    """Run each row of CASES."""
    broken, details = 0, []
    for codes, progress, budget, num_starts, expected in CASES[:cases]:
        folder = Path(tempfile.mkdtemp(prefix="faults-r15-"))
        (folder / "starts").mkdir()
        command = [sys.executable, "-c", COMMAND, str(codes), str(progress), "--resume", "auto"]
        flags = ["--backoff", "0.01", "--max_restarts", str(budget)]
        supervise = [sys.executable, "-m", "engine.supervise", *flags, "--", *command, "--output_dir", str(folder)]
        code = subprocess.run(supervise, cwd=ROOT, capture_output=True, timeout=60).returncode
        counted = len(os.listdir(folder / "starts")), code
        if counted != (num_starts, expected):
            broken += 1
            details.append(f"{codes}: {counted[0]} starts, exit code {counted[1]}")
    return {"cases": len(CASES[:cases]), "broken": broken, "details": details}
