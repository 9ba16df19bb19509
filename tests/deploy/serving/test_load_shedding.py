"""Load shedding: requests that have no place are refused before they are parsed, and connections stay in order."""

import asyncio
import json
import time
from types import SimpleNamespace

import pytest

from deploy.serving.errors import ServingError
from deploy.serving.limits import Limits
from deploy.serving.load_shedding import LoadShedder, Refusal
from deploy.serving.workers import engine as engine_module
from deploy.serving.workers.engine import Engine, Place
from deploy.serving.workers.worker import WorkerSettings

from .service_in_thread import service_in_thread
from .test_limits import read_answer, status_of, talk

LIMITS = Limits(max_body_bytes=10_000, max_header_bytes=2000, idle_seconds=0.5, body_seconds=0.3)
REQUEST = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
PATHS = {"/predict": "/predict", "/v2/models/{name}/infer": "/v2/models/one/infer"}
HEALTH = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def running():
    with service_in_thread(LIMITS) as service:
        yield service


@pytest.fixture
def busy(running):
    running.engine.is_busy = True
    yield running
    running.engine.is_busy = False


@pytest.mark.parametrize(
    ("request_line", "route"),
    [
        (b"POST /predict HTTP/1.1", "/predict"),
        (b"POST /predict?top_k=2 HTTP/1.1", "/predict"),
        (b"POST /v2/models/one/infer HTTP/1.1", "/v2/models/{name}/infer"),
    ],
)
def test_a_plain_request_is_refused_before_it_is_parsed(busy, request_line, route, monkeypatch, capsys):
    monkeypatch.setattr("h11.Connection.receive_data", None)  # would fail
    name = f'serving_requests_total{{route="{route}",status="503"}}'
    before = busy.samples().get(name, 0)
    with busy.connect() as connection:
        connection.sendall(
            request_line + b"\r\nHost: a\r\nX-Request-ID: a1\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc"
        )
        answer = read_answer(connection)
    assert status_of(answer) == 503
    assert b"retry-after: 3\r\n" in answer and b"x-request-id: a1\r\n" in answer
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert set(body) == {"error", "status", "kind", "request_id"} and body["kind"] == "busy"
    assert busy.samples()[name] == before + 1
    [line] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (
        line["request_id"] == "a1" and line["status"] == 503 and line["kind"] == "busy" and line["path"] == PATHS[route]
    )
    assert line["client"] == "127.0.0.1"


def test_the_parsed_refusal_is_the_same(busy):
    with busy.connect() as connection:
        answers = []
        for more in (b"", b"Connection: keep-alive, x\r\n"):  # the second is parsed
            connection.sendall(REQUEST.replace(b"Content", b"X-Request-ID: a\r\n" + more + b"Content"))
            answers.append(read_answer(connection))
    heads, bodies = zip(*(answer.split(b"\r\n\r\n") for answer in answers), strict=True)
    assert json.loads(bodies[0]) == json.loads(bodies[1])
    parsed, shed = (set(head.lower().split(b"\r\n")[1:]) for head in reversed(heads))
    assert {line for line in parsed ^ shed if not line.startswith((b"content-length", b"date"))} == set()


TO_BE_PARSED = {
    "another method": REQUEST.replace(b"POST", b"PUT"),
    "another path": REQUEST.replace(b"/predict", b"/predictions"),
    "another query": REQUEST.replace(b"/predict", b"/predict?model=two"),
    "another model": REQUEST.replace(b"/predict", b"/v2/models/two/infer"),
    "no such model": REQUEST.replace(b"/predict", b"/v2/models/three/infer"),
    "HTTP/1.0": REQUEST.replace(b"/1.1", b"/1.0"),
    "no host": REQUEST.replace(b"Host", b"Guest"),
    "no length": REQUEST.replace(b"Content-Length", b"Content-Size"),
    "a length of two numbers": REQUEST.replace(b" 3", b" 3, 3"),
    "a length that is no number": REQUEST.replace(b" 3", b" +3"),
    "two lengths": REQUEST.replace(b"Host: a", b"Host: a\r\nContent-length: 4"),
    "chunks": REQUEST.replace(b"Host: a", b"Host: a\r\nTransfer-Encoding: chunked"),
    "a client that waits": REQUEST.replace(b"Host: a", b"Host: a\r\nExpect: 100-continue"),
    "the last request": REQUEST.replace(b"Host: a", b"Host: a\r\nConnection: close"),
    "a folded line": REQUEST.replace(b"Host: a", b"Host: a\r\n b: c"),
    "a space before the colon": REQUEST.replace(b"Host:", b"Host :"),
    "line ends without CR": REQUEST.replace(b"\r\n", b"\n"),
    "letters outside ASCII": REQUEST.replace(b"Host: a", b"Host: \xe9"),
    "half a head": REQUEST[:40],
    "a body that is too large": REQUEST.replace(b" 3", b" 10001"),
    "headers that are too large": REQUEST.replace(b"Host: a", b"Host: a\r\nX: " + b"x" * 2000),
}


@pytest.mark.parametrize("case", TO_BE_PARSED)
def test_other_requests_are_parsed(busy, case):
    shedder = LoadShedder(busy.service)
    assert not isinstance(busy.call(shedder.admit, TO_BE_PARSED[case], "a"), Refusal)
    assert busy.call(shedder.admit, REQUEST, "a").num_body_bytes == 3


