"""Threads of Paddle's CPU kernels: which number is chosen, and that Paddle computes with it."""

import io
import os
import subprocess
import sys

import pytest

from common import cpus
from engine import cpu_threads
from tests.source import ROOT


@pytest.fixture
def processors(monkeypatch):
    """A machine with that many usable processors, and these variables of the environment."""

    def make(number: int, **variables: str):
        monkeypatch.setattr("common.cpus.usable_cpus", lambda: number)
        for name in ("OMP_NUM_THREADS", "PADDLE_LOCAL_SIZE", "PADDLE_TRAINERS_NUM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return make


@pytest.mark.parametrize(
    ("number", "variables", "expected"),
    [
        (6, {}, 6),
        (6, {"PADDLE_LOCAL_SIZE": "2"}, 3),
        (6, {"PADDLE_LOCAL_SIZE": "8"}, 1),
        (6, {"OMP_NUM_THREADS": "1"}, 1),
        (6, {"OMP_NUM_THREADS": "4"}, 4),
        (6, {"OMP_NUM_THREADS": "2,4"}, 6),
        (6, {"OMP_NUM_THREADS": "0"}, 6),
        (6, {"OMP_NUM_THREADS": "1", "PADDLE_LOCAL_SIZE": "2"}, 3),  # the 1 is the launcher's own
        (6, {"OMP_NUM_THREADS": "2", "PADDLE_LOCAL_SIZE": "2"}, 2),
    ],
)
def test_default_number(processors, number, variables, expected):
    processors(number, **variables)
    assert cpu_threads.default_cpu_threads() == expected


@pytest.mark.parametrize(
    ("number", "variables", "side", "expected"),
    [
        (6, {}, 32, 5),
        (6, {}, 159, 5),
        (6, {}, 160, 6),  # large images: a step takes long, the readers little of it
        (1, {}, 32, 1),
        (6, {"PADDLE_LOCAL_SIZE": "2"}, 32, 2),
        (6, {"OMP_NUM_THREADS": "4"}, 32, 4),
    ],
)
def test_readers_of_small_images_get_one_processor(processors, number, variables, side, expected):
    processors(number, **variables)
    assert cpu_threads.default_cpu_threads(side) == expected


PROGRAM = """
import os, sys
from engine.cpu_threads import cpu_threads, describe_cpu_threads, import_paddle
assert "paddle" not in sys.modules
number = import_paddle({asked})
import paddle, threading
with open(f"/proc/self/status") as file:
    before = int(next(line for line in file if line.startswith("Threads:")).split()[1])
paddle.ones([512, 512]) @ paddle.ones([512, 512])
with open(f"/proc/self/status") as file:
    after = int(next(line for line in file if line.startswith("Threads:")).split()[1])
print(number, cpu_threads(), after - before, describe_cpu_threads())
assert import_paddle(7) == number, "Paddle is imported already"
print("to the real stderr", file=sys.stderr)
"""


@pytest.mark.parametrize(("asked", "expected"), [(2, 2), (None, 1)])
def test_paddle_computes_with_that_many_threads_and_prints_no_advice(asked, expected):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(asked=asked)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    number, again, more, *sentence = done.stdout.split()
    assert int(number) == int(again) == expected
    assert int(more) == min(expected, cpus.usable_cpus()) - 1, "MKL starts no more threads than there are processors"
    assert " ".join(sentence).startswith(f"CPU threads: {expected} (usable processors: ")
    assert done.stderr == "to the real stderr\n"


def test_only_the_advice_is_left_out():
    stream = io.StringIO()
    filtered = cpu_threads._Filter(stream)
    print("before", file=filtered)
    print("WARNING: OMP_NUM_THREADS set to 2", file=filtered)
    print("PLEASE USE OMP_NUM_THREADS WISELY.", file=filtered)
    print(file=filtered)
    print("after", file=filtered)
    filtered.flush()
    assert stream.getvalue() == "before\n\nafter\n"
    assert filtered.getvalue() == stream.getvalue()


def test_the_line_tells_that_ranks_share_the_processors(processors, monkeypatch):
    processors(8, PADDLE_LOCAL_SIZE="2", OMP_NUM_THREADS="4")
    monkeypatch.setattr(cpu_threads, "usable_cpus", lambda: 8)
    line = cpu_threads.describe_cpu_threads()
    assert line == "CPU threads: 4 (usable processors: 8, shared by 2 processes; --cpu_threads sets another number)"
