"""The short form of the promises that take seconds; `python -m tests.faults all --long` measures them all."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.__main__ import PROMISES

ROOT = Path(__file__).parents[2]
QUICK = {  # the longest first, since two are measured at a time
    "S4": 60,
    "D4": 1,
    "R3": 10,
    "R4": 10,
    "R6": 100,
    "R7": 2,
    "R10": 5,
    "R12": 1,
    "R15": 8,
    "D1": 60,
    "D2": 3,
    "D3": 20,
    "D5": 20,
}
LENGTHY = [name for name in PROMISES if name not in QUICK]


def measure(name: str, cases: int) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.faults", name, "--cases", str(cases), "--no_record"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["promise"] == name and line["broken"] == 0


@pytest.fixture(scope="module")
def measurements(request) -> Iterator[dict[str, Future]]:
    """Those that were selected, two at a time: each is a process that needs one core or waits."""
    selected = [item.callspec.params["name"] for item in request.session.items if "measurements" in item.fixturenames]
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(measure, name, QUICK[name]) for name in selected}


@pytest.mark.parametrize("name", QUICK)
def test_promise(name, measurements):
    measurements[name].result()


@pytest.mark.slow
@pytest.mark.parametrize("name", LENGTHY)
def test_lengthy_promise(name):
    measure(name, PROMISES[name][1])
