"""Limits of connections, on top of uvicorn: their number, slow headers, and errors of HTTP itself in our form.

uvicorn has no limit on the time in which a request must arrive: a connection that sends half a header stays open. It
lets the class of its protocol be chosen, and this one adds the limits. Hypercorn has a limit of time, but none of the
number of connections, answers malformed requests without a body, and switches to HTTP/2, which has other limits, when
a client asks for it; on the same core it answered 0.6 to 0.9 times as many requests per second.
"""

import asyncio
import json
import sys
from collections.abc import Callable

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from .errors import ServingError
from .limits import Limits

BLOCK_BYTES = 1 << 16
SECONDS_TO_SEND = 10.0  # of an answer, after the deadline of its request
KINDS = {400: "bad_request", 431: "too_large", 501: "not_implemented", 503: "busy"}
MESSAGES = {
    400: "the request is no HTTP/1.1",
    431: "the headers are too large",
    501: "this form of transfer is not implemented",
    503: "too many connections; try again later",
}


class LimitedProtocol(H11Protocol):
    """One connection; closes one that is slow or one too many."""

    def __init__(
        self,
        limits: Limits,
        on_refused: Callable[[int], None],
        config: Config,
        server_state: ServerState,
        app_state: dict,
        _loop: asyncio.AbstractEventLoop | None = None,
    ):
        """Prepare for a connection.

        Args:
            limits: of the service.
            on_refused: called with the status of what never becomes a request.
            config: of uvicorn, as the next ones.
            server_state: holds all connections.
            app_state: of the lifespan.
            _loop: event loop.
        """
        super().__init__(config, server_state, app_state, _loop)
        self._limits, self._on_refused = limits, on_refused
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait for the first request."""
        if len(self.connections) >= self._limits.max_connections:
            self._on_refused(503)
            transport.write(_raw_error(503))
            transport.close()
            self.transport = transport
            return
        super().connection_made(transport)
        if hasattr(transport, "max_size"):  # of asyncio: what one connection may bring at once, by default 256 kB
            transport.max_size = BLOCK_BYTES
        self._close_after(self._limits.head_seconds)

    def connection_lost(self, error: Exception | None) -> None:
        """End the timers."""
        self._stop_timer()
        if self in self.connections:
            super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of a header must become a request in time."""
        if self not in self.connections:
            return
        is_idle = not self._is_answering()
        super().data_received(data)
        if self._is_answering():
            if is_idle:
                self._stop_timer()
                seconds = self._limits.request_seconds + SECONDS_TO_SEND
                self._timer = self.loop.call_later(seconds, self.transport.abort)
        elif self._timer is None:
            self._close_after(self._limits.head_seconds)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._stop_timer()
        super().on_response_complete()
        if self._is_stopping and not self._is_answering():
            self.transport.close()
        elif not self._is_answering() and self.conn.their_state is h11.SEND_BODY:
            self._close_after(self._limits.body_seconds)  # the rest of a body that was refused is read and dropped

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP; called while the exception is handled."""
        status = getattr(sys.exc_info()[1], "error_status_hint", 400)
        status = status if status in KINDS else 400
        self._on_refused(status)
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self._is_answering():
            self.transport.write(_raw_error(status))
        self.transport.close()

    def shutdown(self) -> None:
        """Close the connection after the request that it may bring; requests that have arrived are answered."""
        if self._is_answering():
            self.cycle.keep_alive = False
        elif self.cycle is None or self.conn.trailing_data[0]:
            self._is_stopping = True  # a connection that was accepted, whose first request is on its way
            self._close_after(1.0)
        else:
            super().shutdown()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _close_after(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _raw_error(status: int) -> bytes:
    """An answer of one piece, in the form of `ServingError.body`."""
    body = json.dumps(ServingError(status, KINDS[status], MESSAGES[status]).body("")).encode()
    head = f"HTTP/1.1 {status} Error\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    retry = "retry-after: 1\r\n" if status == 503 else ""
    return f"{head}{retry}connection: close\r\n\r\n".encode() + body
