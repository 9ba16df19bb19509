"""Measures the service side by side: batches against one by one, and LitServe with the same ONNX program.

python -m benchmarks.serving EXPORTED [--picture photo.jpg] [--litserve_python lit/bin/python]

The server runs on one processor and the clients on another; the contenders take turns, so a busy machine slows all.
After that our service gets five times the requests that it can answer, at a fixed rate, whatever it answers.
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "yaml")

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.flags import add_results_flag
from benchmarks.http_clients import Connection, closed_loop, connect, form_of, request_of
from benchmarks.pictures import draw_pictures
from benchmarks.record import record
from benchmarks.rotation import rotated
from common.cli import positive_int
from common.cli import run as run_program
from common.cpus import processor_name
from common.errors import DataError
from common.files import sha256_of_file
from common.processes import descendants

ROOT = Path(__file__).parents[1]
PEER = Path(__file__).with_name("serving_peer.py")
OURS = {"batches": (), "one by one": ("--max_batch_size", "1")}
SECONDS_TO_START = 60
OVERLOAD = 5  # times the capacity
MAX_OPEN = 400  # connections of the clients
RAMP_SECONDS = 2.0
SECONDS_TO_RECOVER = 10.0


class Running(NamedTuple):
    """A server that listens: its name, port and process."""

    name: str
    port: int
    process: subprocess.Popen


@dataclass(frozen=True)
class Result:
    """One contender with a number of clients, each of which waits for its answer before it asks again."""

    contender: str
    num_clients: int
    images_per_second: float
    p50_ms: float
    p99_ms: float


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("exported", type=Path, help="exported folder with model.onnx")
    parser.add_argument("--picture", type=Path, help="image file that every request sends (a drawn one)")
    parser.add_argument("--litserve_python", help="of an environment as serving_peer.py says")
    parser.add_argument("--engine", choices=("onnxruntime", "openvino"), default="onnxruntime", help="(%(default)s)")
    parser.add_argument("--num_server_cpus", type=int, choices=(1, 2), default=1, help="(%(default)s)")
    parser.add_argument("--num_clients", type=positive_int, nargs="+", default=(1, 4, 16))
    parser.add_argument("--seconds", type=positive_int, default=10, help="of each measurement (%(default)s)")
    parser.add_argument("--num_rounds", type=positive_int, default=3, help="(%(default)s)")
    add_results_flag(parser)
    flags = parser.parse_args(argv)
    cpus = two_cpus()
    server_cpus, client_cpu = cpus[: flags.num_server_cpus], cpus[1]
    os.sched_setaffinity(0, {client_cpu})
    print(f"{processor_name()}, load {os.getloadavg()[0]:.1f}; server on {server_cpus}, clients on {client_cpu}")
    with contextlib.ExitStack() as stack:
        body = form_of((flags.picture or draw_picture(stack)).read_bytes())
        common = ["--engine", flags.engine, "--threads", str(len(server_cpus))]
        commands = {name: our_command(flags.exported, [*common, *more]) for name, more in OURS.items()}
        if flags.litserve_python:
            commands["LitServe"] = [flags.litserve_python, str(PEER), str(flags.exported)]
        servers = [stack.enter_context(start(name, command, server_cpus)) for name, command in commands.items()]
        results = measure(servers, body, flags.num_clients, flags.seconds, flags.num_rounds)
        print_table(results)
        megabytes = {server.name: round(memory_megabytes(server.process.pid)) for server in servers}
        ours = [result for result in results if result.contender == "batches"]
        peak, normal = max(result.images_per_second for result in ours), min(result.p50_ms for result in ours) / 1000
        with stopped(servers[1:]):
            overload = asyncio.run(overload_once(servers[0], body, OVERLOAD * peak, flags.seconds, normal))
        overload["goodput_of_peak"] = round(overload["goodput_per_second"] / peak, 3)
        print(json.dumps({"megabytes": megabytes, **overload}))
    record(
        "serving",
        flags.results,
        model=flags.exported.name,
        program=sha256_of_file(flags.exported / "model.onnx")[:12],
        engine=flags.engine,
        num_server_cpus=len(server_cpus),
        request_bytes=len(body),
        results=[asdict(result) for result in results],
        megabytes=megabytes,
        overload=overload,
    )


def draw_picture(stack: contextlib.ExitStack) -> Path:
    """Draw a JPEG file of 500x375 pixels, which is removed at the end of `stack`."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    draw_pictures(folder, 1)
    return folder / "0" / "0.jpg"


