"""Limits of the service: bytes, seconds, connections, tokens; each has its status, and nothing hangs."""

import asyncio
import contextlib
import gzip
import hashlib
import json
import re
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UsageError
from deploy.serving import connections
from deploy.serving.errors import ServingError
from deploy.serving.limits import Limits
from deploy.serving.metrics import Metrics
from deploy.serving.service import Service, read_token_hashes

from .service_in_thread import ServiceInThread, service_in_thread

SMALL = Limits(
    max_body_bytes=1000,
    max_buffered_bytes=3000,
    max_header_bytes=2000,
    max_connections=6,
    head_seconds=0.3,
    idle_seconds=0.5,
    body_seconds=0.3,
    request_seconds=0.4,
)
HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module")
def service():
    with service_in_thread(SMALL) as running:
        yield running


def talk(service: ServiceInThread, *pieces: bytes, pause: float = 0.0) -> tuple[bytes, float]:
    """Send bytes and read until the service closes the connection: (answer, seconds)."""
    start, answer = time.monotonic(), b""
    with service.connect() as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        except OSError:
            pass
        try:
            while data := connection.recv(65536):
                answer += data
        except OSError:
            pass
    return answer, time.monotonic() - start


def read_answer(connection: socket.socket) -> bytes:
    """Read one answer of a connection that stays open."""
    answer = b""
    while not (match := re.search(rb"content-length: (\d+)(?s:.*?)\r\n\r\n", answer)):
        answer += connection.recv(65536)
    while len(answer) < match.end() + int(match[1]):
        answer += connection.recv(65536)
    return answer


