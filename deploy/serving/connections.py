"""Limits of connections, on top of uvicorn: their number, slow headers, and errors of HTTP itself in our form.

uvicorn has no limit on the time in which a request must arrive: a connection that sends half a header stays open. It
lets the class of its protocol be chosen, and this one adds the limits. Hypercorn has a limit of time, but none of the
number of connections, answers malformed requests without a body, and switches to HTTP/2, which has other limits, when
a client asks for it; on the same core it answered 0.6 to 0.9 times as many requests per second.
"""

import asyncio
import sys
from collections.abc import Callable

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from .errors import ServingError
from .limits import Limits
from .load_shedding import LoadShedder, Refusal

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
        shedder: LoadShedder | None,
        config: Config,
        server_state: ServerState,
        app_state: dict,
        _loop: asyncio.AbstractEventLoop | None = None,
    ):
        """Prepare for a connection.

        Args:
            limits: of the service.
            on_refused: called with the status of what never becomes a request.
            shedder: refuses requests before they are parsed; None: no request is refused here.
            config: of uvicorn, as the next ones.
            server_state: holds all connections.
            app_state: of the lifespan.
            _loop: event loop.
        """
        super().__init__(config, server_state, app_state, _loop)
        self._limits, self._on_refused, self._shedder = limits, on_refused, shedder
        self._num_to_drop = 0  # bytes of the body of a request that was refused
        self._place = None  # of a request that was let in
        self._timer: asyncio.TimerHandle | None = None
        self._sending_timer: asyncio.TimerHandle | None = None
        self._is_stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait for the first request."""
        if len(self.connections) >= self._limits.max_connections:
            self._on_refused(503)
            transport.write(_error(503).raw_answer())
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
        self._release_place()
        if self in self.connections:
            super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of a header must become a request in time."""
        if self not in self.connections:
            return
        if self._num_to_drop or self._is_between_requests():
            data = self._shed(data)
            if not data:
                return
        is_idle = not self._is_answering()
        super().data_received(data)
        if self._place and is_idle and self._is_answering():
            self.scope["serving.place"] = self._place  # before the task of the request begins
        if self._is_answering():
            if is_idle:
                self._limit_request()
        elif self._timer is None:
            self._close_after(self._limits.head_seconds)

    def _is_between_requests(self) -> bool:
        """Whether the next byte begins a request."""
        idle = self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]
        return idle and not self._is_answering() and not self._is_stopping

    def _shed(self, data: bytes) -> bytes:
        """Answer requests that are refused before they are parsed, and drop their bytes; returns the others."""
        while data:
            dropped = min(self._num_to_drop, len(data))
            self._num_to_drop -= dropped
            data = data[dropped:] if dropped else data
            if dropped and not self._num_to_drop:
                self._wait_for_next_request()
            if not data or self._shedder is None:
                break
            admitted = self._shedder.admit(data, self.client[0] if self.client else "")
            if not isinstance(admitted, Refusal):
                self._place = admitted
                break
            self.transport.write(admitted.answer)
            if self.transport.get_write_buffer_size() > BLOCK_BYTES:  # of refusals that the client does not read
                self.transport.abort()
                return b""
            data, self._num_to_drop = data[admitted.num_head_bytes :], admitted.num_body_bytes
            self._unset_keepalive_if_required()
            self._close_after(self._limits.body_seconds)
        return data

    def _wait_for_next_request(self) -> None:
        self._stop_timer()
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        self._limit_sending()

    def _release_place(self) -> None:
        if self._place:
            self._place.release()
            self._place = None

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, or to answer one that came before."""
        self._stop_timer()
        self._release_place()
        super().on_response_complete()
        if self._is_answering():
            self._limit_request()
        elif self._is_stopping:
            self._close()
        elif self.conn.their_state is h11.SEND_BODY:
            self._close_after(self._limits.body_seconds)  # the rest of a body that was refused is read and dropped
        else:
            self._limit_sending()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP; called while the exception is handled."""
        status = getattr(sys.exc_info()[1], "error_status_hint", 400)
        status = status if status in KINDS else 400
        self._on_refused(status)
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self._is_answering():
            self.transport.write(_error(status).raw_answer())
        self._close()

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
        self._timer = self.loop.call_later(seconds, self._close)

    def _close(self) -> None:
        self.transport.close()  # which waits until the client has taken its answers
        self._limit_sending()

    def _limit_request(self) -> None:
        """Limit the time of a request and its answer."""
        self._stop_timer()
        self._timer = self.loop.call_later(self._limits.request_seconds + SECONDS_TO_SEND, self.transport.abort)

    def _limit_sending(self) -> None:
        """Limit the time in which the client takes answers that are complete."""
        self._stop_timer()
        if self.transport.get_write_buffer_size():
            self._sending_timer = self.loop.call_later(SECONDS_TO_SEND, self._abort_unsent)

    def _abort_unsent(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _stop_timer(self) -> None:
        for timer in (self._timer, self._sending_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._sending_timer = None


def _error(status: int) -> ServingError:
    """The error of a request that HTTP, or the number of connections, does not allow."""
    return ServingError(status, KINDS[status], MESSAGES[status], retry_after=1 if status == 503 else None)