def two_cpus() -> tuple[int, int]:
    """Processors for the server and for the clients.

    Raises:
        DataError: this process may use one processor alone.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise DataError("one processor: the server and the clients need one each")
    return cpus[0], cpus[1]


def our_command(exported: Path, more: Sequence[str]) -> list[str]:
    """The command line of our service."""
    return [sys.executable, "-m", "deploy.serving", str(exported), "--port", "0", *more]


@contextlib.contextmanager
def start(name: str, command: Sequence[str], cpus: Sequence[int]) -> Iterator[Running]:
    """Start a server on some processors; its first line of JSON with a `url` says that it listens.

    Raises:
        DataError: it ended.
    """
    words, quiet = ["taskset", "-c", ",".join(map(str, cpus)), *command], subprocess.DEVNULL
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=quiet, text=True, start_new_session=True)
    try:
        for line in process.stdout:
            if line.startswith("{") and (url := json.loads(line).get("url")):
                break
        else:
            raise DataError(f"{name} has ended: {' '.join(command)}")
        port = int(url.rpartition(":")[2])
        drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)  # the log of requests
        wait_until_open(port)
        yield Running(name, port, process)
        drain.kill()
        drain.wait()
    finally:
        process.terminate()
        process.wait()
        with contextlib.suppress(ProcessLookupError):  # LitServe's processes outlive the one that was started
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


def wait_until_open(port: int) -> None:
    """Wait until a port takes connections."""
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.1)


def measure(
    servers: Sequence[Running], body: bytes, num_clients: Sequence[int], seconds: int, num_rounds: int
) -> list[Result]:
    """Measure every server with every number of clients, in rotation; the first round warms up and is short.

    Args:
        servers: that run.
        body: of each request.
        num_clients: at the same time.
        seconds: of a measurement.
        num_rounds: rounds that count.
    """
    latencies = {(server.name, number): [] for server in servers for number in num_clients}
    for turn in range(num_rounds + 1):
        for number in num_clients:
            for server in rotated(list(servers), turn):
                with stopped(other for other in servers if other is not server):
                    measured = asyncio.run(closed_loop(server.port, body, number, seconds if turn else min(1, seconds)))
                latencies[server.name, number] += measured if turn else []
    return [
        Result(
            name,
            number,
            len(measured) / (seconds * num_rounds),
            *(1000 * np.percentile(measured, (50, 99))).round(2).tolist(),
        )
        for (name, number), measured in latencies.items()
    ]


@contextlib.contextmanager
def stopped(servers: Iterable[Running]) -> Iterator[None]:
    """Stop servers for a time: LitServe's processes poll and take a fifth of a processor while nobody asks them."""
    groups = [server.process.pid for server in servers]  # each is the first process of a session
    try:
        for group in groups:
            os.killpg(group, signal.SIGSTOP)
        yield
    finally:
        for group in groups:
            os.killpg(group, signal.SIGCONT)


async def overload_once(server: Running, body: bytes, rate: float, seconds: float, normal: float) -> dict:
    """Send requests at a fixed rate, whatever the answers; then one after another until the service is as before.

    Args:
        server: that is overloaded.
        body: of each request.
        rate: requests per second.
        seconds: of the overload that count, after `RAMP_SECONDS` in which the queue fills.
        normal: seconds of an answer without load.

    Returns:
        Counts, and milliseconds of the answers by their status.
    """
    request, latencies, idle, asking = request_of(body), defaultdict(list), [], set()
    megabytes = [memory_megabytes(server.process.pid)]

    def take(connection: Connection, status: int, latency: float) -> None:
        latencies[status].append(latency)
        asking.discard(connection)
        if connection.is_open:
            idle.append(connection)

    start, number, num_sent, end = time.monotonic(), 0, 0, RAMP_SECONDS + seconds
    before = 0  # answers while the queue filled
    while (now := time.monotonic() - start) < end:
        for _ in range(int(now * rate) - number):
            while idle and not idle[-1].is_open:
                idle.pop()
            if idle or len(asking) < MAX_OPEN:
                connection = idle.pop() if idle else await connect(server.port, take)
                asking.add(connection)
                connection.send(request)
                num_sent += 1
        number = int(now * rate)  # a client that is late does not make up for it
        if now > RAMP_SECONDS and len(megabytes) == 1:
            before = len(latencies[200])
            megabytes.append(memory_megabytes(server.process.pid))
        await asyncio.sleep(0.001)
    elapsed, answered = time.monotonic() - start - RAMP_SECONDS, len(latencies[200]) - before
    megabytes.append(memory_megabytes(server.process.pid))
    seconds_to_normal = await wait_for_normal(server.port, request, normal)
    while asking:
        await asyncio.sleep(0.01)
    for connection in idle:
        connection.close()
    percentiles = {status: np.percentile(values, (50, 99)) * 1000 for status, values in latencies.items() if values}
    return {
        "asked_per_second": round(num_sent / (elapsed + RAMP_SECONDS), 1),
        "goodput_per_second": round(answered / elapsed, 1),
        "answered": len(latencies[200]),
        "refused": len(latencies[503]),
        "without_answer": len(latencies[0]),
        "p50_p99_ms": {str(status): values.round(1).tolist() for status, values in percentiles.items()},
        "megabytes_before_ramp_end": [round(value, 1) for value in megabytes],
        "seconds_to_normal": round(seconds_to_normal, 2),
    }


async def wait_for_normal(port: int, request: bytes, normal: float) -> float:
    """Seconds until an answer to one client takes at most twice the `normal` seconds; at most 10."""
    start = time.monotonic()
    while (now := time.monotonic() - start) < SECONDS_TO_RECOVER:
        answer = asyncio.get_running_loop().create_future()
        connection = await connect(port, lambda _, status, latency, answer=answer: answer.set_result((status, latency)))
        connection.send(request)
        status, latency = await answer
        connection.close()
        if status == 200 and latency <= 2 * normal:
            return now
        await asyncio.sleep(0.02)
    return now


def memory_megabytes(pid: int) -> float:
    """Resident memory of a process and of those below it, without what they share."""
    pids = [pid, *(process.pid for process in descendants(pid))]
    texts = [Path(f"/proc/{each}/smaps_rollup").read_text() for each in pids]
    return sum(int(size) for text in texts for size in re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)) / 1024


def print_table(results: Sequence[Result]) -> None:
    """Print the results, by the number of clients."""
    print(f"{'':12s} {'clients':>7s} {'images/s':>9s} {'p50 ms':>8s} {'p99 ms':>8s}")
    for result in sorted(results, key=lambda result: (result.num_clients, result.contender)):
        numbers = f"{result.num_clients:7d} {result.images_per_second:9.1f} {result.p50_ms:8.1f} {result.p99_ms:8.1f}"
        print(f"{result.contender:12s} {numbers}")


if __name__ == "__main__":
    run_program(main)
