"""The short form of the promises that take seconds; `python -m tests.faults all --long` measures them all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.__main__ import PROMISES

ROOT = Path(__file__).parents[2]
QUICK = {
    "R3": 10,
    "R4": 10,
    "R6": 100,
    "R7": 2,
    "R10": 5,
    "R12": 1,
    "R15": 8,
    "S4": 60,
    "D1": 60,
    "D2": 3,
    "D3": 20,
    "D4": 1,
    "D5": 20,
}
LENGTHY = [name for name in PROMISES if name not in QUICK]


def measure(name: str, cases: int) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.faults", name, "--cases", str(cases), "--no_record"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["promise"] == name and line["broken"] == 0


@pytest.mark.parametrize("name", QUICK)
def test_promise(name):
    measure(name, QUICK[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", LENGTHY)
def test_lengthy_promise(name):
    measure(name, PROMISES[name][1])
