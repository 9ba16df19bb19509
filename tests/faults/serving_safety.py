"""S7, S8: the service opens no connection, starts no program, and compares tokens in a time that tells nothing."""

import base64
import io
import json
import os
import random
import re
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

from deploy.serving.errors import ServingError
from deploy.serving.limits import Limits
from deploy.serving.metrics import Metrics
from deploy.serving.service import Service
from tests.deploy.serving.running_service import running_service

from .serving import ENGINE, Caller, exported, form, pictures
from .serving_http import Malformed, talk

CALLS = "connect,socket,execve,execveat"
TOKEN_LENGTH = 43  # letters of secrets.token_urlsafe()
MAX_T = 4.0  # of the slope; by chance 1 of 16,000 is larger


# --- S7 -------------------------------------------------------------------------------------------------------------


class Canary:
    """A port that counts who comes: the addresses in requests lead here."""

    def __init__(self):
        self.num_requests = 0
        canary = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                canary.num_requests += 1
                self.send_error(404)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/picture.jpg"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def luring(url: str, model: str, file: bytes) -> list[tuple]:
    """Requests, as `Caller.send` takes them, that would have an address fetched, a file opened or a program started."""
    text = {"Content-Type": "application/json"}
    infer, encoded = f"/v2/models/{model}/infer", base64.b64encode(url.encode()).decode()
    svg = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="{url}"/></svg>'.encode()
    entity = f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "{url}">]><svg>&b;</svg>'.encode()
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n"
    described = io.BytesIO()
    Image.new("RGB", (8, 8)).save(described, "JPEG", comment=url.encode())
    field = b'--BB\r\nContent-Disposition: form-data; name="url"\r\n\r\n' + url.encode() + b"\r\n--BB--\r\n"
    name = b'--BB\r\nContent-Disposition: form-data; name="f"; filename="' + url.encode() + b'"\r\n\r\n'

    def image(data: str) -> bytes:
        return json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [data]}]}).encode()

    return [
        ("POST", "/predict", json.dumps({"url": url, "image": url}).encode(), text),
        ("POST", "/predict", url.encode(), {}),
        ("POST", "/predict", b"/etc/passwd", {}),
        ("POST", "/predict", f"|wget {url}".encode(), {}),
        ("POST", "/predict", svg, {"Content-Type": "image/svg+xml"}),
        ("POST", "/predict", entity, {"Content-Type": "image/svg+xml"}),
        ("POST", "/predict", postscript, {"Content-Type": "image/x-eps"}),
        ("POST", "/predict", described.getvalue(), {"Referer": url, "X-Forwarded-Host": url, "Origin": url}),
        ("POST", f"/predict?url={url}", file, {}),
        ("POST", f"/predict?model={url}", file, {}),
        ("POST", "/predict", field, {"Content-Type": "multipart/form-data; boundary=BB"}),
        ("POST", "/predict", name + file + b"\r\n--BB--\r\n", {"Content-Type": "multipart/form-data; boundary=BB"}),
        ("POST", infer, image(encoded), text),
        ("POST", infer, image(url), text),
        ("POST", infer, json.dumps({"inputs": [{"name": "image", "parameters": {"url": url}}]}).encode(), text),
        ("POST", infer, json.dumps({"inputs": [{"parameters": {"shared_memory_region": "/x"}}]}).encode(), text),
        ("POST", "/v2/repository/models/x/load", json.dumps({"parameters": {"config": url}}).encode(), text),
        ("GET", "/v2/models/..%2f..%2fetc%2fpasswd", None, {}),
        ("GET", "/../../etc/passwd", None, {}),
        ("GET", f"/{url}", None, {}),
    ]


