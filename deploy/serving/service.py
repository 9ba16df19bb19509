"""The state of the service that all routes share: models, limits, tokens, metrics, and whether it is draining."""

import asyncio
import hashlib
import hmac
import re
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request

from common.errors import UsageError
from common.regular_files import read_regular

from .errors import ClientGoneError, ServingError, bad_request
from .json_log import log
from .limits import Limits
from .metrics import Metrics
from .request_body import Bodies
from .workers.batching import Answer
from .workers.engine import Computed, Engine
from .workers.process import Image

MAX_TOKEN_FILE_BYTES = 1 << 16
MIN_TOKEN_LENGTH = 16
TOKEN = re.compile(f"[!-~]{{{MIN_TOKEN_LENGTH},}}")  # what a header can hold
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Service:
    """Models by their names, and what every request needs."""

    def __init__(self, engines: Mapping[str, Engine], limits: Limits, metrics: Metrics, token_file: str = ""):
        """Join the parts; the engines are opened by the caller.

        Args:
            engines: by the name of the model; the first is the default.
            limits: of requests.
            metrics: counts requests and images.
            token_file: one token per line; "" lets everybody in.

        Raises:
            UsageError: the file of tokens cannot be used.
        """
        self.engines, self.limits, self.metrics = dict(engines), limits, metrics
        self.bodies = Bodies(limits)
        self.is_draining = False
        self._token_hashes = read_token_hashes(token_file)

    @property
    def is_ready(self) -> bool:
        """Whether requests of all models are answered."""
        return not self.is_draining and all(engine.is_ready for engine in self.engines.values())

    def engine_of(self, name: str | None) -> tuple[str, Engine]:
        """Find a model by its name; None means the first one.

        Raises:
            ServingError: there is no such model.
        """
        if name is None:
            return next(iter(self.engines.items()))
        if name not in self.engines:
            raise ServingError(404, "unknown_model", f"no such model; known: {', '.join(self.engines)}")
        return name, self.engines[name]

    def check_token(self, authorization: str) -> None:
        """Compare the token of a request with all known ones, in a time that does not depend on their letters.

        Args:
            authorization: header of the request.

        Raises:
            ServingError: the token is missing or unknown.
        """
        if not self._token_hashes:
            return
        scheme, _, token = authorization.partition(" ")
        given = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        matches = [hmac.compare_digest(given, known) for known in self._token_hashes]
        if scheme.lower() != "bearer" or not any(matches):
            raise ServingError(401, "unauthorized", "a token is needed: Authorization: Bearer TOKEN")

    async def compute(self, request: Request, name: str, images: list[Image], seconds: float | None = None) -> Computed:
        """Compute images for a request, and give up when its client is gone.

        Args:
            request: whose body is read.
            name: of the model.
            images: in order.
            seconds: the client waits no longer; None: as long as the limits allow.

        Raises:
            ClientGoneError: the client closed the connection.
            ServingError: as `Engine.compute`.
        """
        allowed = self.limits.request_seconds if seconds is None else min(seconds, self.limits.request_seconds)
        if place := request.scope.get("serving.place"):
            place.release()  # the images have places of their own
        work = asyncio.ensure_future(self.engines[name].compute(images, request.scope["serving.start"] + allowed))
        gone = asyncio.ensure_future(_wait_until_gone(request))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientGoneError
            computed = work.result()
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.wait({work, gone})
        self._count(name, computed.answers)
        return computed

    def _count(self, name: str, answers: list[Answer | ServingError]) -> None:
        for answer in answers:
            if isinstance(answer, ServingError):
                self.metrics.images.labels(name, answer.kind).inc()
            else:
                self.metrics.images.labels(name, "computed").inc()
                self.metrics.decode_seconds.labels(name).observe(answer.decode_seconds)
                self.metrics.queue_seconds.labels(name).observe(answer.queue_seconds)
                self.metrics.compute_seconds.labels(name).observe(answer.compute_seconds / answer.batch_size)
                self.metrics.batch_size.labels(name).observe(answer.batch_size)

    def metrics_text(self) -> bytes:
        """The metrics now."""
        self.metrics.ready.set(self.is_ready)
        for name, engine in self.engines.items():
            self.metrics.waiting.labels(name).set(engine.num_waiting)
        return self.metrics.text()

    def report_request(self, route: str, start: float, fields: dict, more: dict) -> None:
        """Log and count a request that has its answer.

        Args:
            route: its pattern, as "/v2/models/{name}/infer".
            start: when it began, a time of `time.monotonic`.
            fields: for the log, among them `path` and `status`.
            more: fields that come after the time in the log.
        """
        seconds, status = time.monotonic() - start, fields["status"]
        self.metrics.requests.labels(route, str(status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        if status != 200 or not fields["path"].startswith("/v2/health/"):  # of which every probe asks each second
            log("request", {**fields, "milliseconds": round(1000 * seconds, 2), **more})

    def report_engine(self, name: str, event: str, details: str) -> None:
        """Log and count what happened to the engine of a model."""
        log(event, {"model": name, "details": details})
        self.metrics.engine_events.labels(name, event).inc()


def request_id_of(given: str) -> str:
    """The id that a client gives its request, where it is harmless; else a new one."""
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def milliseconds_of(request: Request, answers: list[Answer | ServingError]) -> dict[str, float]:
    """What a request took; of several images the longest, since they are computed side by side."""
    computed = [answer for answer in answers if isinstance(answer, Answer)]
    stages = {
        "queue": max((answer.queue_seconds for answer in computed), default=0.0),
        "decode": max((answer.decode_seconds for answer in computed), default=0.0),
        "compute": max((answer.compute_seconds for answer in computed), default=0.0),
        "total": time.monotonic() - request.scope["serving.start"],
    }
    return {name: round(1000 * seconds, 3) for name, seconds in stages.items()}


def read_token_hashes(path: str) -> list[bytes]:
    """SHA-256 of every token of a file: one per line, lines that begin with # are skipped.

    Raises:
        UsageError: the file cannot be read, or has no token, or one that is short or that no header can hold.
    """
    if not path:
        return []
    try:
        lines = read_regular(Path(path).expanduser(), MAX_TOKEN_FILE_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token_file {path}: {getattr(error, 'strerror', None) or 'no text of UTF-8'}") from None
    tokens = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not tokens or not all(map(TOKEN.fullmatch, tokens)):
        raise UsageError(
            f"--token_file {path}: expected one token of at least {MIN_TOKEN_LENGTH} letters per line, of ASCII and "
            'without blanks; make one with python -c "import secrets; print(secrets.token_urlsafe())"'
        )
    return [hashlib.sha256(token.encode()).digest() for token in tokens]


def query_of(request: Request, known: tuple[str, ...]) -> dict[str, str]:
    """The query of a request.

    Raises:
        ServingError: it has a name that is not `known`, or one twice.
    """
    items = request.query_params.multi_items()
    for name, _ in items:
        if name not in known:
            raise bad_request(f"unknown parameter in the query; known: {', '.join(known) or 'none'}")
    if len(dict(items)) < len(items):
        raise bad_request("a parameter of the query is given twice")
    return dict(items)
