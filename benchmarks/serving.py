"""Measures the service side by side: batches against one by one, and LitServe with the same ONNX program.

python -m benchmarks.serving EXPORTED --picture photo.jpg [--litserve_python lit/bin/python]

The server runs on one processor and the clients on another; the contenders take turns, so a busy machine slows all.
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "yaml")

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.flags import add_results_flag
from benchmarks.record import processor, record
from benchmarks.rotation import rotated
from common.cli import positive_int
from common.cli import run as run_program
from common.errors import DataError
from common.files import sha256_of_file

ROOT = Path(__file__).parents[1]
PEER = Path(__file__).with_name("serving_peer.py")
OURS = {"batches": (), "one by one": ("--max_batch_size", "1")}
SECONDS_TO_START = 60
OVERLOAD = 5  # times the capacity
# a form, since LitServe takes forms and JSON
HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=B\r\nContent-Length: %d\r\n\r\n"
)
FORM = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n%s\r\n--B--\r\n'
MAX_OPEN = 400  # connections of the clients


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
    parser.add_argument("--picture", type=Path, required=True, help="image file that every request sends")
    parser.add_argument("--litserve_python", help="of an environment as serving_peer.py says")
    parser.add_argument("--num_clients", type=positive_int, nargs="+", default=(1, 4, 16))
    parser.add_argument("--seconds", type=positive_int, default=10, help="of each measurement (%(default)s)")
    parser.add_argument("--num_rounds", type=positive_int, default=3, help="(%(default)s)")
    add_results_flag(parser)
    flags = parser.parse_args(argv)
    server_cpu, client_cpu = two_cpus()
    os.sched_setaffinity(0, {client_cpu})
    print(f"{processor()}, load {os.getloadavg()[0]:.1f}; server on {server_cpu}, clients on {client_cpu}")
    body = form_of(flags.picture.read_bytes())
    with contextlib.ExitStack() as stack:
        commands = {name: our_command(flags.exported, more) for name, more in OURS.items()}
        if flags.litserve_python:
            commands["LitServe"] = [flags.litserve_python, str(PEER), str(flags.exported)]
        servers = [stack.enter_context(start(name, command, server_cpu)) for name, command in commands.items()]
        results = measure(servers, body, flags.num_clients, flags.seconds, flags.num_rounds)
        print_table(results)
        peak = max(result.images_per_second for result in results if result.contender == "batches")
        overload = asyncio.run(overload_once(servers[0], body, OVERLOAD * peak, flags.seconds))
        overload["goodput_of_peak"] = overload["goodput_per_second"] / peak
        print(json.dumps(overload))
    record(
        "serving",
        flags.results,
        program=sha256_of_file(flags.exported / "model.onnx")[:12],
        request_bytes=len(body),
        results=[asdict(result) for result in results],
        overload=overload,
    )


def form_of(picture: bytes) -> bytes:
    """The body of a request with one file."""
    return FORM % picture


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
    flags = ["--engine", "onnxruntime", "--threads", "1", "--port", "0", *more]
    return [sys.executable, "-m", "deploy.serving", str(exported), *flags]


@contextlib.contextmanager
def start(name: str, command: Sequence[str], cpu: int) -> Iterator[Running]:
    """Start a server on one processor; its first line of JSON with a `url` says that it listens.

    Raises:
        DataError: it ended.
    """
    words, quiet = ["taskset", "-c", str(cpu), *command], subprocess.DEVNULL
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


async def closed_loop(port: int, body: bytes, num_clients: int, seconds: float) -> list[float]:
    """Seconds of every answer to clients that each ask again when they have their answer.

    Args:
        port: of the server.
        body: of each request.
        num_clients: at the same time.
        seconds: after which no client asks again.

    Raises:
        DataError: the server refuses a request.
    """
    end, latencies = time.monotonic() + seconds, []

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (start := time.monotonic()) < end:
            if await request(reader, writer, body) != 200:
                raise DataError(f"the server on port {port} refuses requests; fewer --num_clients")
            latencies.append(time.monotonic() - start)
        writer.close()

    await asyncio.gather(*(ask() for _ in range(num_clients)))
    return latencies


async def request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> int:
    """Send one request and read its answer; returns the status."""
    writer.write(HEAD % len(body) + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    lines = answer.lower().split(b"\r\n")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    return int(answer.split()[1])


async def overload_once(server: Running, body: bytes, rate: float, seconds: int) -> dict:
    """Send requests at a fixed rate, whatever the answers; then count how long the next one takes.

    Args:
        server: that is overloaded.
        body: of each request.
        rate: requests per second.
        seconds: of the overload.
    """
    statuses, latencies, idle = Counter(), {200: [], 503: []}, []
    before, number, tasks = memory_megabytes(server.process.pid), 0, set()

    async def ask() -> None:
        start = time.monotonic()
        try:
            reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", server.port)
            status = await request(reader, writer, body)
            idle.append((reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            status = 0
        statuses[status] += 1
        latencies.setdefault(status, []).append(time.monotonic() - start)

    start = time.monotonic()
    while (now := time.monotonic() - start) < seconds:
        while number < now * rate and len(tasks) < MAX_OPEN:
            task = asyncio.ensure_future(ask())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        number = max(number, int(now * rate))  # a client that is late does not make up for it
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    elapsed = time.monotonic() - start
    after = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await request(reader, writer, body)
    recovery = time.monotonic() - after
    for _, used in [*idle, (reader, writer)]:
        used.close()
    percentiles = {status: np.percentile(values, (50, 99)) * 1000 for status, values in latencies.items() if values}
    return {
        "asked_per_second": round(rate, 1),
        "goodput_per_second": statuses[200] / elapsed,
        "answered": statuses[200],
        "refused": statuses[503],
        "without_answer": statuses[0],
        "p50_p99_ms": {str(status): values.round(1).tolist() for status, values in percentiles.items()},
        "megabytes_grown": round(memory_megabytes(server.process.pid) - before, 1),
        "next_answer_ms": round(1000 * recovery, 1),
    }


def memory_megabytes(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def print_table(results: Sequence[Result]) -> None:
    """Print the results, by the number of clients."""
    print(f"{'':12s} {'clients':>7s} {'images/s':>9s} {'p50 ms':>8s} {'p99 ms':>8s}")
    for result in sorted(results, key=lambda result: (result.num_clients, result.contender)):
        numbers = f"{result.num_clients:7d} {result.images_per_second:9.1f} {result.p50_ms:8.1f} {result.p99_ms:8.1f}"
        print(f"{result.contender:12s} {numbers}")


if __name__ == "__main__":
    run_program(main)
