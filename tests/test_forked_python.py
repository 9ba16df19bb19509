"""A fork of tests/forked_python.py behaves as `python` does: words, folder, environment, streams, end."""

import os
import signal
import subprocess
import sys

import pytest

from tests.forked_python import run_python

REPORT = """
import json, os, sys
print(json.dumps([sys.argv, sys.path[0], os.getcwd(), os.environ.get("A"), __name__, sys.stdin.read()]))
print("é", file=sys.stderr)
sys.exit(3)
"""


@pytest.mark.parametrize("words", [["-c", REPORT, "a b"], ["program.py", "a b"], ["-m", "program", "a b"]])
def test_it_is_that_of_a_new_python(tmp_path, words):
    (tmp_path / "program.py").write_text(REPORT)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"} | {"A": "x"}
    done = run_python(words, cwd=tmp_path, env=environment, stdin="typed")
    how = {"cwd": tmp_path, "env": environment, "input": "typed", "capture_output": True, "text": True}
    new = subprocess.run([sys.executable, *words], **how)
    assert (done.returncode, done.stdout, done.stderr) == (new.returncode, new.stdout, new.stderr)


@pytest.mark.parametrize(
    ("code", "returncode", "message"),
    [
        ("", 0, ""),
        ("raise SystemExit('no')", 1, "no\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        ("import atexit, sys; atexit.register(print, 'end', file=sys.stderr)", 0, "end\n"),
    ],
)
def test_how_it_ends(tmp_path, code, returncode, message):
    done = run_python(["-c", code], cwd=tmp_path)
    assert done.returncode == returncode and done.stderr.endswith(message) and not done.stdout


def test_paddle_is_there_and_no_module_of_the_project(tmp_path):
    code = "import sys; print('paddle' in sys.modules, {'common', 'engine', 'tests'} & {*sys.modules})"
    assert run_python(["-c", code], cwd=tmp_path).stdout == "True set()\n"


def test_one_that_does_not_end_is_killed(tmp_path):
    with pytest.raises(subprocess.TimeoutExpired):
        run_python(["-c", "import time; time.sleep(60)"], cwd=tmp_path, timeout=0.2)
