"""What one request, and all of them together, may cost: bytes, images, seconds, connections."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits of a service; `docs/serving.md` has the table of their answers."""

    max_body_bytes: int = 16 << 20  # of one request
    max_buffered_bytes: int = 48 << 20  # bodies of all requests that are being answered
    max_header_bytes: int = 32 << 10  # request line and headers
    max_images: int = 32  # of one request
    max_json_items: int = 1_000_000  # six images of 224 x 224 as numbers; parsed in 0.1 s
    max_connections: int = 500
    head_seconds: float = 6.0  # from the first byte of a request, or the connection, to the end of its headers
    idle_seconds: float = 30.0  # between two requests of a connection
    body_seconds: float = 8.0  # from the headers to the end of the body
    request_seconds: float = 20.0  # from the headers to the answer
