"""E2: elastic mode of Paddle's launcher with a real etcd, under the supervisor: ranks are killed and restarted."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .job import BATCH, EPOCHS, STEPS, Job, num_different, result
from .running import Tally, wait_for_step, whole

ELASTIC = "--elastic_level 1 --max_restart 10 --elastic_timeout 30"  # those of deploy/cluster/elastic.sh
ENVIRONMENT = {
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",  # for etcd3 0.12 with protobuf 4 and later
    "GRPC_ENABLE_FORK_SUPPORT": "false",  # else a rank that the launcher forks aborts sometimes in a thread of gRPC
}


def e2(cases: int, seed: int) -> dict:
    """Kill one of two ranks on one node or two nodes, once or twice, and compare with the run without a kill.

    The launchers are supervised, because Paddle 3.3.1 often gives up: it takes its node for finished when all ranks are
    dead before etcd has reported the failure.
    """
    if missing := _missing():
        return {"cases": 0, "broken": 0, "skipped": missing}
    os.environ.update(ENVIRONMENT)
    tally, kills, restarts = Tally("e2", seed), 0, Counter()
    expected = whole(tally.folder, 2)
    with _etcd(tally.folder) as address:
        for case in range(cases):
            out, num_nodes, num_kills = tally.folder / f"case-{case}", 1 + case % 2, 1 + case // 2 % 2
            nodes = [_start(out, address, num_nodes, node) for node in range(num_nodes)]
            for step in sorted(tally.rng.sample(range(3, EPOCHS * STEPS - 8), num_kills)):
                if wait_for_step(nodes[0], step):
                    ranks = [pid for node in nodes for pid in node.ranks().values()]
                    _kill_and_wait(nodes[0], tally.rng.choice(ranks), tally.seconds)
                    kills += 1
            codes = [node.wait() for node in nodes]
            different = num_different(result(out), expected) if not any(codes) else -1
            text = nodes[0].log.read_text(errors="replace")
            restarts["launcher"] += text.count("Run Pod") - text.count("Configuration")
            restarts["supervisor"] += text.count("supervisor: restart")
            tally.add_case(
                f"{num_nodes} nodes, {num_kills} kills; {out}",
                any(codes) and f"exit codes {codes}",
                different and f"{different} differ",
                any(node.seconds_until_empty(15) is None for node in nodes) and "processes left",
            )
    return tally.line(
        kills=kills,
        node_restarts_by_the_launcher=restarts["launcher"],
        node_restarts_by_the_supervisor=restarts["supervisor"],
    )


def _start(out: Path, address: str, num_nodes: int, node: int) -> Job:
    flags = ["--master", f"etcd://{address}", "--nnodes", str(num_nodes), "--job_id", out.name, *ELASTIC.split()]
    return Job(
        out,
        ranks=2 // num_nodes,
        supervised=True,
        launcher_flags=[*flags, "--log_dir", f"{out}-launch{node}"],
        save_steps=3,
        batch_size=BATCH // 2,
    )


def _kill_and_wait(job: Job, pid: int, seconds: list[float]) -> None:
    """Kill a process, wait for a further checkpoint, and append the seconds to the list."""
    start, before = time.monotonic(), _place(job)
    os.kill(pid, signal.SIGKILL)
    while _place(job) == before and job.process.poll() is None:
        time.sleep(0.05)
    seconds.append(time.monotonic() - start)


def _place(job: Job) -> tuple[int, int]:
    return job.state["next_epoch"], job.state["next_step"]


def _missing() -> str:
    if not shutil.which("etcd"):
        return "no etcd on this machine (Debian: apt-get install etcd-server)"
    done = subprocess.run([sys.executable, "-c", "import etcd3"], env=os.environ | ENVIRONMENT, capture_output=True)
    return "" if done.returncode == 0 else "no package etcd3 (python -m pip install etcd3)"


@contextlib.contextmanager
def _etcd(folder: Path) -> Iterator[str]:
    """Run an etcd server inside the context; yields its address."""
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
    for bound in sockets:
        bound.bind(("127.0.0.1", 0))
    ports = [bound.getsockname()[1] for bound in sockets]
    for bound in sockets:
        bound.close()
    return ports
