"""The routes of the service, and what holds for each of them: tokens, limits, one form of errors, log and metrics."""

import asyncio
import time
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Match, Route

from . import protocol_v2
from .errors import ClientGoneError, ServingError
from .json_log import log_exception
from .openapi import docs_page, specification
from .predict_api import predict
from .service import Service, query_of, request_id_of

PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
CLIENT_GONE = 499  # in the log and the metrics, as nginx counts it
KINDS = {
    404: ("not_found", "no such path; GET /docs lists them"),
    405: ("method_not_allowed", "this method is not for this path; GET /docs lists them"),
}
SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' blob: data:; connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


async def page(request: Request) -> Response:
    """Answer GET /: a page to try pictures with."""
    return HTMLResponse(PAGE, headers=SAFE_HEADERS)


async def model_card(request: Request) -> JSONResponse:
    """Answer GET /model: what the card of a model says."""
    service = request.app.state.service
    query = query_of(request, ("model",))
    name, engine = service.engine_of(query.get("model"))
    about, limits = engine.description, service.limits
    return JSONResponse(
        {
            "model": name,
            "models": list(service.engines),
            "architecture": about["architecture"],
            "classes": about["num_classes"],
            "class_names": about["class_names"],
            "input_size": about["preprocess"]["input_size"],
            "preprocess": about["preprocess"],
            "engine": about["engine"],
            "temperature": about["temperature"],
            "top1_percent": about["metrics"].get("best_top1_percent"),
            "created": about["created"],
            "limits": {"max_body_bytes": limits.max_body_bytes, "max_images": limits.max_images},
        }
    )


async def openapi(request: Request) -> JSONResponse:
    """Answer GET /openapi.json."""
    return JSONResponse(specification(request.app.state.service))


async def docs(request: Request) -> HTMLResponse:
    """Answer GET /docs: the same for people."""
    return HTMLResponse(docs_page(specification(request.app.state.service)), headers=SAFE_HEADERS)


MODEL_PATHS = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
ROUTES = [
    Route("/", page),
    Route("/predict", predict, methods=["POST"]),
    Route("/model", model_card),
    Route("/openapi.json", openapi),
    Route("/docs", docs),
    Route("/v2", protocol_v2.server_metadata),
    Route("/v2/health/live", protocol_v2.live),
    Route("/v2/health/ready", protocol_v2.ready),
    *(Route(path, protocol_v2.model_metadata) for path in MODEL_PATHS),
    *(Route(f"{path}/ready", protocol_v2.model_ready) for path in MODEL_PATHS),
    *(Route(f"{path}/infer", protocol_v2.infer, methods=["POST"]) for path in MODEL_PATHS),
]
OPEN_PATHS = {"/", "/docs", "/openapi.json", "/v2", "/v2/health/live", "/v2/health/ready"}  # need no token


def route_of(scope) -> str:
    """The pattern of the route of a request, also of one that was refused before it reached the route."""
    if "route" in scope:
        return scope["route"].path
    return next((route.path for route in ROUTES if route.matches(scope)[0] != Match.NONE), "other")


class App:
    """The ASGI application: the routes, and around them what holds for all."""

    def __init__(self, service: Service):
        self._service = service
        errors = {
            ServingError: answer_error,
            HTTPException: answer_http_exception,
            ClientGoneError: answer_client_gone,
            Exception: answer_fault,
        }
        self._routes = Starlette(routes=ROUTES, exception_handlers=errors)
        self._routes.router.redirect_slashes = False
        self._routes.state.service = service

    async def __call__(self, scope, receive, send) -> None:
        """Answer one request, log it and count it."""
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} here")
        headers = Request(scope).headers
        request_id = request_id_of(headers.get("x-request-id", ""))
        scope |= {"serving.start": time.monotonic(), "serving.id": request_id, "serving.log": {}}
        answer = _Answer(send, request_id, is_last=self._service.is_draining)
        try:
            self._check(scope, headers)
        except ServingError as error:
            await error_response(Request(scope), error)(scope, receive, answer.send)
        else:
            await self._run(scope, receive, answer)
        self._report(scope, answer)

    def _check(self, scope, headers) -> None:
        """Refuse what no route is to see."""
        limits = self._service.limits
        num_bytes = len(scope["raw_path"]) + len(scope["query_string"])
        if num_bytes + sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > limits.max_header_bytes:
            raise ServingError(431, "too_large", f"more than {limits.max_header_bytes >> 10} KB of headers")
        if scope["path"] not in OPEN_PATHS:
            self._service.check_token(headers.get("authorization", ""))
        if self._service.is_draining and scope["method"] == "POST":
            message = "the service is stopping; send the request to another instance"
            raise ServingError(503, "stopping", message, retry_after=2)

    async def _run(self, scope, receive, answer: "_Answer") -> None:
        try:
            await self._routes(scope, receive, answer.send)
        except ClientGoneError:
            answer.status = CLIENT_GONE
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a fault of the project; Starlette has answered 500
            log_exception(error, {"request_id": scope["serving.id"], "path": scope["path"][:200]})

    def _report(self, scope, answer: "_Answer") -> None:
        fields = {
            "request_id": scope["serving.id"],
            "client": (scope.get("client") or ("",))[0],
            "method": scope["method"],
            "path": scope["path"][:200],
            "status": answer.status,
        }
        self._service.report_request(route_of(scope), scope["serving.start"], fields, scope["serving.log"])


class _Answer:
    """Adds the request id to an answer, and remembers its status."""

    def __init__(self, send, request_id: str, *, is_last: bool):
        self._send, self.status = send, CLIENT_GONE
        self._headers = [(b"x-request-id", request_id.encode())]
        if is_last:
            self._headers.append((b"connection", b"close"))

    async def send(self, message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message["headers"], *self._headers]}
        await self._send(message)


def error_response(request: Request, error: ServingError) -> JSONResponse:
    """The answer of an error."""
    request.scope["serving.log"] |= {"kind": error.kind}
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == 408:
        headers["Connection"] = "close"
    return JSONResponse(error.body(request.scope["serving.id"]), error.status, headers=headers)


async def answer_error(request: Request, error: ServingError) -> JSONResponse:
    """Answer a ServingError."""
    return error_response(request, error)


async def answer_http_exception(request: Request, error: HTTPException) -> JSONResponse:
    """Answer a path or a method that no route has."""
    kind, message = KINDS.get(error.status_code, ("bad_request", "the request cannot be read"))
    response = error_response(request, ServingError(error.status_code, kind, message))
    response.headers.update(error.headers or {})
    return response


async def answer_fault(request: Request, error: Exception) -> JSONResponse:
    """Answer a request that met a fault of the project; the log has the traceback."""
    return error_response(request, ServingError(500, "fault", "a fault of the service; its log has the request id"))


async def answer_client_gone(request: Request, error: ClientGoneError) -> Response:
    """Answer nobody: let the application see that there is no answer.

    Raises:
        ClientGoneError: always.
    """
    raise error