def s7(cases: int, seed: int) -> dict:
    """Trace the service during good, malformed and luring requests; count system calls that began after its start."""
    if not shutil.which("strace"):
        return {"cases": 0, "broken": 0, "skipped": "no strace on this machine"}
    folder, canary, rng = Path(tempfile.mkdtemp(prefix="faults-s7-")), Canary(), random.Random(seed)
    trace, files, statuses = folder / "trace", pictures(30, seed), Counter()
    prefix = ["strace", "-f", "-ttt", "-o", str(trace), "-e", f"trace={CALLS}"]
    with running_service(exported(), *ENGINE, prefix=prefix) as service:
        caller, malformed = Caller(service.port), Malformed(service.model, seed)
        lures = luring(canary.url, service.model, files[0])
        caller.send("POST", "/predict", files[0])
        start = time.time()
        for case in range(cases):
            kind = ("good", "form", "malformed", "luring")[case % 4]
            if kind == "luring":
                request = lures[case // 4 % len(lures)]
            elif kind == "malformed":
                _, request = malformed.draw()
            elif kind == "form":
                body, headers = form(rng.sample(files, 3))
                request = ("POST", "/predict", body, headers)
            else:
                request = ("POST", "/predict", rng.choice(files), {})
            if isinstance(request, bytes):
                talk(service.port, request)
            else:
                statuses[caller.send(*request)[0] // 100] += 1
        end = time.time()
        service.request("GET", "/v2/health/ready")
        os.kill(service.wait_for("listening")["process"], signal.SIGTERM)  # strace itself does not end by a signal
        service.process.wait(40)
    canary.close()
    calls = [
        (float(when), call) for when, call in re.findall(r"^\d+ +([\d.]+) (\w+)\(", trace.read_text(), re.MULTILINE)
    ]
    during = [call for when, call in calls if start <= when <= end]
    before = Counter(call for when, call in calls if when < start)
    shutil.rmtree(folder)
    is_traced = before["execve"] >= 2 and before["socket"] >= 1  # the server, its engine process, and the socket
    return {
        "cases": cases,
        "broken": len(during) + canary.num_requests + (not is_traced) + (not statuses[2]),
        "calls_during_requests": len(during),
        "fetched_addresses": canary.num_requests,
        "programs_started_before": before["execve"],
        "answers_2xx": statuses[2],
        "answers_4xx": statuses[4],
        "answers_5xx": statuses[5],
        "details": during[:10],
    }


# --- S8 -------------------------------------------------------------------------------------------------------------


def s8(cases: int, seed: int) -> dict:
    """Time wrong tokens whose first 0 to 42 letters are right; the time must not grow with the right letters.

    A comparison letter by letter is timed in the same way, as a control: its trend must be seen.
    """
    rng = random.Random(seed)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = "".join(rng.choices(letters, k=TOKEN_LENGTH))
    with tempfile.NamedTemporaryFile("w", suffix=".tokens") as file:
        file.write(token)
        file.flush()
        service = Service({}, Limits(), Metrics(), file.name)
    wrong = [(number % TOKEN_LENGTH, _wrong(token, number % TOKEN_LENGTH, rng, letters)) for number in range(cases)]
    rng.shuffle(wrong)
    accepted = 0

    def check(given: str) -> None:
        nonlocal accepted
        try:
            service.check_token(f"Bearer {given}")
            accepted += 1
        except ServingError:
            pass

    slope, t = _trend(wrong, check)
    control_slope, control_t = _trend(wrong, lambda given: all(a == b for a, b in zip(given, token, strict=True)))
    return {
        "cases": cases,
        "broken": accepted + (abs(t) > MAX_T) + (control_t < MAX_T),
        "accepted": accepted,
        "nanoseconds_per_right_letter": round(slope, 2),
        "t_of_the_slope": round(t, 1),
        "nanoseconds_per_right_letter_of_the_control": round(control_slope, 1),
        "t_of_the_control": round(control_t, 1),
    }


def _wrong(token: str, num_right: int, rng: random.Random, letters: str) -> str:
    other = rng.choice([letter for letter in letters if letter != token[num_right]])
    return token[:num_right] + other + "".join(rng.choices(letters, k=TOKEN_LENGTH - num_right - 1))


def _trend(wrong: list[tuple[int, str]], check) -> tuple[float, float]:
    """Nanoseconds per right letter by least squares, and how many standard errors that is from zero."""
    for _, given in wrong[:500]:  # warm up
        check(given)
    nanoseconds = []
    for _, given in wrong:
        times = []
        for _ in range(3):  # the fastest of three: what interrupts a measurement only adds
            start = time.perf_counter_ns()
            check(given)
            times.append(time.perf_counter_ns() - start)
        nanoseconds.append(min(times))
    x, y = np.array([right for right, _ in wrong], float), np.array(nanoseconds, float)
    y = np.minimum(y, np.percentile(y, 95))
    x -= x.mean()
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    error = float(np.sqrt(rest @ rest / (len(x) - 2) / (x @ x)))
    return slope, slope / error
