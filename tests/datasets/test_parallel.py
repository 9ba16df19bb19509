"""Parallel map: Ctrl-C ends a program at once, without a message, and with its worker processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.errors import DataError, LostWorker
from datasets import parallel
from datasets.parallel import parallel_map

PROGRAM = """
import signal, time
from common.cli import run
from datasets.parallel import parallel_map

def main(argv):
    for _ in parallel_map(time.sleep, [0, 60, 60], num_workers=2, title="sleeps"):
        print("begun", flush=True)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test that runs in the background ignores SIGINT
    run(main)
"""


@pytest.mark.parametrize("to_all_processes", [True, False], ids=["all processes", "the main process"])
def test_interrupted(tmp_path, to_all_processes):
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "program"]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **how) as program:
        assert program.stdout.readline() == "begun\n"
        (os.killpg if to_all_processes else os.kill)(program.pid, signal.SIGINT)
        # The worker processes hold the pipe too, so the end of the pipe is also theirs.
        assert program.communicate(timeout=20) == ("", "") and program.returncode == -signal.SIGINT


@pytest.mark.parametrize("num_workers", [0, 2])
def test_results_come_in_order_and_errors_are_passed_on(num_workers):
    assert list(parallel_map(int, ["3", "1", "2"], num_workers=num_workers, title="")) == [3, 1, 2]
    with pytest.raises(ValueError, match="invalid literal"):
        list(parallel_map(int, ["3", "x"], num_workers=num_workers, title=""))


def test_a_worker_that_dies_is_reported():
    with pytest.raises(LostWorker, match="lower --num_workers"):
        list(parallel_map(os._exit, [1, 1], num_workers=2, title=""))
    assert issubclass(LostWorker, DataError)


def end_at_one(job: int) -> int:
    """Die at a job."""
    return os._exit(1) if job == 1 else 10 * job


def hang_at_one(job: int) -> int:
    """Hang at a job."""
    time.sleep(60 if job == 1 else 0)
    return 10 * job


@pytest.mark.parametrize(("function", "num_workers"), [(end_at_one, 3), (hang_at_one, 2)])
def test_a_job_that_ends_its_process_or_does_not_end_is_left_out(function, num_workers, monkeypatch):
    monkeypatch.setattr(parallel, "JOB_SECONDS", 2.0 if function is hang_at_one else 60.0)
    jobs = [0, 1, 2, 1, 3] if function is end_at_one else [0, 1, 2]
    results = parallel_map(function, jobs, num_workers=num_workers, title="", without=str)
    assert list(results) == [str(job) if job == 1 else 10 * job for job in jobs]


def test_errors_are_passed_on_where_jobs_may_be_left_out():
    with pytest.raises(ValueError, match="invalid literal"):
        list(parallel_map(int, ["x"], num_workers=1, title="", without=str))


def test_a_program_without_a_file_does_the_jobs_itself():
    """As in a pipe: a spawned process could not import `__main__`, and no job is the reason."""
    program = "from datasets.parallel import parallel_map\n"
    program += "print(list(parallel_map(abs, [-1, -2], num_workers=2, title='', without=str)))"
    done = subprocess.run(
        [sys.executable], input=program, cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.stdout == "[1, 2]\n" and "no worker process can be started" in done.stderr
