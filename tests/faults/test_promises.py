"""The short form of the promises that take seconds; `python -m tests.faults all --long` measures them all."""

import json
import shutil
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.__main__ import PROMISES
from tests.faults.__main__ import measure as measure_here
from tests.forked_python import run_python

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
    "W1": 10,
    "W2": 10,
    "W3": 10,
    "S5": 10,
    "S6": 30,
    "S7": 60,
    "V1": 100,
}
LENGTHY = [name for name in PROMISES if name not in QUICK]


def measure(name: str, cases: int) -> None:
    """Measure a promise in a process of its own, and check the result."""
    done = run_python(["-m", "tests.faults", name, "--cases", cases, "--no_record"], cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    check(name, json.loads(done.stdout.splitlines()[-1]))


def check(name: str, line: dict) -> None:
    """Check that no case is broken and that there were cases; a promise that this machine cannot measure is skipped."""
    assert line["promise"] == name and line["broken"] == 0
    if line.get("skipped"):
        pytest.skip(f"{name}: {line['skipped']}")
    assert line["cases"] > 0, "no case was measured, without a reason"


@pytest.fixture(scope="module")
def measurements(request) -> Iterator[dict[str, Future]]:
    """Measure the selected promises, two at a time: each is a process that uses one core or waits."""
    selected = [item.callspec.params["name"] for item in request.session.items if "measurements" in item.fixturenames]
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(measure, name, QUICK[name]) for name in selected}


@pytest.mark.parametrize("name", QUICK)
def test_promise(name, measurements):
    measurements[name].result()


# what the machine lacks -> the promises that cannot be measured there
LACKING = {"strace": "R7", "etcd": "E2", "ip": "N1"}


@pytest.mark.parametrize("program", LACKING)
def test_a_promise_that_this_machine_cannot_measure_is_skipped_and_names_what_is_missing(program, monkeypatch):
    which = shutil.which
    monkeypatch.setattr("shutil.which", lambda name, *more: None if name == program else which(name, *more))
    name = LACKING[program]
    line = measure_here(name, Namespace(cases=1, long=False, seed=0))
    with pytest.raises(pytest.skip.Exception, match=program):
        check(name, line)


@pytest.mark.parametrize("counts", [{"cases": 0, "broken": 0}, {"cases": 3, "broken": 1}])
def test_no_case_is_no_success(counts):
    with pytest.raises(AssertionError):
        check("R7", {"promise": "R7", **counts})


@pytest.mark.slow
@pytest.mark.parametrize("name", LENGTHY)
def test_lengthy_promise(name):
    measure(name, PROMISES[name][1])
