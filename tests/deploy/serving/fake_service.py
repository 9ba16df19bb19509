"""A service with the answers of deploy.serving, each as the test wants it, for the page and for clients."""

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from tests.source import ROOT

PAGE = ROOT / "deploy" / "serving" / "page.html"
MAX_BODY = 4_000_000
CARD = {
    "model": "surfaces",
    "models": ["surfaces"],
    "architecture": "PeleeNet",
    "engine": "ONNX Runtime",
    "classes": 5,
    "class_names": ["brick", "cloth", "grass", "water", "wood <b>"],
    "preprocess": {"input_size": 224, "fit": "crop", "exif_orientation": "ignore"},
    "top1_percent": 97.41935,
    "temperature": 1.4,
    "created": "2026-11-29T08:00:00+00:00",
}
CLASSES = {"class_ids": [4, 0, 2], "scores": [0.8734, 0.1, 0.0266], "label_names": ["wood <b>", "brick", "grass"]}


class FakeService:
    """A port on the loopback that answers by what is sent: see `_Handler.do_POST`."""

    def __init__(
        self, *, token: str = "", num_busy: int = 0, num_late: int = 0, card: dict | None = None, port: int = 0
    ):
        """Listen; `num_busy` and `num_late` are the numbers of pictures that are refused with 503 and 504 first."""
        self.token, self.num_busy, self.num_late = token, num_busy, num_late
        self.card = CARD if card is None else card
        self.received: list[bytes] = []
        self.queries: list[str] = []
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.service = self
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop listening, and end what is open: a browser connects ahead of its requests, and would be answered."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._server.connections):
            with contextlib.suppress(OSError):  # ended by the other side meanwhile
                connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    service: FakeService

    def __init__(self, *arguments):
        self.connections: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request, client_address):
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.connections.discard(request)
        super().shutdown_request(request)


class _Handler(BaseHTTPRequestHandler):
    service = property(lambda self: self.server.service)

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/":
            return self.answer(200, PAGE.read_bytes(), "text/html; charset=utf-8")
        if self.path == "/v2/health/live":
            return self.answer(200, b"")
        if self.path.partition("?")[0] == "/model":
            card = self.service.card
            name = unquote(self.path.partition("?model=")[2]) or card["model"]
            return self.is_allowed() and self.answer_json(200, {**card, "model": name})
        return self.error(404, "not_found", "no such path")

    def do_POST(self):
        """An image is answered; other bytes are a broken picture; `slow` takes a second; too many bytes close."""
        length = int(self.headers["Content-Length"])
        if length > MAX_BODY:
            self.close_connection = True
            return self.error(413, "too_large", "the body is too large")
        body = self.rfile.read(length)
        if not self.is_allowed():
            return None
        if self.service.num_busy:
            self.service.num_busy -= 1
            return self.error(503, "busy", "the queue is full", {"Retry-After": "1"})
        if self.service.num_late:
            self.service.num_late -= 1
            return self.error(504, "deadline_passed", "the request was not answered in time", {"Retry-After": "0"})
        self.service.received.append(body)
        self.service.queries.append(self.path.partition("?")[2])
        if body.startswith(b"crash"):
            return self.error(500, "internal", "the service failed")
        if not body.startswith((b"\x89PNG", b"\xff\xd8", b"II*")):
            return self.error(422, "unreadable", "not an image in a format that is read: JPEG, PNG")
        times = {"queue": 0.4, "decode": 2.31, "compute": 10.6, "total": 13.9}
        record = {**CLASSES, "file_name": "image"}
        return self.answer_json(200, {"model": "surfaces", "predictions": [record], "milliseconds": times})

    def is_allowed(self) -> bool:
        if self.service.token and self.headers.get("Authorization") != f"Bearer {self.service.token}":
            self.error(401, "unauthorized", "a token is needed", {"WWW-Authenticate": "Bearer"})
            return False
        return True

    def error(self, status: int, kind: str, message: str, headers: dict | None = None) -> None:
        error = {"error": message, "status": status, "kind": kind, "request_id": "0123456789abcdef"}
        self.answer_json(status, error, headers)

    def answer_json(self, status: int, value: dict, headers: dict | None = None) -> None:
        self.answer(status, json.dumps(value).encode(), "application/json", headers)

    def answer(self, status: int, body: bytes, kind: str = "text/plain", headers: dict | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(body), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)


def write_pictures(folder: Path) -> dict[str, Path]:
    """A good picture of each orientation and format, a broken one, an empty one and one that is too large."""
    from demo.textures import draw_texture

    good = {name: folder / name for name in ("wood.jpg", "brick wall.png", "grass.jpg")}
    for name, path in good.items():
        draw_texture(name.split(".")[0].split()[0], [1, len(name)]).save(path)
    others = {
        "broken.jpg": b"no picture at all",
        "crash.jpg": b"crash",
        "empty.jpg": b"",
        "huge.jpg": b"\xff\xd8" + bytes(12 << 20),
    }
    for name, content in others.items():
        (folder / name).write_bytes(content)
    return good | {name: folder / name for name in others}
