"""run_state.json tells how a run ended, whatever the launcher makes of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine import supervise
from engine.errors import DiskError, NonFiniteLossError, Preempted
from engine.preemption import Preemption
from engine.processes import children
from engine.run_state import FILE, RunRecord, read_run_state
from engine.supervise import _value
from engine.watchdog import is_kept

ROOT = Path(__file__).parents[2]


def end_with(folder, error, rank=0):
    record = RunRecord(folder, rank)
    with pytest.raises(type(error)), record:
        raise error


def test_a_run_that_ends_well(tmp_path):
    with RunRecord(tmp_path / "new") as record:
        assert read_run_state(tmp_path / "new")["status"] == "running"
        record.saved(3, 7)
    facts = read_run_state(tmp_path / "new")
    assert (facts["status"], facts["exit_code"], facts["next_epoch"], facts["next_step"]) == ("finished", 0, 3, 7)
    assert facts["process"] == os.getpid()


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        (Preempted("stopped"), "preempted", 75, "stopped"),
        (NonFiniteLossError("the loss is nan"), "failed", 5, "the loss is nan"),
        (DiskError("cannot write"), "failed", 74, "cannot write"),
        (ZeroDivisionError("a bug"), "failed", 1, "ZeroDivisionError: a bug"),
    ],
)
def test_a_run_that_fails(tmp_path, error, status, code, message):
    end_with(tmp_path, error)
    facts = read_run_state(tmp_path)
    assert (facts["status"], facts["exit_code"], facts["message"]) == (status, code, message)


def test_the_first_rank_that_fails_is_the_cause(tmp_path):
    with pytest.raises(RuntimeError), RunRecord(tmp_path, 0) as record:
        record.saved(2, 5)
        end_with(tmp_path, DiskError("of rank 1"), rank=1)
        raise RuntimeError("connection reset by peer")
    facts = read_run_state(tmp_path)
    assert (facts["exit_code"], facts["rank"], facts["message"]) == (74, 1, "of rank 1")
    assert (facts["next_epoch"], facts["next_step"]) == (2, 5)


def test_without_a_folder_or_with_an_unreadable_file(tmp_path):
    with RunRecord(None) as record:
        record.saved(1, 1)
    assert read_run_state(tmp_path) == {}
    for text in ("", "{", "[1]"):
        (tmp_path / FILE).write_text(text)
        assert read_run_state(tmp_path) == {}


@pytest.mark.parametrize(
    ("words", "value"),
    [("main.py --output_dir a", "a"), ("main.py --output-dir=b", "b"), ("main.py", ""), ("m --resume r", ""), ("", "")],
)
def test_the_supervisor_finds_the_folder(words, value):
    assert _value(words.split(), "--output_dir") == value


@pytest.mark.parametrize(
    ("words", "message"),
    [("main.py", "needs --output_dir"), ("main.py --output_dir a --resume=c.pd", "that file; --resume auto goes on")],
)
def test_a_command_that_restarts_would_set_back_is_refused(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        supervise.main(["--", *words.split()])
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_a_shell_may_die_but_not_a_launcher(monkeypatch):
    for name in ("PADDLE_NNODES", "SUPERVISOR_PROCESS"):
        monkeypatch.delenv(name, raising=False)
    assert not is_kept()
    monkeypatch.setenv("SUPERVISOR_PROCESS", "1")  # some earlier supervisor, not the parent
    assert is_kept() == (os.getppid() == 1)
    monkeypatch.setenv("PADDLE_NNODES", "1")
    assert is_kept()


def test_how_a_process_ended():
    killed = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    left = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    killed.send_signal(signal.SIGKILL)
    try:
        for _ in range(200):
            endings = {p.pid: p.ending for p in children(os.getpid()) if not p.is_alive}
            if {killed.pid, left.pid} <= endings.keys():
                break
            time.sleep(0.02)
        assert endings[killed.pid] == "died of SIGKILL" and endings[left.pid] == "ended with 3"
    finally:
        killed.wait()
        left.wait()


LAUNCHER = """
import subprocess, sys, time
from pathlib import Path
folder = Path(sys.argv[-1])
(folder / "started").touch()
while not (folder / "told").exists():
    time.sleep(0.01)
sys.exit(subprocess.call(["sleep", "60"]) and 1)
"""


def test_a_signal_reaches_ranks_that_the_launcher_has_not_started_yet(tmp_path):
    flags = ["--resume", "auto", "--output_dir", str(tmp_path)]
    launcher = [sys.executable, "-c", LAUNCHER, "paddle.distributed.launch", *flags]
    supervisor = subprocess.Popen([sys.executable, "-m", "engine.supervise", "--", *launcher], cwd=ROOT)
    while not (tmp_path / "started").exists():
        assert supervisor.poll() is None
        time.sleep(0.01)
    supervisor.terminate()
    time.sleep(0.2)
    (tmp_path / "told").touch()
    assert supervisor.wait(10) == 75


HANGING = """
import sys, time
from engine.preemption import Preemption
from engine.run_state import RunRecord
from engine.watchdog import Watchdog

def batches():
    yield 1
    time.sleep(60)

with RunRecord(sys.argv[1]) as record:
    dog = Watchdog(1.5, preemption=Preemption(), record=record).start()
    for batch in dog.watch(batches(), "training images", lambda: "a/7.png"):
        pass
"""


def test_what_does_not_move_is_ended_and_says_where(tmp_path):
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGING, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1 and time.monotonic() - start < 15
    assert "waiting for training images a/7.png" in done.stderr and "in batches" in done.stderr
    assert "a/7.png" in read_run_state(tmp_path)["message"]


def test_a_signal_during_evaluation_stops_all_ranks_before_the_same_batch():
    preemption, others = Preemption(), iter([False, False, True])
    seen = []
    with pytest.raises(Preempted):
        for batch in preemption.interrupting(range(9), 9, lambda mine: next(others)):
            seen.append(batch)
    assert seen == [0, 1]
    preemption.requested = True  # but the last batch is not every rank's: nobody answers there
    assert list(preemption.interrupting([5], 0, lambda mine: pytest.fail("asked"))) == [5]
