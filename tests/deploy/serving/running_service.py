"""The service as a process of its own, for tests and for the measurements of tests/faults."""

import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from common.processes import children, descendants, is_alive
from tests.source import ROOT


class RunningService:
    """A service that listens, its log, and its processes."""

    def __init__(self, process: subprocess.Popen):
        self.process = process
        self.lines: list[dict] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        listening = self.wait_for("listening", 60)
        self.port = int(listening["url"].rpartition(":")[2])
        self.url, self.metrics_url = listening["url"], listening["metrics_url"]
        [self.model, *_] = listening["models"]

    def _read_log(self) -> None:
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self.lines.append({"event": "end of the log"})
            self._changed.notify_all()

    def wait_for(self, event: str, seconds: float = 20.0, *, count: int = 1) -> dict:
        """Wait until the log has `count` lines of an event; returns the last of them."""

        def found() -> list[dict]:
            return [line for line in self.lines if line["event"] == event]

        with self._changed:
            done = self._changed.wait_for(lambda: len(found()) >= count or self._is_over(), seconds)
            assert done and len(found()) >= count, f"no {event}: {self.lines[-5:]}"
            return found()[count - 1]

    def _is_over(self) -> bool:
        return bool(self.lines) and self.lines[-1]["event"] == "end of the log"

    @property
    def engine_pids(self) -> list[int]:
        """Processes of the engines."""
        return [child.pid for child in children(self.process.pid) if child.is_alive and _is_engine(child.pid)]

    @property
    def all_pids(self) -> list[int]:
        """All processes below the service."""
        return [process.pid for process in descendants(self.process.pid)]

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict | None = None, seconds: float = 60
    ) -> tuple[int, dict, http.client.HTTPMessage]:
        """Send one request on a connection of its own: (status, JSON, headers)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, json.loads(response.read()), response.headers
        finally:
            connection.close()

    def samples(self) -> dict[str, float]:
        """The metrics: `name{labels}` and value."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self.metrics_url.rpartition(":")[2]), timeout=20)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return parse_samples(text)

    def stop(self, seconds: float = 40.0) -> int:
        """Send SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code


def parse_samples(text: str) -> dict[str, float]:
    """The samples in a text of Prometheus: `name{labels}` and value."""
    lines = [line.rpartition(" ") for line in text.splitlines() if line[0] != "#"]
    return {name: float(value) for name, _, value in lines}


def _is_engine(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def command(*arguments: object) -> list[str]:
    """The command line of a service on a free port."""
    return [sys.executable, "-m", "deploy.serving", *map(str, arguments), "--port", "0"]


@contextmanager
def running_service(*arguments: object, prefix: Sequence[str] = ()) -> Iterator[RunningService]:
    """Start `python -m deploy.serving` with these arguments on free ports; kill it at the end if it still runs."""
    words = [*prefix, *command(*arguments, "--metrics_port", 0)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling every module at each start takes half a second
    with open(os.devnull, "w") as log:
        process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    service = None
    try:
        service = RunningService(process)
        yield service
    finally:
        pids = [process.pid, *(service.all_pids if service else ())]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def processes_left(pids: Sequence[int], seconds: float = 5.0) -> list[int]:
    """Which of the processes still run after some seconds."""
    end = time.monotonic() + seconds
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < end:
        time.sleep(0.02)
    return left


def main(folder: str) -> None:
    """Serve an exported folder by Paddle, and send one picture of noise that is larger than what sockets buffer."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 400, 3), np.uint8)).save(file, "PNG")
    with running_service(folder, "--engine", "paddle", "--threads", 1) as service:
        status, answer, _ = service.request("POST", "/predict", file.getvalue())
        assert status == 200, answer
        assert service.stop() == 0


if __name__ == "__main__":
    main(sys.argv[1])
