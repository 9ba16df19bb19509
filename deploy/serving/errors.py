"""Errors of the service that become an answer: a status, a kind for programs and a message for people."""

import json
from http import HTTPStatus


class ServingError(Exception):
    """A request that is answered by an error.

    All errors have one form, which clients of the Open Inference Protocol read too, as they expect a text in `error`:
    {"error": message, "status": 413, "kind": "too_large", "request_id": "..."}.
    """

    def __init__(self, status: int, kind: str, message: str, *, retry_after: int | None = None):
        """Describe the error.

        Args:
            status: of HTTP.
            kind: one word for programs, as "too_large".
            message: what is wrong and what to do; without paths, versions and addresses of the server.
            retry_after: seconds after which the same request may succeed.
        """
        super().__init__(status, kind, message)
        self.status, self.kind, self.message, self.retry_after = int(status), kind, message, retry_after

    def __str__(self) -> str:
        return f"{self.status} {self.kind}: {self.message}"

    def body(self, request_id: str) -> dict:
        """The JSON of the answer."""
        return {"error": self.message, "status": self.status, "kind": self.kind, "request_id": request_id}

    def raw_answer(self, request_id: str = "", *, keep_open: bool = False) -> bytes:
        """The whole answer as it is sent, for requests that no route sees.

        Args:
            request_id: "" where there is none.
            keep_open: whether the connection may bring another request.
        """
        body = json.dumps(self.body(request_id)).encode()
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}", "content-type: application/json"]
        lines.append(f"content-length: {len(body)}")
        if self.retry_after is not None:
            lines.append(f"retry-after: {self.retry_after}")
        if request_id:
            lines.append(f"x-request-id: {request_id}")
        if not keep_open:
            lines.append("connection: close")
        return "\r\n".join([*lines, "\r\n"]).encode() + body


class ClientGoneError(Exception):
    """The client closed the connection before the answer; nobody reads an answer."""


def bad_request(message: str) -> ServingError:
    """A request that is not well formed."""
    return ServingError(HTTPStatus.BAD_REQUEST, "bad_request", message)


def too_large(message: str) -> ServingError:
    """A request above a limit."""
    return ServingError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", message)


def unreadable_image(message: str) -> ServingError:
    """An image that cannot be decoded or computed."""
    return ServingError(HTTPStatus.UNPROCESSABLE_ENTITY, "unreadable_image", message)


def busy(retry_after: int = 1, message: str = "the service is busy; send the request again later") -> ServingError:
    """More is waiting than the service takes."""
    return ServingError(HTTPStatus.SERVICE_UNAVAILABLE, "busy", message, retry_after=retry_after)


def engine_away() -> ServingError:
    """The engine process ended, and its replacement is not ready."""
    message = "the engine is restarting; send the request again in some seconds"
    return ServingError(HTTPStatus.SERVICE_UNAVAILABLE, "engine_away", message, retry_after=2)


def deadline_passed() -> ServingError:
    """The request was not answered in time."""
    message = "the request was not answered in time; send it again later, or send fewer images"
    return ServingError(HTTPStatus.GATEWAY_TIMEOUT, "deadline_passed", message, retry_after=2)
