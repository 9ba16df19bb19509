"""V1, V4, V5: answers of the service are right under load, when it is stopped, and when its engine is killed."""

import atexit
import http.client
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.deploy.serving.running_service import RunningService, processes_left, running_service

from .job import ROOT

# a network whose answers differ from image to image, with 4 classes and images of 32 x 32
EXPORT = """
import sys
from pathlib import Path
from datasets.preprocess import Preprocess
from tests.deploy.varied_model import SIDE, export_model, make_model
export_model(make_model(), Path(sys.argv[1]), ("onnx",), Preprocess(input_size=SIDE))
"""
ENGINE = ("--engine", "onnxruntime", "--threads", "1")
TOLERANCE = 1e-5
IN_FLIGHT = 24  # requests at the moment of a SIGTERM
GRACE_SECONDS, SECONDS_TO_RETURN = 30, 10.0


@cache
def exported() -> Path:
    """Export the network, once in each process; it is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="faults-serving-")) / "exported"
    atexit.register(shutil.rmtree, folder.parent, ignore_errors=True)
    command = [sys.executable, "-W", "ignore", "-c", EXPORT, str(folder)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, check=True)
    return folder


def pictures(count: int, seed: int) -> list[bytes]:
    """Files of noise that differ from each other: PNG and JPEG of several sizes."""
    rng, files = np.random.default_rng(seed), []
    for number in range(count):
        height, width = rng.integers(20, 120, 2)
        tone = rng.integers(0, 256, (1, 1, 3))
        noise = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
        small = Image.fromarray(((tone + noise) // 2).astype(np.uint8))
        file = io.BytesIO()
        small.resize((int(width), int(height))).save(file, "PNG" if number % 2 else "JPEG")
        files.append(file.getvalue())
    return files


class Caller:
    """Sends requests on one connection, which it opens again when it was closed."""

    def __init__(self, port: int, seconds: float = 60.0):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)

    def send(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None) -> tuple[int, dict]:
        """Send one request: (status, JSON), the status 0 where there is no answer, and {} where it is no JSON."""
        try:
            self._connection.request(method, path, body, headers or {})
            response = self._connection.getresponse()
            text = response.read()
            is_json = response.headers.get("Content-Type", "").startswith("application/json") and text
            return response.status, json.loads(text) if is_json else {}
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, {}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def form(files: list[bytes]) -> tuple[bytes, dict]:
    """Body and headers of a form with these files."""
    head = b'--BB\r\nContent-Disposition: form-data; name="f"; filename="%d"\r\n\r\n'
    body = b"".join(head % number + data + b"\r\n" for number, data in enumerate(files)) + b"--BB--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=BB"}


def scores_of(record: dict) -> np.ndarray:
    """The probabilities of a record, by class."""
    scores = np.empty(len(record["scores"]))
    scores[record["class_ids"]] = record["scores"]
    return scores


def single_answers(service: RunningService, files: list[bytes]) -> list[np.ndarray]:
    """The probabilities of each file, asked for one after another."""
    caller, answers = Caller(service.port), []
    for file in files:
        status, answer = caller.send("POST", "/predict", file)
        assert status == 200, answer
        answers.append(scores_of(answer["predictions"][0]))
    caller.close()
    return answers


def in_threads(count: int, work: Callable[[int], None]) -> list[threading.Thread]:
    """Start threads, which are joined by the caller."""
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def v1(cases: int, seed: int) -> dict:
    """Compare concurrent answers, of single files and of forms, with those to the same files alone."""
    files = pictures(min(cases, 400), seed)
    wrong, asked, lock = [], Counter(), threading.Lock()
    with running_service(exported(), *ENGINE, "--max_queue", "200") as service:
        expected = single_answers(service, files)
        spread = float(np.ptp(np.stack(expected), axis=0).max())
        before = service.samples()

        def ask(thread: int) -> None:
            caller, rng = Caller(service.port), random.Random(f"{seed} {thread}")
            while True:
                with lock:
                    count = min(rng.choice((1, 1, 1, 5)), cases - asked["images"])
                    asked["images"] += count
                if count <= 0:
                    return caller.close()
                chosen = [rng.randrange(len(files)) for _ in range(count)]
                body, headers = (files[chosen[0]], {}) if count == 1 else form([files[i] for i in chosen])
                status, answer = caller.send("POST", "/predict", body, headers)
                records = answer.get("predictions", [])
                good = status == 200 and len(records) == count
                for i, record in zip(chosen, records, strict=False):
                    difference = np.abs(scores_of(record) - expected[i]).max()
                    with lock:
                        asked["largest"] = max(asked["largest"], difference)
                    good &= bool(difference <= TOLERANCE)
                if not good:
                    wrong.append(f"status {status}, files {chosen}")

        for thread in in_threads(16, ask):
            thread.join()
        after = service.samples()
    images = f'serving_batch_size_bucket{{le="1.0",model="{service.model}"}}'
    in_batches = cases - int(after[images] - before[images])
    return {
        "cases": cases,
        "broken": len(wrong) + (in_batches < cases // 10) + (spread < 0.1),  # batches, and answers that differ
        "images_in_batches": in_batches,
        "largest_difference": float(f"{asked['largest']:.1e}"),
        "details": wrong[:10],
    }


class Sent(NamedTuple):
    """A request: when its last byte was sent, and the status of its answer (0: none)."""

    seconds: float
    status: int


def v4(cases: int, seed: int) -> dict:
    """Send SIGTERM at a random moment while 24 clients send requests without a pause."""
    rng, files, totals, broken = random.Random(seed), pictures(20, seed), Counter(), []
    for case in range(cases):
        with running_service(exported(), *ENGINE, "--grace_seconds", str(GRACE_SECONDS)) as service:
            pids = [service.process.pid, *service.all_pids]
            sent, is_over = [], threading.Event()

            def ask(number: int, port=service.port, sent=sent, is_over=is_over) -> None:
                caller = Caller(port)
                while not is_over.is_set():
                    last_byte = time.monotonic()
                    status, _ = caller.send("POST", "/predict", files[number % len(files)])
                    sent.append(Sent(last_byte, status))
                    if status != 200:
                        return

            threads = in_threads(IN_FLIGHT, ask)
            time.sleep(rng.uniform(0.3, 0.8))
            signalled = time.monotonic()
            code = service.stop(GRACE_SECONDS + 20)
            seconds = time.monotonic() - signalled
            is_over.set()
            for thread in threads:
                thread.join()
            orphans = processes_left(pids)
        # a request needs a moment from the client to the service
        lost = sum(1 for one in sent if one.seconds < signalled - 0.005 and one.status == 0)
        totals["answered"] += sum(one.status == 200 for one in sent)
        totals["refused"] += sum(one.status == 503 for one in sent)
        totals["lost"] += lost
        totals["slowest"] = max(totals["slowest"], round(seconds, 1))
        if code != 0 or lost or orphans or seconds > GRACE_SECONDS:
            broken.append(f"case {case}: exit {code} after {seconds:.1f} s, {lost} lost, processes {orphans}")
    return {"cases": cases, "broken": len(broken), **totals, "details": broken[:10]}


def v5(cases: int, seed: int) -> dict:
    """Kill the engine process again and again while 8 clients send requests, whose answers are known."""
    files, rng = pictures(50, seed), random.Random(seed)
    broken, statuses, is_over, away = [], Counter(), threading.Event(), []
    with running_service(exported(), *ENGINE) as service:
        expected = single_answers(service, files)

        def ask(number: int) -> None:
            caller, own = Caller(service.port), random.Random(number)
            while not is_over.is_set():
                i = own.randrange(len(files))
                status, answer = caller.send("POST", "/predict", files[i])
                statuses[status] += 1
                if status == 200:
                    if np.abs(scores_of(answer["predictions"][0]) - expected[i]).max() > TOLERANCE:
                        broken.append(f"a wrong answer for file {i}")
                elif status != 503:
                    broken.append(f"status {status}: {answer}")
                else:
                    time.sleep(0.02)

        threads = in_threads(8, ask)
        for case in range(cases):
            time.sleep(rng.uniform(0.1, 0.4))
            [pid] = service.engine_pids
            os.kill(pid, signal.SIGKILL)
            start = time.monotonic()
            service.wait_for("engine_ended", count=case + 1)
            service.wait_for("engine_started", 60, count=case + 1)
            away.append(time.monotonic() - start)
            if away[-1] > SECONDS_TO_RETURN:
                broken.append(f"kill {case}: away for {away[-1]:.1f} s")
        is_over.set()
        for thread in threads:
            thread.join()
        if service.request("GET", "/v2/health/ready")[0] != 200 or service.stop() != 0:
            broken.append("not ready at the end, or it did not stop")
    return {
        "cases": cases,
        "broken": len(broken),
        "answered": statuses[200],
        "refused": statuses[503],
        "longest_away_seconds": round(max(away), 1),
        "details": broken[:10],
    }
