"""N1: two nodes, each a network namespace of this machine, train together; the network fails for some time."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .job import PROGRAM, ROOT, STEPS, Job, arguments, num_different, result
from .running import wait_for_step

CUT_SECONDS = 45  # longer than the 30 s that gloo waits for a rank


def n1(cases: int, seed: int) -> dict:
    """Disconnect two nodes at a random place; each has a supervisor and a launcher, both share one folder."""
    if os.getuid() != 0 or not shutil.which("ip"):
        return {"cases": 0, "broken": 0, "skipped": "needs root and the program ip"}
    rng, folder, broken, details = random.Random(seed), Path(tempfile.mkdtemp(prefix="faults-n1-")), 0, []
    assert Job(folder / "whole", ranks=2).wait() == 0, f"see {folder}"
    for case in range(cases):
        out = folder / f"case-{case}"
        network = Network()
        try:
            nodes = [network.start(rank, out) for rank in (0, 1)]
            step = rng.randrange(2, 2 * STEPS)
            is_started = wait_for_step(nodes[0], step)
            network.disconnect()
            before = place(nodes[0])
            time.sleep(CUT_SECONDS)
            is_stopped = place(nodes[0]) - before <= 4  # steps of checkpoints that were being written
            network.connect()
            codes = [node.wait(300) for node in nodes]
            different = num_different(result(out), result(folder / "whole")) if codes == [0, 0] else -1
        finally:
            network.remove()
        if not (is_started and is_stopped) or different:
            broken += 1
            details.append(f"{out}: exit codes {codes}, {different} differ")
    return {"cases": cases, "broken": broken, "seconds_cut_off": CUT_SECONDS, "details": details}


def place(node: Job) -> int:
    """Number of steps in the newest checkpoint."""
    return node.state["next_epoch"] * STEPS + node.state["next_step"]


class Node(Job):
    """Supervised launcher in a network namespace.

    Args:
        prefix: command that runs a program in the namespace.
        folder: output folder, shared by both nodes.
        rank: number of the node.
        environment: environment of the launcher.
        flags: flags of the launcher.
    """

    def __init__(self, prefix: list[str], folder: Path, rank: int, environment: dict[str, str], flags: list[str]):
        self.folder, self.log = folder, folder.with_name(f"{folder.name}-node{rank}.log")
        supervise = [sys.executable, "-m", "engine.supervise", "--backoff", "1", "--patience", "20", "--"]
        launch = [sys.executable, "-m", "paddle.distributed.launch", *flags, "--log_dir", f"{folder}-launch{rank}"]
        command = [*prefix, *supervise, *launch, str(PROGRAM), *arguments(folder, ranks=2, save_steps=2)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)


class Network:
    """Two network namespaces, connected by a pair of virtual devices."""

    def __init__(self):
        self._names = [f"faults{os.getpid()}-{rank}" for rank in (0, 1)]
        ends = [f"f{os.getpid()}-{rank}" for rank in (0, 1)]
        _ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        self._ends = ends
        for rank, (name, end) in enumerate(zip(self._names, ends, strict=True)):
            _ip("netns", "add", name)
            _ip("link", "set", end, "netns", name)
            _ip("-n", name, "addr", "add", f"10.77.0.{rank + 1}/24", "dev", end)
            _ip("-n", name, "link", "set", end, "up")
            _ip("-n", name, "link", "set", "lo", "up")

    def start(self, rank: int, out: Path) -> Node:
        """Start the launcher of one rank in its namespace."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PADDLE_") and k != "CUDA_VISIBLE_DEVICES"}
        environment = {**clean, "OMP_NUM_THREADS": "1", "FAULT": json.dumps({}), "GLOO_SOCKET_IFNAME": self._ends[rank]}
        flags = ["--master", "10.77.0.1:29600", "--nnodes", "2", "--nproc_per_node", "1", "--rank", str(rank),
                 "--host", f"10.77.0.{rank + 1}", "--job_id", out.name]  # fmt: skip
        return Node(["ip", "netns", "exec", self._names[rank]], out, rank, environment, flags)

    def disconnect(self) -> None:
        """Cut the connection of the two namespaces."""
        _ip("-n", self._names[1], "link", "set", self._ends[1], "down")

    def connect(self) -> None:
        """Restore the connection."""
        _ip("-n", self._names[1], "link", "set", self._ends[1], "up")

    def remove(self) -> None:
        """Kill all processes in the namespaces, and delete them."""
        for name in self._names:
            for pid in subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split():
                subprocess.run(["kill", "-9", pid])
            _ip("netns", "del", name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
