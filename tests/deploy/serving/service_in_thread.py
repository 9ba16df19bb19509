"""A service in this process, with engines that compute nothing: for the tests of HTTP."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from deploy.serving.app import App
from deploy.serving.errors import ServingError, busy, unreadable_image
from deploy.serving.limits import Limits
from deploy.serving.load_shedding import LoadShedder
from deploy.serving.metrics import Metrics
from deploy.serving.server import Server, open_socket, server_config
from deploy.serving.service import Service
from deploy.serving.workers.batching import Answer
from deploy.serving.workers.engine import Computed, Place
from deploy.serving.workers.frames import Kind
from deploy.serving.workers.process import Image
from tests.deploy.serving.running_service import parse_samples

SIDE, NAMES = 4, ["cat", "dog", "fox"]
DESCRIPTION = {
    "model": "peleenet",
    "architecture": "PeleeNet",
    "num_classes": 3,
    "class_names": NAMES,
    "preprocess": {"input_size": SIDE},
    "temperature": 1.0,
    "metrics": {"best_top1_percent": 90.0},
    "created": "today",
    "engine_name": "fake",
    "engine": "no engine",
}


class FakeEngine:
    """Answers at once: the logits are the first three bytes of a file, or the first numbers of a tensor."""

    def __init__(self):
        self.description, self.is_ready, self.num_waiting = DESCRIPTION, True, 0
        self.wait: asyncio.Event | None = None  # answers come when it is set
        self.is_busy = False
        self.places: dict[Place, None] = {}
        self.was_cancelled = False
        self.num_computed = 0

    def take_place(self) -> Place:
        self.check_queue()
        place = Place(self.places, 0.0)
        self.places[place] = None
        return place

    def check_queue(self, num_images: int = 1) -> None:
        if self.is_busy:
            raise busy(3)

    async def compute(self, images: list[Image], deadline: float) -> Computed:
        self.check_queue()
        if self.wait:
            try:
                self.num_waiting += 1
                await self.wait.wait()
            except asyncio.CancelledError:
                self.was_cancelled = True
                raise
            finally:
                self.num_waiting -= 1
        self.num_computed += len(images)
        return Computed(self.description, [_answer(image) for image in images])


def _answer(image: Image) -> Answer | ServingError:
    if image.kind == Kind.TENSOR:
        return Answer(np.frombuffer(image.data, np.float32)[:3], 0.001, 0.0, 0.002, 1)
    if len(image.data) < 3:
        return unreadable_image("not an image")
    return Answer(np.frombuffer(image.data[:3], np.uint8).astype(np.float32), 0.001, 0.003, 0.002, 1)


class Reply(NamedTuple):
    """An answer: status, headers, JSON or bytes."""

    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.content)


class ServiceInThread:
    """What a test needs of a running service."""

    def __init__(self, service: Service, server: Server, port: int, loop: asyncio.AbstractEventLoop):
        self.service, self.server, self.port, self.loop = service, server, port, loop
        self.engine: FakeEngine = service.engines["one"]

    def call(self, function, *arguments):
        """Call a function in the event loop of the service."""
        done = threading.Event()
        results = []
        self.loop.call_soon_threadsafe(lambda: (results.append(function(*arguments)), done.set()))
        assert done.wait(10)
        return results[0]

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Send one request; `content_type="x"` is the header Content-Type."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        response = connection.getresponse()
        reply = Reply(response.status, response.headers, response.read())
        connection.close()
        self.call(lambda: None)  # the line of the log is written after the answer
        return reply

    def connect(self) -> socket.socket:
        """A connection without any request."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def samples(self) -> dict[str, float]:
        """The metrics that are not zero: `name{labels}` and value."""
        return parse_samples(self.call(self.service.metrics_text).decode())


@contextmanager
def service_in_thread(limits: Limits | None = None, token_file: str = "") -> Iterator[ServiceInThread]:
    """Serve two models, `one` and `two`, in a thread until the end of the context."""
    limits = limits or Limits()
    service = Service({"one": FakeEngine(), "two": FakeEngine()}, limits, Metrics(), token_file)
    listening = open_socket("127.0.0.1", 0, "--port")
    server, loops = Server(server_config(App(service), service, LoadShedder(service))), []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        server.config.timeout_graceful_shutdown = 5
        await server.serve(sockets=[listening])

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        while not server.started:
            thread.join(0.005)
        yield ServiceInThread(service, server, listening.getsockname()[1], loops[0])
    finally:
        server.should_exit = True
        thread.join()
