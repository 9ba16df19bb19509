"""A web server on loopback for tests: it serves files with ranges, and misbehaves as a test tells it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Cut(NamedTuple):
    """Close the connection after this number of bytes of the body."""

    num_bytes: int


class Status(NamedTuple):
    """Answer with a status and no file."""

    code: int
    headers: tuple[tuple[str, str], ...] = ()


class Silent(NamedTuple):
    """Send nothing until the server is told to go on."""


class Body(NamedTuple):
    """Send other bytes, with the status 200."""

    content: bytes
    headers: tuple[tuple[str, str], ...] = ()


class WrongRange(NamedTuple):
    """Answer 206 with the beginning of the file, whatever was asked for."""


class NoRanges(NamedTuple):
    """Answer 200 with the whole file, whatever range was asked for."""


class Chunked(NamedTuple):
    """Send the file without its length, and close before the end if `is_cut`."""

    is_cut: bool = False


class Server:
    """What is served, what the next requests get instead, and what was asked for."""

    def __init__(self, url: str):
        self.url = url
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.plan: list[tuple] = []  # for the next requests; afterwards all is well
        self.requests: list[tuple[str, str | None]] = []  # (path, Range)
        self.has_request = threading.Event()
        self.go_on = threading.Event()


def _handler(server: Server) -> type:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_GET(self):
            self.close_connection = True
            server.requests.append((self.path, self.headers.get("Range")))
            server.has_request.set()
            step = server.plan.pop(0) if server.plan else None
            content = server.files.get(self.path)
            if isinstance(step, Silent):
                server.go_on.wait(20)
            elif isinstance(step, Status) or content is None:
                self.answer(step.code if step else 404, step.headers if step else ())
            elif isinstance(step, Body):
                self.answer(200, step.headers, step.content)
            elif isinstance(step, Chunked):
                self.protocol_version = "HTTP/1.1"
                self.answer(200, (("Transfer-Encoding", "chunked"),))
                sent = content[: len(content) // 2] if step.is_cut else content
                end = b"" if step.is_cut else b"0\r\n\r\n"
                self.wfile.write(b"%x\r\n%s\r\n%s" % (len(sent), sent, end))
            else:
                self.serve(content, step)

        def serve(self, content: bytes, step) -> None:
            etag = server.etags.get(self.path, '"1"')
            headers = (("ETag", etag),) if etag else ()
            asked = self.headers.get("Range")
            if isinstance(step, WrongRange):
                asked = "bytes=0-"
            elif isinstance(step, NoRanges) or self.headers.get("If-Range", etag) != etag:
                asked = None
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            if asked:
                headers += (("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"),)
            end = start + step.num_bytes if isinstance(step, Cut) else len(content)
            self.answer(206 if asked else 200, headers, content[start:end], len(content) - start)

        def answer(self, code, headers=(), content=b"", length=None) -> None:
            self.send_response(code)
            for name, value in headers:
                self.send_header(name, value)
            if code in (200, 206) and ("Transfer-Encoding", "chunked") not in headers:
                self.send_header("Content-Length", str(len(content) if length is None else length))
            self.end_headers()
            self.wfile.write(content)

    return Handler


@contextmanager
def loopback_server() -> Iterator[Server]:
    """Serve on a free port until the end of the context."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as http_server:
        http_server.daemon_threads = True
        server = Server(f"http://127.0.0.1:{http_server.server_address[1]}")
        http_server.RequestHandlerClass = _handler(server)
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.go_on.set()
            http_server.shutdown()
            thread.join()
