"""H1, H2, V6: limits of the service, malformed requests, and clients that are slow."""

import base64
import io
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.deploy.serving.running_service import RunningService, running_service

from .serving import ENGINE, Caller, exported, form, in_threads, pictures

MAX_MEGABYTES = 100  # that the server grows by under the largest requests
SIDE = 32
SECONDS_TO_CLOSE = 10.0
HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\n"


def talk(port: int, data: bytes, seconds: float = 30.0) -> bytes:
    """Send bytes on a connection of their own, close its sending half after a moment, and read all."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        try:
            connection.sendall(data)
            while block := connection.recv(1 << 16):
                answer += block
                if b"\r\n\r\n" in answer and _is_whole(answer):
                    break
        except OSError:
            pass
    return answer


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return not lengths or len(body) >= int(lengths[0].partition(b":")[2])


def status_of(answer: bytes) -> int:
    """Status of a raw answer; 0 where there is none."""
    words = answer.split(b" ", 2)
    return int(words[1]) if answer.startswith(b"HTTP/1.1 ") and words[1].isdigit() else 0


def megabytes(pid: int, entry: str = "VmHWM") -> float:
    """The largest resident memory of a process so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry)) / 1024


# --- H1 -------------------------------------------------------------------------------------------------------------


def limits() -> Iterator[tuple[str, Callable[[RunningService], int], int]]:
    """Name of a limit, a function that goes beyond it and returns the status, and the status of the promise."""
    big, one = b"\xff\xd8" + bytes((16 << 20) - 1), pictures(1, 0)[0]
    black = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(black, "PNG")
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"100000\r\n" + bytes(1 << 20) + b"\r\n") * 17
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 3, SIDE, SIDE]}

    def post(body: bytes, headers: dict | None = None, path: str = "/predict") -> Callable[[RunningService], int]:
        return lambda service: service.request("POST", path, body, headers)[0]

    def raw(data: bytes) -> Callable[[RunningService], int]:
        return lambda service: status_of(talk(service.port, data))

    def infer(fields: dict | bytes) -> Callable[[RunningService], int]:
        body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        return lambda service: service.request("POST", f"/v2/models/{service.model}/infer", body)[0]

    yield "body", raw(HEAD + b"Content-Length: %d\r\n\r\n" % len(big)), 413
    yield "body, chunked", raw(chunked), 413
    yield "body, negative length", raw(HEAD + b"Content-Length: -5\r\n\r\n"), 400
    yield "body, two lengths", raw(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"), 400
    yield (
        "body, length and chunks",
        raw(HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        400,
    )
    yield "header of 40 kB", raw(b"GET /model HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n"), 431
    yield "header without an end", raw(b"GET /model HTTP/1.1\r\nX: " + b"x" * 200_000), 431
    yield "path of 40 kB", raw(b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"), 431
    yield "33 images", post(*form([one] * 33)), 413
    yield "pixels", post(black.getvalue()), 422
    yield "no image", post(b"\0" * 1000), 422
    yield "content type", post(one, {"Content-Type": "text/plain"}), 415
    yield "address in JSON", post(b'{"url": "http://127.0.0.1/"}', {"Content-Type": "application/json"}), 415
    yield "JSON, depth", infer(b'{"inputs":' + b"[" * 5000 + b"]" * 5000 + b"}"), 400
    yield "JSON, items", infer(b"[" + b"0," * 1_200_000 + b"0]"), 413
    yield "JSON, digits", infer(b'{"inputs": ' + b"9" * 10_000 + b"}"), 400
    yield "JSON, nan", infer({"inputs": [{**tensor, "data": [float("nan")] * (3 * SIDE * SIDE)}]}), 400
    yield "shape, huge", infer({"inputs": [{**tensor, "shape": [2**30, 3, SIDE, SIDE], "data": [0]}]}), 413
    yield "shape, other", infer({"inputs": [{**tensor, "shape": [1, 3, 31, 33], "data": [0]}]}), 400
    yield "model", infer_other_model, 404
    yield "method", lambda service: service.request("DELETE", "/predict")[0], 405


def infer_other_model(service: RunningService) -> int:
    """Ask for a path outside the models."""
    return service.request("GET", "/v2/models/..%2f..%2fetc%2fpasswd")[0]


def h1(cases: int, seed: int) -> dict:
    """Go beyond every limit, then send `cases` largest requests at once, four times as many as memory is kept for."""
    broken, statuses = [], Counter()
    photo = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (1300, 1300, 3), np.uint8)
    Image.fromarray(noise).save(photo, "PNG")
    body = photo.getvalue() + bytes((16 << 20) - len(photo.getvalue()))
    with running_service(exported(), *ENGINE) as service:
        for name, go_beyond, expected in limits():
            status = go_beyond(service)
            if status != expected:
                broken.append(f"{name}: {status}, expected {expected}")
        [engine] = service.engine_pids
        service.request("POST", "/predict", pictures(1, seed)[0])
        before = megabytes(service.process.pid, "VmRSS")

        def ask(_: int) -> None:
            caller = Caller(service.port)
            statuses[caller.send("POST", "/predict", body)[0]] += 1
            caller.close()

        for thread in in_threads(cases, ask):
            thread.join()
        grown = megabytes(service.process.pid) - before
        of_engine = megabytes(engine)
        if grown > MAX_MEGABYTES:
            broken.append(f"the server has grown by {grown:.0f} MB")
        # 0: a client that still sends sees the connection closed, and not the refusal
        if set(statuses) - {200, 408, 503, 0}:
            broken.append(f"the largest requests: {dict(statuses)}")
        if (status := service.request("POST", "/predict", body)[0]) != 200:
            broken.append(f"the largest request alone: {status}")
        if service.engine_pids != [engine] or service.request("GET", "/v2/health/ready")[0] != 200:
            broken.append("not ready at the end, or another engine")
    return {
        "cases": cases,
        "broken": len(broken),
        "limits": sum(1 for _ in limits()),
        "answered": statuses[200],
        "refused": statuses[503] + statuses[408],
        "closed": statuses[0],
        "megabytes_grown": round(grown),
        "megabytes_of_engine": round(of_engine),
        "details": broken[:10],
    }


# --- H2 -------------------------------------------------------------------------------------------------------------


def flip(rng: random.Random, data: bytes, count: int = 8) -> bytes:
    """Change, remove, repeat or insert some bytes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, count)):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] = rng.randrange(256)
        elif kind == 1:
            del changed[at : at + rng.randint(1, 20)]
        elif kind == 2:
            changed[at:at] = changed[at : at + rng.randint(1, 20)]
        else:
            changed[at:at] = rng.randbytes(rng.randint(1, 4))
        changed = changed or bytearray(b"x")
    return bytes(changed)


NUMBERS = (0, -1, 1, 2**31, 2**63, 2**70, 1.5, -0.0, 1e308)
SHAPES = ([], [[]], [None], [0], [-1, 3, SIDE, SIDE], [1, 3, SIDE, SIDE])
OBJECTS = ({}, {"binary_data_size": -1}, {"classification": 99})
VALUES = (None, True, False, *NUMBERS, "", "x", "input", "FP32", "BYTES", *SHAPES, *OBJECTS)


def lie(rng: random.Random, value: object) -> object:
    """Replace, remove or repeat parts of a JSON value."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        choice = rng.random()
        if choice < 0.15:
            return {name: item for name, item in value.items() if name != key}
        if choice < 0.25:
            return {**value, rng.choice(("x", "data", "parameters", "shape", "id")): rng.choice(VALUES)}
        return {**value, key: lie(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(min(len(value), 5))
        choice = rng.random()
        if choice < 0.2:
            return value[:at]
        if choice < 0.3:
            return value + value[:5]
        return [*value[:at], lie(rng, value[at]), *value[at + 1 :]]
    return rng.choice(VALUES)


class Malformed:
    """Draws malformed requests of every kind: a method, path, body and headers, or raw bytes."""

    def __init__(self, model: str, seed: int):
        self._rng, self._files, self._infer = random.Random(seed), pictures(20, seed), f"/v2/models/{model}/infer"
        data = [0.5] * (3 * SIDE * SIDE)
        self._tensor = {"name": "input", "datatype": "FP32", "shape": [1, 3, SIDE, SIDE], "data": data}
        text = base64.b64encode(self._files[0]).decode()
        self._image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}

    def draw(self) -> tuple[str, tuple | bytes]:
        """Kind of the request, and the arguments of `Caller.send`, or the bytes for `talk`."""
        kind = self._rng.choice(("raw", "http", "picture", "form", "json", "lie", "binary", "query", "path", "header"))
        return kind, getattr(self, f"_{kind}")()

    def _body(self) -> dict:
        return {"inputs": [self._rng.choice((self._tensor, self._image))], "outputs": [{"name": "logits"}], "id": "1"}

    def _raw(self) -> bytes:
        return self._rng.randbytes(self._rng.randint(1, 300)) + b"\r\n\r\n"

    def _http(self) -> bytes:
        request = HEAD + b"Content-Length: 4\r\nConnection: close\r\n\r\nabcd"
        return flip(self._rng, request) + b"\r\n\r\n"

    def _picture(self) -> tuple:
        return "POST", "/predict", flip(self._rng, self._rng.choice(self._files), 40)

    def _form(self) -> tuple:
        body, headers = form(self._rng.sample(self._files, 2))
        end = self._rng.choice((len(body), self._rng.randrange(len(body))))
        return "POST", "/predict", flip(self._rng, body[:end] or b"x"), headers

    def _json(self) -> tuple:
        return "POST", self._infer, flip(self._rng, json.dumps(self._body()).encode())

    def _lie(self) -> tuple:
        return "POST", self._infer, json.dumps(lie(self._rng, self._body())).encode()

    def _binary(self) -> tuple:
        rng = self._rng
        size = rng.choice((0, 4, 4 * 3 * SIDE * SIDE, 4 * 3 * SIDE * SIDE - 1, -1, 2**40))
        given = {"name": "input", "datatype": "FP32", "shape": [1, 3, SIDE, SIDE]}
        given["parameters"] = {"binary_data_size": size}
        head = json.dumps(lie(rng, {"inputs": [given]}) if rng.random() < 0.3 else {"inputs": [given]}).encode()
        tail = rng.randbytes(min(max(size, 0), 20_000))
        length = rng.choice((len(head), len(head) - 1, 0, -1, 10**12, "x"))
        return "POST", self._infer, head + tail, {"Inference-Header-Content-Length": str(length)}

    def _query(self) -> tuple:
        letters = self._rng.choices("abc=&?%top_kmodel0123456789+;", k=20)
        return "POST", "/predict?top_k=" + "".join(letters), self._files[0]

    def _path(self) -> tuple:
        words = (
            "v2",
            "models",
            "..",
            "%2e%2e",
            "%00",
            "ready",
            "infer",
            "versions",
            "1",
            "predict",
            "%ff",
            "",
            "a" * 300,
        )
        path = "/" + "/".join(self._rng.choices(words, k=self._rng.randint(1, 6)))
        return self._rng.choice(("GET", "POST", "PUT", "OPTIONS", "HEAD")), path, b"x"

    def _header(self) -> tuple:
        name = self._rng.choice(
            ("Content-Type", "Content-Encoding", "Accept", "X-Request-ID", "Authorization", "Expect")
        )
        value = "".join(
            self._rng.choices("abc/;=,\"' multipart/form-data;boundary=gzip-image", k=self._rng.randint(1, 60))
        )
        return "POST", "/predict", flip(self._rng, self._files[1]), {name: value.strip() or "x"}


def h2(cases: int, seed: int) -> dict:
    """Send malformed requests; each has an answer below 500, or its connection is closed, and the service stays up."""
    kinds, statuses, broken = Counter(), Counter(), []
    with running_service(exported(), *ENGINE) as service:
        [engine] = service.engine_pids
        lock, left = threading.Lock(), iter(range(cases))

        def ask(thread: int) -> None:
            malformed, caller = Malformed(service.model, seed * 1000 + thread), Caller(service.port)
            while True:
                with lock:
                    if next(left, None) is None:
                        return caller.close()
                kind, request = malformed.draw()
                if isinstance(request, bytes):
                    status = status_of(talk(service.port, request))
                else:
                    status, _ = caller.send(*request)
                with lock:
                    kinds[kind] += 1
                    statuses[status] += 1
                    if status >= 500 or (status == 0 and not isinstance(request, bytes)):
                        broken.append(f"{kind}: {status}: {str(request)[:200]}")

        for thread in in_threads(4, ask):
            thread.join()
        faults = [line for line in service.lines if line["event"] in ("fault", "log", "engine_ended")]
        broken += [str(line)[:500] for line in faults]
        if service.engine_pids != [engine] or service.request("GET", "/v2/health/ready")[0] != 200:
            broken.append("not ready at the end, or another engine")
    by_class = Counter(f"answers_{status // 100}xx" if status else "closed" for status in statuses.elements())
    return {
        "cases": sum(kinds.values()),
        "broken": len(broken),
        "kinds": len(kinds),
        **by_class,
        "details": broken[:10],
    }


# --- V6 -------------------------------------------------------------------------------------------------------------


def v6(cases: int, seed: int) -> dict:
    """Half of `cases` connections dribble a header, the others a body, while a good client is measured."""
    file, closed, broken = pictures(1, seed)[0], [], []
    with running_service(exported(), *ENGINE) as service:
        idle = latencies(service, file, 3.0)
        is_over = threading.Event()

        def dribble(number: int) -> None:
            start = time.monotonic()
            with socket.create_connection(("127.0.0.1", service.port), timeout=0.5) as connection:
                try:
                    if number % 2:
                        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
                    while not is_over.is_set():
                        connection.sendall(b"G")
                        try:
                            if not connection.recv(1 << 16):
                                break
                        except TimeoutError:
                            continue
                except OSError:
                    pass
            closed.append(time.monotonic() - start)

        threads = in_threads(cases, dribble)
        during = latencies(service, file, SECONDS_TO_CLOSE)
        deadline = time.monotonic() + 5
        while len(closed) < cases and time.monotonic() < deadline:
            time.sleep(0.05)
        num_closed = len(closed)
        is_over.set()
        for thread in threads:
            thread.join()
        if num_closed < cases or max(closed) > SECONDS_TO_CLOSE + 1:  # a second for the threads of this client
            broken.append(f"{num_closed} of {cases} closed, the last after {max(closed):.1f} s")
        if service.request("GET", "/v2/health/ready")[0] != 200:
            broken.append("not ready at the end")
    return {
        "cases": cases,
        "broken": len(broken),
        "longest_seconds": round(max(closed), 1),
        "p99_ms_idle": round(1000 * float(np.percentile(idle, 99)), 1),
        "p99_ms_during": round(1000 * float(np.percentile(during, 99)), 1),
        "details": broken,
    }


def latencies(service: RunningService, file: bytes, seconds: float) -> list[float]:
    """Seconds of each answer to one client for some time; every answer is good."""
    caller, measured, end = Caller(service.port), [], time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        status, answer = caller.send("POST", "/predict", file)
        assert status == 200, answer
        measured.append(time.monotonic() - start)
        time.sleep(0.01)
    caller.close()
    return measured
