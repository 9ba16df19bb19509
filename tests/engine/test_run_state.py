"""run_state.json, the supervisor, the watchdog and the signals: how a run ends, and how the end is recorded."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.errors import DiskError, NonFiniteLossError, Preempted, ProjectError
from common.processes import children
from engine import supervise
from engine.preemption import Preemption
from engine.run import Run
from engine.run_state import FILE, RunRecord, read_run_state
from engine.supervise import _value
from engine.watchdog import Watchdog, has_launcher

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


def test_only_rank_0_records_progress_and_the_end(tmp_path):
    """Another rank may start late or end early; a run that is recorded as finished could not be recorded as failed."""
    with RunRecord(tmp_path, 1):
        assert read_run_state(tmp_path) == {}
    assert read_run_state(tmp_path) == {}
    with pytest.raises(DiskError), RunRecord(tmp_path, 0) as record:
        record.saved(2, 5)
        before = read_run_state(tmp_path)
        with RunRecord(tmp_path, 1):
            assert read_run_state(tmp_path) == before
        assert read_run_state(tmp_path) == before
        assert (before["status"], before["exit_code"], before["rank"]) == ("running", None, 0)
        raise DiskError("of rank 0")
    facts = read_run_state(tmp_path)
    assert (facts["status"], facts["exit_code"], facts["rank"]) == ("failed", 74, 0)


def test_without_a_folder_or_with_an_unreadable_file(tmp_path):
    with RunRecord(None) as record:
        record.saved(1, 1)
    assert read_run_state(tmp_path) == {}
    for text in ("", "{", "[1]"):
        (tmp_path / FILE).write_text(text)
        assert read_run_state(tmp_path) == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"",
        lambda text: text.replace(b"next", b"\xeeext", 1),
        lambda text: text.replace(b'"next_epoch": 3', b'"next_epoch": "3"'),
        lambda text: text.replace(b'"message": ""', b'"message": 7'),
        lambda text: text.replace(b'"time"', b'"tile"'),
        lambda text: b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_set_aside_and_the_run_goes_on(tmp_path, caplog, change):
    with RunRecord(tmp_path) as record:
        record.saved(3, 1)
    bad = change((tmp_path / FILE).read_bytes())
    (tmp_path / FILE).write_bytes(bad)
    with RunRecord(tmp_path):
        assert read_run_state(tmp_path)["next_epoch"] == 0
    assert (tmp_path / f"{FILE}.damaged").read_bytes() == bad
    path = tmp_path / FILE
    assert caplog.messages == [f"{path} is damaged: it is now {path}.damaged, and this run writes a new {path}"]
    with RunRecord(tmp_path):  # an undamaged one stays
        pass
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("words", "value"),
    [("main.py --output_dir a", "a"), ("main.py --output-dir=b", "b"), ("main.py", ""), ("m --resume r", ""), ("", "")],
)
def test_the_supervisor_finds_the_folder(words, value):
    assert _value(words.split(), "--output_dir") == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-- main.py", "needs --output_dir"),
        ("-- main.py --output_dir a --resume=c.pd", "that file; --resume auto goes on"),
        ("-- no-such-program --output_dir a", "no-such-program: no such program; give the command after --"),
        ("--backoff=-1 -- main.py --output_dir a", "--backoff: expected a number of at least 0, got '-1'"),
        ("--grace=nan -- main.py --output_dir a", "--grace: expected a number of at least 0, got 'nan'"),
        ("--patience=x -- main.py --output_dir a", "--patience: expected a whole number of at least 0, got 'x'"),
    ],
)
def test_a_command_or_flag_that_cannot_be_supervised_is_refused(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        supervise.main(words.split())
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_a_launcher_or_supervisor_is_told_from_a_shell(monkeypatch):
    for name in ("PADDLE_NNODES", "SUPERVISOR_PROCESS"):
        monkeypatch.delenv(name, raising=False)
    assert not has_launcher()
    monkeypatch.setenv("SUPERVISOR_PROCESS", "1")  # an earlier supervisor, not the parent
    assert has_launcher() == (os.getppid() == 1)
    monkeypatch.setenv("PADDLE_NNODES", "1")
    assert has_launcher()


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


def supervised(folder: Path, program: str, *words: str, flags: str = "") -> subprocess.CompletedProcess:
    """Run the supervisor with a Python program whose arguments are `words` and, at the end, the folder."""
    command = [sys.executable, "-c", program, "--resume", "auto", *words, "--output_dir", str(folder)]
    supervisor = [sys.executable, "-m", "engine.supervise", *flags.split(), "--", *command]
    return subprocess.run(supervisor, cwd=ROOT, capture_output=True, text=True, timeout=60)


KILLED = """
import os, sys
from engine.run_state import RunRecord
RunRecord(sys.argv[-1]).__enter__()
os.kill(os.getpid(), int(sys.argv[3]))
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_run_that_was_killed_ends_with_128_and_the_signal(tmp_path, name):
    expected = 128 + getattr(signal, name)
    done = supervised(tmp_path, KILLED, str(int(getattr(signal, name))), flags="--max_restarts 0")
    assert done.returncode == expected, done.stderr
    assert f"gives up after 0 restarts: ended with {expected} " in done.stderr
    facts = read_run_state(tmp_path)
    assert (facts["status"], facts["exit_code"]) == ("failed", expected)


