"""Clients of HTTP that cost little: each is one connection that sends the same bytes again and again."""

import asyncio
import re
import time
from collections.abc import Callable

from common.errors import DataError

# a form, since LitServe takes forms and JSON
HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=B\r\nContent-Length: %d\r\n\r\n"
)
FORM = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n%s\r\n--B--\r\n'
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def form_of(picture: bytes) -> bytes:
    """The body of a request with one file."""
    return FORM % picture


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
    end, latencies, request = time.monotonic() + seconds, [], request_of(body)
    done = asyncio.get_running_loop().create_future()
    asking = set()

    def ask_again(connection: Connection, status: int, latency: float) -> None:
        if status == 200:
            latencies.append(latency)
            if time.monotonic() < end:
                return connection.send(request)
        elif not done.done():
            done.set_exception(DataError(f"the server on port {port} answers {status}; fewer --num_clients"))
        asking.discard(connection)
        if not asking and not done.done():
            done.set_result(None)

    for _ in range(num_clients):
        asking.add(await connect(port, ask_again))
    opened = list(asking)
    for connection in opened:
        connection.send(request)
    try:
        await done
    finally:
        for connection in opened:
            connection.close()
    return latencies


class Connection(asyncio.Protocol):
    """One connection of a client that costs little, since it shares its processor with up to 400 others."""

    def __init__(self, on_answer: Callable[["Connection", int, float], None]):
        """Prepare for a connection.

        Args:
            on_answer: called with the connection, the status (0: no answer) and the seconds of every request.
        """
        self._on_answer = on_answer
        self._received, self._start = b"", 0.0
        self._transport: asyncio.Transport | None = None
        self._is_waiting = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Keep the transport."""
        self._transport = transport

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent: a server closes connections that it has not heard of for some seconds."""
        return not self._transport.is_closing()

    def send(self, request: bytes) -> None:
        """Send a request; the last one has its answer."""
        self._start, self._is_waiting = time.monotonic(), True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take a piece of an answer."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and len(body) >= int(CONTENT_LENGTH.search(head)[1]):
            self._received, self._is_waiting = b"", False
            self._on_answer(self, int(head[9:12]), time.monotonic() - self._start)

    def connection_lost(self, error: Exception | None) -> None:
        """Count a request that gets no answer."""
        if self._is_waiting:
            self._is_waiting = False
            self._on_answer(self, 0, time.monotonic() - self._start)

    def close(self) -> None:
        """Close the connection."""
        self._is_waiting = False
        self._transport.close()


async def connect(port: int, on_answer: Callable[[Connection, int, float], None]) -> Connection:
    """Open a connection to a port of this machine; `on_answer` as in `Connection`."""
    _, connection = await asyncio.get_running_loop().create_connection(lambda: Connection(on_answer), "127.0.0.1", port)
    return connection


def request_of(body: bytes) -> bytes:
    """The bytes of a request."""
    return HEAD % len(body) + body
