"""E2: the elastic mode of Paddle's launcher, with a real etcd, restarts what is killed; state is ours."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .job import EPOCHS, STEPS, Job, num_different, result
from .running import Tally, wait_for_step, whole

ETCD3 = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}  # etcd3 0.12 beside protobuf 4 and later
MAX_RESTART = 3


def e2(cases: int, seed: int) -> dict:
    """One node of two ranks: SIGKILL of one of them, once or twice, at random places; then as the run without."""
    if missing := _missing():
        return {"cases": 0, "broken": 0, "skipped": missing}
    os.environ.update(ETCD3)
    tally, kills = Tally("e2", seed), 0
    expected = whole(tally.folder, 2)
    with _etcd(tally.folder) as address:
        for case in range(cases):
            out, count = tally.folder / f"case-{case}", 1 + case % 2
            elastic = ["--elastic_level", "1", "--max_restart", str(MAX_RESTART), "--job_id", out.name]
            flags = ["--master", f"etcd://{address}", "--nnodes", "1", *elastic]
            job = Job(out, ranks=2, launcher_flags=flags, save_steps=3)
            for step in sorted(tally.rng.sample(range(3, EPOCHS * STEPS - 8), count)):
                if wait_for_step(job, step):
                    os.kill(tally.rng.choice(list(job.ranks().values())), signal.SIGKILL)
                    kills, killed_at, place = kills + 1, time.monotonic(), job.state
                    while job.state.get("time") == place.get("time") and job.process.poll() is None:
                        time.sleep(0.05)
                    tally.seconds.append(time.monotonic() - killed_at)
            code = job.wait()
            different = num_different(result(out), expected) if code == 0 else -1
            tally.judge(
                f"{count} kills; {out}",
                code and f"exit code {code}",
                different and f"{different} differ",
                job.seconds_until_empty(15) is None and "processes left",
            )
    return tally.line(kills=kills)


def _missing() -> str:
    if not shutil.which("etcd"):
        return "no etcd on this machine (Debian: apt-get install etcd-server)"
    found = subprocess.run([sys.executable, "-c", "import etcd3"], env=os.environ | ETCD3, capture_output=True)
    return "" if found.returncode == 0 else "no package etcd3 (python -m pip install etcd3)"


@contextlib.contextmanager
def _etcd(folder: Path) -> Iterator[str]:
    """A server for as long as it is needed; gives its address."""
    client, peer = (f"127.0.0.1:{port}" for port in _free_ports(2))
    command = ["etcd", "--data-dir", folder / "etcd", "--initial-cluster", f"default=http://{peer}"]
    for name, address in {"client": client, "peer": peer}.items():
        command += [f"--listen-{name}-urls", f"http://{address}"]
    command += ["--advertise-client-urls", f"http://{client}", "--initial-advertise-peer-urls", f"http://{peer}"]
    with open(folder / "etcd.log", "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(client.split(":"), timeout=1):
                break
            time.sleep(0.1)
        yield client
    finally:
        server.kill()
        server.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