def test_nothing_is_refused_while_there_is_a_place_and_while_the_service_stops(busy):
    shedder = LoadShedder(busy.service)
    busy.service.is_draining = True
    try:
        assert busy.call(shedder.admit, REQUEST, "a") is None
    finally:
        busy.service.is_draining = False
    busy.engine.is_busy = False
    place = busy.call(shedder.admit, REQUEST, "a")
    assert isinstance(place, Place)
    place.release()


def test_a_wrong_token_is_no_busy_service(tmp_path):
    (tmp_path / "tokens").write_text("first-token-of-all\n")
    with service_in_thread(LIMITS, str(tmp_path / "tokens")) as service:
        service.engine.is_busy = True
        for token, status in ((b"first-token-of-all", 503), (b"other-token-of-all", 401)):
            with service.connect() as connection:
                connection.sendall(REQUEST.replace(b"Host", b"Authorization: Bearer " + token + b"\r\nHost"))
                assert status_of(read_answer(connection)) == status


@pytest.mark.parametrize("num_bytes", [1, 7, 60, 1000])
def test_answers_come_in_order_however_requests_are_cut(busy, num_bytes):
    """Five requests behind each other, refused and parsed ones in turn."""
    sent = REQUEST + HEALTH + REQUEST + REQUEST + HEALTH
    statuses = []
    with busy.connect() as connection:
        for start in range(0, len(sent), num_bytes):
            connection.sendall(sent[start : start + num_bytes])
            if num_bytes > 1:
                time.sleep(0.001)
        received = b""
        while received.count(b"HTTP/1.1") < 5 or not received.endswith(b"}"):
            received += connection.recv(65536)
    statuses = [int(part.split()[0]) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [503, 200, 503, 503, 200]


def test_the_rest_of_a_refused_body_must_arrive_in_time(busy):
    answer, seconds = talk(busy, REQUEST.replace(b" 3", b" 30"), *[b"x"] * 8, pause=0.1)
    assert status_of(answer) == 503 and 0.2 < seconds < 2.5


def test_a_connection_after_a_refusal_is_closed_after_its_idle_time(busy):
    answer, seconds = talk(busy, REQUEST)
    assert status_of(answer) == 503 and 0.4 < seconds < 2.5


def test_the_next_request_of_a_refused_client_is_answered(busy):
    with busy.connect() as connection:
        connection.sendall(REQUEST[:-1])
        assert status_of(read_answer(connection)) == 503
        busy.engine.is_busy = False
        connection.sendall(b"c" + REQUEST)
        assert read_answer(connection).startswith(b"HTTP/1.1 200")


def engine_with(num_waiting: int, max_queue: int) -> Engine:
    """An engine whose process has some images and answers none."""
    engine = Engine(WorkerSettings("nowhere"), max_queue=max_queue, on_event=lambda *_: None)
    engine._process = SimpleNamespace(num_waiting=num_waiting)
    return engine


def test_a_request_keeps_its_place_until_it_gives_it_back():
    engine = engine_with(num_waiting=1, max_queue=3)
    places = [engine.take_place() for _ in range(2)]
    with pytest.raises(ServingError) as caught:
        engine.take_place()
    assert (caught.value.status, caught.value.kind, caught.value.retry_after) == (503, "busy", 1)
    places[1].release()
    places[1].release()
    engine.take_place()
    with pytest.raises(ServingError):
        engine.take_place()


def test_a_place_ends_by_itself(monkeypatch):
    monkeypatch.setattr(engine_module, "SECONDS_OF_A_PLACE", 0.02)
    engine = engine_with(num_waiting=0, max_queue=1)
    engine.take_place()
    with pytest.raises(ServingError):
        engine.take_place()
    time.sleep(0.03)
    engine.take_place()


def test_without_an_engine_process_requests_are_told_to_come_later():
    engine = engine_with(num_waiting=0, max_queue=1)
    engine._process = None
    with pytest.raises(ServingError, match="engine_away"):
        engine.take_place()


@pytest.mark.parametrize(("num_arrived", "keeps_place"), [(0, False), (4000, False), (4096, True), (5000, True)])
def test_a_place_is_kept_for_a_body_that_arrives(running, monkeypatch, num_arrived, keeps_place):
    monkeypatch.setattr(running.service, "limits", Limits())
    request = REQUEST.replace(b" 3\r\n\r\nabc", b" 9000\r\n\r\n" + b"x" * num_arrived)
    place = LoadShedder(running.service).admit(request, "a")
    assert (place is not None) == keeps_place == bool(running.engine.places)
    running.engine.places.clear()
    assert LoadShedder(running.service).admit(REQUEST, "a") is not None  # the whole body
    running.engine.places.clear()


@pytest.mark.parametrize("end", ["answer", "error", "computing", "gone"])
def test_a_place_is_given_back(running, end):
    """By the images, which have places of their own; else by the end of the request."""
    engine = running.engine
    with running.connect() as connection:
        if end == "computing":
            engine.wait = asyncio.Event()
        body = b"" if end == "error" else b"abc"
        head = REQUEST[:-3].replace(b" 3", b" %d" % (9000 if end == "gone" else len(body)))
        connection.sendall(head + (b"x" * 5000 if end == "gone" else body))
        if end == "gone":
            while not running.call(lambda: dict(engine.places)):
                time.sleep(0.002)
        elif end == "computing":
            while not engine.num_waiting:
                time.sleep(0.002)
            assert not engine.places
            running.call(engine.wait.set)
            engine.wait = None
        if end != "gone":
            assert read_answer(connection).split()[1] == (b"400" if end == "error" else b"200")
    deadline = time.monotonic() + 5
    while running.call(lambda: dict(engine.places)):
        assert time.monotonic() < deadline
        time.sleep(0.002)