# Each start records the next word as the number of its epoch, and fails.
FAILING = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[-1])
reached = sys.argv[3:-2]
count = len(list(folder.glob("start-*")))
(folder / f"start-{count}").touch()
facts = {"status": "failed", "exit_code": 1, "message": "", "time": count + 1, "next_epoch": int(reached[count])}
facts["next_step"] = 0
(folder / "run_state.json").write_text(json.dumps(facts))
sys.exit(1)
"""


def test_the_wait_before_a_restart_doubles_up_to_a_limit_and_is_reset_after_progress(tmp_path):
    words = "0 0 0 0 0 1 1 1".split()
    done = supervised(
        tmp_path, FAILING, *words, flags="--backoff 0.01 --max_backoff 0.05 --patience 9 --max_restarts 7"
    )
    assert done.returncode == 1
    waits = [line.split(" in ")[1].split(" s,")[0] for line in done.stderr.splitlines() if ": restart " in line]
    assert waits == ["0.02", "0.04", "0.05", "0.05", "0.05", "0.01", "0.02"]


def test_a_run_is_restarted_as_often_without_progress_as_patience_says(tmp_path, monkeypatch):
    options = SimpleNamespace(backoff=0, max_backoff=0, patience=2, max_restarts=100, grace=1)
    supervisor, attempts = supervise.Supervisor(["program"], tmp_path, options), []
    monkeypatch.setattr(supervise, "adopt_orphans", lambda: None)
    monkeypatch.setattr(supervise.signal, "signal", lambda *_: None)
    monkeypatch.setattr(supervisor, "_attempt", lambda: attempts.append("no") or (1, "no"))
    assert supervisor.run() == 1 and len(attempts) == 1 + 2


@pytest.mark.parametrize(
    ("code", "is_killed", "expected"),
    [(75, False, 75), (1, False, 75), (137, True, 137), (74, False, 74), (0, False, 0)],
)
def test_a_run_that_was_asked_to_stop_ends_with_75_unless_it_did_not_save(
    code, is_killed, expected, tmp_path, monkeypatch
):
    supervisor = supervise.Supervisor(["program"], tmp_path, SimpleNamespace(backoff=0, grace=1))
    monkeypatch.setattr(supervise, "adopt_orphans", lambda: None)
    monkeypatch.setattr(supervise.signal, "signal", lambda *_: None)

    def attempt():
        supervisor._stop_requested_at, supervisor._is_killed = 1.0, is_killed
        return code, ""

    monkeypatch.setattr(supervisor, "_attempt", attempt)
    assert supervisor.run() == expected


def test_the_folder_is_the_last_that_the_command_names_as_the_run_reads_it(tmp_path, monkeypatch):
    folders = []
    monkeypatch.setattr(
        supervise, "Supervisor", lambda command, folder, options: folders.append(folder) or SimpleNamespace(run=int)
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    supervise.main(["--", sys.executable, "main.py", "--output_dir", "first", "--output-dir=~/second"])
    assert folders == [tmp_path / "second"]


def test_a_run_that_ends_in_a_notebook_leaves_neither_watchdog_nor_handlers(monkeypatch):
    """The watchdog would end the notebook when nothing moves in it."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("engine.run.is_program", lambda: False)
    preemption = Preemption().install()
    run = Run(preemption=preemption, watchdog=Watchdog(0, preemption=preemption, record=RunRecord()))
    with pytest.raises(ProjectError), run:
        assert signal.getsignal(signal.SIGTERM) == preemption._request
        raise ProjectError("a damaged image")
    assert run.watchdog._is_stopped.is_set() and signal.getsignal(signal.SIGTERM) == before
    monkeypatch.setattr("engine.run.is_program", lambda: True)  # ends now: more signals must not change its exit code
    with run:
        preemption.install()
    assert signal.getsignal(signal.SIGTERM) == preemption._request
    preemption.uninstall()


