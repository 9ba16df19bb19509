"""Run the service: open the models, listen, reload on SIGHUP, and stop on SIGTERM without losing a request."""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import uvicorn
from starlette.responses import Response

from common.cli import die_of_signal
from common.errors import UsageError
from common.printable import print_safely

from .app import App
from .connections import LimitedProtocol
from .json_log import log, set_up_json_log
from .limits import Limits
from .load_shedding import LoadShedder
from .metrics import Metrics
from .service import Service
from .workers.engine import Engine
from .workers.process import StartError
from .workers.worker import WorkerSettings

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


@dataclass(frozen=True)
class ServerSettings:
    """What the service is started with.

    Args:
        models: settings of the engine process by the name of the model.
        host: address to listen on.
        port: 0 for a free one.
        metrics_port: of the same address; None for no metrics.
        max_queue: images of a model that may wait.
        token_file: one token per line; "" lets everybody in.
        grace_seconds: from SIGTERM to the end of the process.
        limits: of requests.
    """

    models: Mapping[str, WorkerSettings]
    host: str = "127.0.0.1"
    port: int = 8000
    metrics_port: int | None = None
    max_queue: int = 64
    token_file: str = ""
    grace_seconds: float = 30.0
    limits: Limits = field(default_factory=Limits)


def serve(settings: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        StartError: a folder cannot be used.
        UsageError: the address cannot be listened on, or the file of tokens cannot be used.
    """
    set_up_json_log()
    limit_heap()
    sockets = [open_socket(settings.host, settings.port, "--port")]
    if settings.metrics_port is not None:
        sockets.append(open_socket(settings.host, settings.metrics_port, "--metrics_port"))
    asyncio.run(_serve(settings, sockets))


def limit_heap() -> None:
    """Let glibc give large blocks back to the system when they are freed: under load it keeps twice as much otherwise.

    glibc raises the size from which a block is mapped by itself to that of the largest one that was freed (mallopt(3)).
    """
    with contextlib.suppress(AttributeError, OSError):  # other systems and other C libraries
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            mallopt(parameter, 1 << 17)


def open_socket(host: str, port: int, flag: str) -> socket.socket:
    """Open a socket on an address.

    Args:
        host: name or address.
        port: 0 for a free one.
        flag: name of the flag of the port, for the message.

    Raises:
        UsageError: the address is not of this machine, or is in use.
    """
    opened = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except OSError as error:
        if opened is not None:
            opened.close()
        raise UsageError(f"{host}:{port}: {error.strerror or error}; choose another --host or {flag}") from None
    return opened


async def _serve(settings: ServerSettings, sockets: list[socket.socket]) -> None:
    loop, metrics, service = asyncio.get_running_loop(), Metrics(), None

    def report(name: str, event: str, details: str) -> None:
        service.report_engine(name, event, details)

    engines = {
        name: Engine(worker, max_queue=settings.max_queue, on_event=partial(report, name))
        for name, worker in settings.models.items()
    }
    service = Service(engines, settings.limits, metrics, settings.token_file)
    stop, reload = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_or_die, stop, number)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    try:
        opening = asyncio.gather(*(engine.open() for engine in engines.values()))
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({opening, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            opening.cancel()
            return
        await opening
        await _run(settings, service, sockets, stop, reload)
    finally:
        await asyncio.gather(*(engine.close() for engine in engines.values()))


def stop_or_die(stop: asyncio.Event, number: signal.Signals) -> None:
    """Begin to stop; a second signal ends the process at once."""
    if stop.is_set():
        die_of_signal(number)
    stop.set()


async def _run(
    settings: ServerSettings,
    service: Service,
    sockets: list[socket.socket],
    stop: asyncio.Event,
    reload: asyncio.Event,
) -> None:
    """Listen until `stop`, then finish what was accepted."""
    servers = [Server(server_config(App(service), service, LoadShedder(service)))]
    if settings.metrics_port is not None:
        servers.append(Server(server_config(MetricsApp(service), service)))
    tasks = [
        asyncio.ensure_future(server.serve(sockets=[opened])) for server, opened in zip(servers, sockets, strict=True)
    ]
    reloading = asyncio.ensure_future(_reload_on(reload, service))
    while not all(server.started or task.done() for server, task in zip(servers, tasks, strict=True)):
        await asyncio.sleep(0.005)
    _announce(settings, service, sockets)
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    log("stopping", {"waiting": sum(engine.num_waiting for engine in service.engines.values())})
    service.is_draining = True
    reloading.cancel()
    for server in servers:
        server.config.timeout_graceful_shutdown = max(0.1, settings.grace_seconds - 1)
        server.should_exit = True
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)
    log("stopped", {})


class Server(uvicorn.Server):
    """uvicorn's server without its handlers of signals: it would end the process by the signal, not with 0."""

    @contextlib.contextmanager
    def capture_signals(self):
        """Leave the handlers of signals alone."""
        yield


def server_config(app, service: Service, shedder: LoadShedder | None = None) -> uvicorn.Config:
    """Settings of uvicorn for an ASGI application.

    Args:
        app: the application.
        service: has the limits of connections, and counts what never becomes a request.
        shedder: refuses requests before they are parsed; None: no request is refused there.
    """
    limits = service.limits

    def refused(status: int) -> None:
        service.metrics.requests.labels("none", str(status)).inc()
        log("refused", {"status": status})

    return uvicorn.Config(
        app,
        http=partial(LimitedProtocol, limits, refused, shedder),
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=limits.max_header_bytes,
        timeout_keep_alive=limits.idle_seconds,
        backlog=limits.max_connections,
    )


class MetricsApp:
    """The application on the port of the metrics: GET /metrics."""

    def __init__(self, service: Service):
        self._service = service

    async def __call__(self, scope, receive, send) -> None:
        """Answer one request."""
        response = Response("not found\n", 404)
        if scope["path"] == "/metrics" and scope["method"] in ("GET", "HEAD"):
            response = Response(self._service.metrics_text(), media_type="text/plain; version=0.0.4")
        await response(scope, receive, send)


async def _reload_on(reload: asyncio.Event, service: Service) -> None:
    """Replace all models by what is in their folders now, each time `reload` is set."""
    while True:
        await reload.wait()
        reload.clear()
        for name, engine in service.engines.items():
            try:
                await engine.reload()
            except StartError as error:
                service.report_engine(name, "reload_refused", f"the older model goes on: {error}")
            else:
                service.report_engine(name, "reloaded", engine.description["created"])


def _announce(settings: ServerSettings, service: Service, sockets: list[socket.socket]) -> None:
    """Say what is served and where, for people on stderr and for programs in the log."""
    addresses = [url_of(opened) for opened in sockets]
    for name, engine in service.engines.items():
        about = engine.description
        print_safely(f"{name}: {about['architecture']}, {about['num_classes']} classes, {about['engine']}", sys.stderr)
    print_safely(f"listening on {addresses[0]} (page and API; Ctrl-C stops)", sys.stderr)
    if settings.metrics_port is not None:
        print_safely(f"metrics on {addresses[1]}/metrics", sys.stderr)
    if settings.host not in ("127.0.0.1", "::1", "localhost") and not settings.token_file:
        print_safely(
            "warning: everybody who reaches this address may use it; --token_file asks for a token", sys.stderr
        )
    fields = {"url": addresses[0], "models": list(service.engines), "process": os.getpid()}
    log("listening", fields | {"metrics_url": addresses[1] if len(addresses) > 1 else None})


def url_of(opened: socket.socket) -> str:
    """The URL of a socket that listens."""
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
