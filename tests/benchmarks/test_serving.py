"""The benchmark of the service measures clients that wait for their answers, and an overload."""

import asyncio
import contextlib
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.http_clients import form_of
from benchmarks.serving import Running, measure, overload_once, print_table, stopped
from tests.deploy.serving.service_in_thread import service_in_thread


@pytest.fixture(scope="module")
def service():
    with service_in_thread() as running:
        yield running


@pytest.fixture
def sleepers():
    """Two processes, each the first of a session."""
    with contextlib.ExitStack() as stack:
        processes = []
        for _ in range(2):
            processes.append(stack.enter_context(subprocess.Popen(["sleep", "60"], start_new_session=True)))
            stack.callback(processes[-1].kill)
        yield processes


def test_servers_are_stopped_for_a_time(sleepers):
    def states() -> list[str]:
        return [Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] for process in sleepers]

    with stopped([Running("a", 0, sleepers[0])]):
        os.waitid(os.P_PID, sleepers[0].pid, os.WSTOPPED | os.WNOWAIT)
        assert [state == "T" for state in states()] == [True, False]
    os.waitid(os.P_PID, sleepers[0].pid, os.WCONTINUED | os.WNOWAIT)
    assert "T" not in states()


def test_clients_that_wait_for_their_answers(service, sleepers, capsys):
    servers = [Running(name, service.port, process) for name, process in zip("ab", sleepers, strict=True)]
    results = measure(servers, form_of(b"abc"), (1, 2), 0.1, 1)
    assert [(result.contender, result.num_clients) for result in results] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert all(0 < result.p50_ms <= result.p99_ms and result.images_per_second > 0 for result in results)
    print_table(results)
    assert capsys.readouterr().out.count("\n") >= 5


def test_an_overload_is_refused(service, monkeypatch):
    monkeypatch.setattr("benchmarks.serving.SECONDS_TO_RECOVER", 0.2)
    monkeypatch.setattr("benchmarks.serving.RAMP_SECONDS", 0.1)
    server = Running("a", service.port, SimpleNamespace(pid=os.getpid()))
    counts = asyncio.run(overload_once(server, form_of(b"abc"), 200, 0.3, 1.0))
    assert counts["answered"] > 0 and counts["refused"] == counts["without_answer"] == 0
    assert counts["seconds_to_normal"] < 0.2 and len(counts["megabytes_before_ramp_end"]) == 3
    service.engine.is_busy = True
    counts = asyncio.run(overload_once(server, form_of(b"abc"), 200, 0.2, 1.0))
    service.engine.is_busy = False
    assert counts["answered"] == 0 and counts["refused"] > 0 and "503" in counts["p50_p99_ms"]