def test_faults_that_would_come_again_are_final():
    assert {2, 3, 4, 5, 6, 7} == supervise.FINAL


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


def test_a_run_that_hangs_is_ended_and_names_its_place(tmp_path):
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGING, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1 and time.monotonic() - start < 15
    assert "waiting for training images a/7.png" in done.stderr and "in batches" in done.stderr
    assert "a/7.png" in read_run_state(tmp_path)["message"]


ORPHANED = """
import os, sys, time
from pathlib import Path
from engine import watchdog
from engine.preemption import Preemption
from engine.run_state import RunRecord

folder, saves = Path(sys.argv[1]), sys.argv[2] == "saves"
watchdog.GRACE_SECONDS = 60 if saves else 0.1
with RunRecord(folder) as record:
    preemption = Preemption()
    dog = watchdog.Watchdog(0, preemption=preemption, record=record).start()
    (folder / "started").touch()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if preemption.requested and saves:
            break
        time.sleep(0.01)
    (folder / ("saved" if preemption.requested else "never asked")).touch()
    dog.stop()
"""
STARTING = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"


@pytest.mark.parametrize("answer", ["saves", "hangs"])
def test_a_run_whose_launcher_dies_is_asked_to_save_and_ended_if_it_does_not(tmp_path, answer):
    environment = {**os.environ, "PADDLE_NNODES": "1"}
    launcher = subprocess.Popen(
        [sys.executable, "-c", STARTING, ORPHANED, str(tmp_path), answer],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.DEVNULL,  # the traces of the threads
    )
    try:
        wait_until(lambda: (tmp_path / "started").exists())
        time.sleep(0.1)
        assert read_run_state(tmp_path)["status"] == "running"
    finally:
        launcher.kill()
        launcher.wait()
    wait_until(lambda: read_run_state(tmp_path)["status"] != "running")
    facts = read_run_state(tmp_path)
    assert (tmp_path / "saved").exists() == (answer == "saves"), list(tmp_path.iterdir())
    assert not (tmp_path / "never asked").exists()
    if answer == "saves":
        assert facts["status"] == "finished"
    else:
        assert facts["status"] == "failed" and f"the launcher (process {launcher.pid}) is gone" in facts["message"]


def wait_until(condition) -> None:
    """Wait until the condition holds, at most 30 s."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("the condition did not hold within 30 s")


def test_a_signal_during_evaluation_stops_all_ranks_before_the_same_batch():
    preemption, others = Preemption(), iter([False, False, True])
    seen = []
    with pytest.raises(Preempted):
        for batch in preemption.interrupting(range(9), 9, lambda mine: next(others)):
            seen.append(batch)
    assert seen == [0, 1]
    preemption.requested = True  # no exchange before a batch that other ranks do not have
    assert list(preemption.interrupting([5], 0, lambda mine: pytest.fail("asked"))) == [5]
