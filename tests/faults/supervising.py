"""R15: how often the supervisor starts commands that end in scripted ways."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .job import ROOT

# A command that counts its starts, writes down the progress it is told to, and ends as told: exit codes in turn.
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

# exit codes in turn, whether each start makes progress, most restarts -> starts, exit code of the supervisor
CASES = [
    ([0], 1, 9, 1, 0),
    ([1, 1, 0], 1, 9, 3, 0),
    ([75, 75, 74, 0], 1, 9, 4, 0),
    ([1], -1, 4, 5, 1),  # the budget, of a run that went on from an older checkpoint each time
    ([1], 0, 9, 3, 1),  # two restarts that bring nothing
    ([2], 1, 9, 1, 2),
    ([1, 3], 1, 9, 2, 3),
    ([5], 1, 9, 1, 5),
]


def r15(cases: int, seed: int) -> dict:
    """Each row of CASES."""
    broken, details = 0, []
    for codes, progress, budget, num_starts, expected in CASES[:cases]:
        folder = Path(tempfile.mkdtemp(prefix="faults-r15-"))
        (folder / "starts").mkdir()
        command = [sys.executable, "-c", COMMAND, str(codes), str(progress), "--resume", "auto"]
        flags = ["--backoff", "0.01", "--max_restarts", str(budget)]
        supervise = [sys.executable, "-m", "engine.supervise", *flags, "--", *command, "--output_dir", str(folder)]
        code = subprocess.run(supervise, cwd=ROOT, capture_output=True, timeout=60).returncode
        found = len(os.listdir(folder / "starts")), code
        if found != (num_starts, expected):
            broken += 1
            details.append(f"{codes}: {found[0]} starts, exit code {found[1]}")
    return {"cases": len(CASES[:cases]), "broken": broken, "details": details}
