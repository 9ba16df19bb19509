"""Holds the programs that prepare data to ending by Ctrl-C at once, without a word, and with their processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import signal, time
from common.cli import run
from datasets.parallel import parallel_map

def main(argv):
    for _ in parallel_map(time.sleep, [0, 60, 60], num_workers=2, title="naps"):
        print("begun", flush=True)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background, it is ignored
    run(main)
"""


@pytest.mark.parametrize("everyone", [True, False], ids=["all processes", "the main one"])
def test_interrupted(tmp_path, everyone):
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "program"]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **how) as program:
        assert program.stdout.readline() == "begun\n"
        (os.killpg if everyone else os.kill)(program.pid, signal.SIGINT)
        # they have the pipe too, so its end is theirs
        assert program.communicate(timeout=20) == ("", "") and program.returncode == -signal.SIGINT
