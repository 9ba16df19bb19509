"""V9: memory, descriptors and threads of the service during a long time of mixed traffic."""

import os
import random
import socket
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.deploy.serving.running_service import RunningService, running_service

from .serving import ENGINE, Caller, exported, form, pictures
from .serving_http import HEAD, Malformed, talk

REQUESTS_PER_SECOND = 5.0
SECONDS_BETWEEN_SAMPLES = 10.0
WARM_UP = 0.25  # of the time
MAX_MEGABYTES_PER_TEN_MINUTES, MAX_MEGABYTES = 1.0, 10.0  # of the slope, and between the ends of a short run


class Sample(NamedTuple):
    """What the server and its engine process together have at a time."""

    seconds: float
    megabytes: float
    num_descriptors: int
    num_threads: int


def sample(service: RunningService, start: float) -> Sample:
    """Look at the processes now."""
    pids, megabytes, descriptors, threads = [service.process.pid, *service.engine_pids], 0.0, 0, 0
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in status)
        megabytes += int(fields["VmRSS"].split()[0]) / 1024
        threads += int(fields["Threads"])
        descriptors += len(os.listdir(f"/proc/{pid}/fd"))
    return Sample(time.monotonic() - start, megabytes, descriptors, threads)


def v9(cases: int, seed: int) -> dict:
    """Send good, malformed and broken-off requests at a low rate, and compare what the processes have over the time."""
    rng, files, statuses, samples = random.Random(seed), pictures(200, seed), Counter(), []
    with running_service(exported(), *ENGINE) as service:
        malformed, caller, start = Malformed(service.model, seed), Caller(service.port), time.monotonic()
        [engine] = service.engine_pids
        for case in range(cases):
            time.sleep(max(0.0, start + case / REQUESTS_PER_SECOND - time.monotonic()))
            if not samples or time.monotonic() - start > len(samples) * SECONDS_BETWEEN_SAMPLES:
                caller.close()  # so that the descriptors are those of the service alone
                time.sleep(0.2)
                samples.append(sample(service, start))
            kind = rng.choice(("one", "one", "one", "form", "malformed", "malformed", "gone"))
            if kind == "gone":
                _break_off(service.port, rng.choice(files), rng)
                statuses["broken off"] += 1
                continue
            if kind == "malformed":
                _, request = malformed.draw()
            elif kind == "form":
                request = ("POST", "/predict", *form(rng.sample(files, rng.randint(1, 8))))
            else:
                request = ("POST", "/predict", rng.choice(files), {})
            if isinstance(request, bytes):
                talk(service.port, request)
                statuses["malformed HTTP"] += 1
            else:
                statuses[f"answers {caller.send(*request)[0] // 100}xx"] += 1
        caller.close()
        time.sleep(0.5)
        samples.append(sample(service, start))
        is_same_engine = service.engine_pids == [engine]
    steady = [one for one in samples if one.seconds >= WARM_UP * samples[-1].seconds]
    first, last = steady[0], steady[-1]
    minutes = np.array([one.seconds for one in steady]) / 60
    slope = 10 * float(np.polyfit(minutes, [one.megabytes for one in steady], 1)[0]) if len(steady) > 10 else 0.0
    broken = [
        f"{name}: {before} before, {after} after"
        for name, before, after in (
            ("descriptors", first.num_descriptors, last.num_descriptors),
            ("threads", first.num_threads, last.num_threads),
        )
        if after > before
    ]
    if last.seconds > 600 and slope > MAX_MEGABYTES_PER_TEN_MINUTES:
        broken.append(f"memory grows by {slope:.2f} MB in ten minutes")
    if last.megabytes - first.megabytes > MAX_MEGABYTES:
        broken.append(f"memory has grown from {first.megabytes:.0f} to {last.megabytes:.0f} MB")
    if statuses["answers 5xx"] or statuses["answers 0xx"] or not statuses["answers 2xx"] or not is_same_engine:
        broken.append(f"answers: {dict(statuses)}, the same engine process: {is_same_engine}")
    return {
        "cases": cases,
        "broken": len(broken),
        "minutes": round(last.seconds / 60, 1),
        "megabytes": [round(first.megabytes, 1), round(last.megabytes, 1)],
        "megabytes_per_ten_minutes": round(slope, 3),
        "descriptors": [first.num_descriptors, last.num_descriptors],
        "threads": [first.num_threads, last.num_threads],
        **{name.replace(" ", "_"): count for name, count in statuses.items()},
        "details": broken,
    }


def _break_off(port: int, file: bytes, rng: random.Random) -> None:
    """Send a part of a request, or a whole one, and close the connection without waiting for the answer."""
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(file) + file
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request[: rng.choice((len(request), rng.randrange(len(request))))])