def status_of(answer: bytes) -> int:
    """Status of a raw answer whose body has the form of errors."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert json.loads(body)["status"] == status
    return status


def test_a_body_that_is_too_large(service):
    assert service.request("POST", "/predict", b"x" * 1001).status == 413
    assert service.request("POST", "/predict", b"x" * 1000).status == 200


def test_a_chunked_body_that_is_too_large(service):
    chunks = b"".join(b"%x\r\n%s\r\n" % (500, b"x" * 500) for _ in range(4))
    answer, seconds = talk(service, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert status_of(answer) == 413 and seconds < 2


def test_a_compressed_body_that_becomes_too_large(service):
    reply = service.request("POST", "/predict", gzip.compress(b"x" * 10**6), content_encoding="gzip")
    assert reply.status == 413
    assert service.request("POST", "/predict", gzip.compress(b"xyz"), content_encoding="gzip").status == 200
    cut = gzip.compress(b"xyz")[:-9]
    assert service.request("POST", "/predict", cut, content_encoding="gzip").status == 400


def test_headers_that_are_too_large(service):
    assert service.request("GET", "/model", X="x" * 3000).status == 431
    answer, _ = talk(service, b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)
    assert status_of(answer) == 431


JUNK = {
    b"\0\1\2\r\n\r\n": 400,
    b"GET\r\n\r\n": 400,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 404,
    HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab": 400,
    HEAD + b"Content-Length: -1\r\n\r\n": 400,
    HEAD + b"Transfer-Encoding: gzip\r\n\r\n": 501,
    HEAD + b"Bad Header: 1\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\n\r\n": 400,  # no Host
}


@pytest.mark.parametrize("junk", JUNK)
def test_what_is_no_http(service, junk):
    answer, seconds = talk(service, junk)
    assert status_of(answer.partition(b"}")[0] + b"}") == JUNK[junk] and seconds < 1


def test_a_silent_connection_is_closed(service):
    answer, seconds = talk(service)
    assert answer == b"" and seconds < 2


def test_a_slow_header_is_closed_however_it_is_dribbled(service):
    answer, seconds = talk(service, *[b"G"] * 20, pause=0.1)
    assert answer == b"" and seconds < 2.5


def test_a_slow_body_is_refused(service):
    answer, seconds = talk(service, HEAD + b"Content-Length: 100\r\n\r\n", *[b"x"] * 10, pause=0.1)
    assert status_of(answer) == 408 and seconds < 2.5
    assert b"connection: close" in answer.lower()


def test_a_body_has_no_more_time_than_its_request():
    with service_in_thread(replace(SMALL, body_seconds=10.0)) as service:
        answer, seconds = talk(service, HEAD + b"Content-Length: 100\r\n\r\n", *[b"x"] * 10, pause=0.1)
    assert status_of(answer) == 408 and seconds < 3


def test_a_kept_connection_is_closed_after_its_idle_time_and_its_second_header_is_limited_too(service):
    request = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    answer, seconds = talk(service, request)
    assert answer.startswith(b"HTTP/1.1 200") and 0.4 < seconds < 3
    answer, seconds = talk(service, request + b"GE", *[b"T"] * 10, pause=0.1)
    assert answer.count(b"HTTP/1.1") == 1 and seconds < 2.5


def test_too_many_connections(service):
    held = [service.connect() for _ in range(6)]
    try:
        service.samples()  # all are accepted
        answer, _ = talk(service)
        assert status_of(answer) == 503 and b"retry-after: 1" in answer
    finally:
        for connection in held:
            connection.close()
    deadline = time.monotonic() + 5
    while not talk(service, b"GET /model HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")[0].startswith(
        b"HTTP/1.1 200"
    ):
        assert time.monotonic() < deadline


def connect_small(service: ServiceInThread) -> socket.socket:
    """A connection of which both sides buffer little, so that answers that are not read stay in the service."""
    for listening in service.server.servers[0].sockets:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # of the connections that come
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(20)
    client.connect(("127.0.0.1", service.port))
    return client


def wait_until_all_are_closed(service: ServiceInThread, answers: str, number: int) -> None:
    """Wait until the service has given a number of answers of a kind, and then until it has no connection."""
    deadline, state = time.monotonic() + 5, service.server.server_state
    while service.samples().get(answers, 0) < number or service.call(len, state.connections):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_clients_that_do_not_read_are_closed(monkeypatch):
    """One asks for many pages at once, one for a single page that is larger than what its connection buffers."""
    monkeypatch.setattr(connections, "SECONDS_TO_SEND", 0.2)
    page = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    with service_in_thread(SMALL) as service, connect_small(service) as many, connect_small(service) as single:
        many.sendall(page * 400)
        single.sendall(page)
        # a buffer takes more than one page
        wait_until_all_are_closed(service, 'serving_requests_total{route="/",status="200"}', 3)


def test_refusals_that_are_not_read_are_not_kept():
    """Each is written before its request is parsed, so nothing else stops the service from taking the next request."""
    with service_in_thread(SMALL) as service, connect_small(service) as client:
        service.engine.is_busy = True
        with contextlib.suppress(ConnectionError):
            client.sendall((HEAD + b"Content-Length: 0\r\n\r\n") * 2000)
        wait_until_all_are_closed(service, 'serving_requests_total{route="/predict",status="503"}', 1)


def test_all_bodies_together_are_limited(service):
    answers, event = [], asyncio.Event()
    service.engine.wait = event
    try:
        threads = [
            threading.Thread(target=lambda: answers.append(service.request("POST", "/predict", b"x" * 1000)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        while not answers:
            time.sleep(0.005)
        assert answers[0].status == 503 and answers[0].json["kind"] == "busy"
        assert answers[0].headers["Retry-After"] == "1"
    finally:
        service.call(event.set)
        service.engine.wait = None
        for thread in threads:
            thread.join()
    assert sorted(answer.status for answer in answers) == [200, 200, 200, 503]
    assert service.request("POST", "/predict", b"x" * 1000).status == 200


def test_where_memory_is_short_the_bodies_that_began_first_arrive(service):
    """Six clients send 900 of 1,000 bytes, of which three have place; the others are refused."""
    head = HEAD + b"Connection: close\r\nContent-Length: 1000\r\n\r\n"
    answers = []

    def send(connection: socket.socket) -> None:
        try:
            connection.sendall(b"x" * 100)
            answers.append(status_or_200(read_answer(connection)))
        finally:
            connection.close()

    connections = []
    for _ in range(6):
        connections.append(service.connect())
        connections[-1].sendall(head + b"x" * 900)
        service.samples()
    threads = [threading.Thread(target=send, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
        thread.join()
    assert answers == [200, 200, 200, 503, 503, 503]


def status_or_200(answer: bytes) -> int:
    return 200 if answer.startswith(b"HTTP/1.1 200") else status_of(answer)


def test_a_busy_engine_refuses_before_the_body_is_read(service):
    service.engine.is_busy = True
    try:
        with service.connect() as connection:
            start = time.monotonic()
            connection.sendall(HEAD + b"Content-Length: 900\r\n\r\n")
            answer = read_answer(connection)
            assert status_of(answer) == 503 and b"retry-after: 3" in answer and time.monotonic() - start < 0.2
            service.engine.is_busy = False
            connection.sendall(b"x" * 900 + HEAD + b"Content-Length: 3\r\n\r\nabc")  # the rest is read and dropped
            assert read_answer(connection).startswith(b"HTTP/1.1 200")
    finally:
        service.engine.is_busy = False


def test_a_client_that_is_gone_is_computed_no_further(service):
    service.engine.wait, service.engine.was_cancelled = asyncio.Event(), False
    connection = service.connect()
    connection.sendall(HEAD + b"Content-Length: 3\r\n\r\nabc")
    while not service.engine.num_waiting:
        time.sleep(0.005)
    connection.close()
    deadline = time.monotonic() + 5
    while not service.engine.was_cancelled:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    service.engine.wait = None
    assert service.samples()['serving_requests_total{route="/predict",status="499"}'] >= 1


def test_tokens(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("\ufefffirst-token-of-all\n# of the laboratory\n\nsecond-token-of-all\n", "utf-8")
    with service_in_thread(SMALL, str(file)) as service:
        for authorization in (
            None,
            "Bearer wrong",
            "Bearer ",
            "Basic first-token-of-all",
            "Bearer first-token-of-al",
            "ß",
        ):
            headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}
            reply = service.request("POST", "/predict", b"abc", **headers)
            assert reply.status == 401 and reply.headers["WWW-Authenticate"] == "Bearer", authorization
        for token in ("first-token-of-all", "second-token-of-all"):
            assert service.request("POST", "/predict", b"abc", authorization=f"Bearer {token}").status == 200
        for path, route in (
            ("/model", "/model"),
            ("/v2/models/one/ready", "/v2/models/{name}/ready"),
            ("/nowhere", "other"),
        ):
            assert service.request("GET", path).status == 401
            assert service.samples()[f'serving_requests_total{{route="{route}",status="401"}}'] == 1
        for path in ("/", "/docs", "/openapi.json", "/v2", "/v2/health/live", "/v2/health/ready"):
            assert service.request("GET", path).status == 200


def test_tokens_are_compared_in_constant_time_by_the_library(tmp_path, monkeypatch):
    """Each known token is compared, also after one that matches, and as a hash, so that the length tells nothing."""
    file, compared = tmp_path / "tokens", []
    file.write_text("first-token-of-all\nsecond-token-of-all\n")
    service = Service({}, SMALL, Metrics(), str(file))

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr("deploy.serving.service.hmac.compare_digest", compare)
    service.check_token("Bearer first-token-of-all")
    with pytest.raises(ServingError, match="unauthorized"):
        service.check_token("Bearer first")
    known = [hashlib.sha256(token).digest() for token in (b"first-token-of-all", b"second-token-of-all")]
    given = hashlib.sha256(b"first").digest()
    assert compared == [(known[0], known[0]), (known[0], known[1]), (given, known[0]), (given, known[1])]
    monkeypatch.setattr("deploy.serving.service.hmac.compare_digest", lambda *_: True)
    service.check_token("Bearer first")  # nothing else decides


@pytest.mark.parametrize(
    "text", ["", "# only\n", "short\n", "\xff", "t\xc3\xb6ken-of-the-laboratory", "a token of the laboratory"]
)
def test_a_file_of_tokens_that_cannot_be_used(tmp_path, text):
    file = tmp_path / "tokens"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=re.escape(str(file))):
        read_token_hashes(str(file))
    with pytest.raises(UsageError, match="No such file"):
        read_token_hashes(str(Path("nowhere")))
