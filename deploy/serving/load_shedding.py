"""Refuse requests for which there is no place from their first bytes, before they are parsed: load shedding.

Parsing a request, finding its route and answering 503 takes a millisecond of a processor, which the engine then lacks.
A refusal here takes a tenth of that. It concerns requests of the form that clients send; any other is parsed, and gets
the same answer there.
"""

import re
import time
from typing import NamedTuple

from .errors import ServingError
from .service import Service, request_id_of
from .workers.engine import Place

HEAD = re.compile(
    rb"POST (/predict|/v2/models/([A-Za-z0-9._-]{1,64})/infer)(?:\?top_k=[0-9]{1,6})? HTTP/1\.1\r\n"
    rb"((?:[A-Za-z0-9-]+:[ -~]*\r\n)+)\r\n"
)
PREDICT_ROUTE, INFER_ROUTE = "/predict", "/v2/models/{name}/infer"
BYTES_OF_A_FAST_BODY = 4096  # that arrive with the head, or the whole body
# the body may have another length, or the client waits for another answer first
NOT_PLAIN = frozenset(("transfer-encoding", "expect", "upgrade", "connection"))


class Refusal(NamedTuple):
    """The answer to a request, and the sizes of the parts of the request."""

    answer: bytes
    num_head_bytes: int
    num_body_bytes: int


class LoadShedder:
    """Refuses requests while the queue of their model is full."""

    def __init__(self, service: Service):
        self._service = service

    def admit(self, data: bytes, client: str) -> Refusal | Place | None:
        """Refuse the request that `data` begins with, log it and count it; or take a place for it.

        Args:
            data: the first bytes of a request, and perhaps a part of its body.
            client: address, for the log.

        Returns:
            The refusal; or the place of the request, which is to be parsed; or None for a request that is to be parsed
            and keeps no place, because it is not of the plain form or its body is slow.
        """
        start, service = time.monotonic(), self._service
        match = HEAD.match(data)
        if match is None or match.end() > service.limits.max_header_bytes or service.is_draining:
            return None
        headers = _headers_of(match[3].decode("ascii"))
        length = headers.get("content-length", "")
        if not re.fullmatch("[0-9]{1,12}", length) or int(length) > service.limits.max_body_bytes:
            return None
        path, model = match[1].decode("ascii"), match[2]
        try:
            service.check_token(headers.get("authorization", ""))
            _, engine = service.engine_of(model.decode("ascii") if model else None)
        except ServingError:
            return None
        try:
            place = engine.take_place()
        except ServingError as error:
            fields = {
                "request_id": request_id_of(headers.get("x-request-id", "")),
                "client": client,
                "method": "POST",
                "path": path,
                "status": error.status,
            }
            service.report_request(INFER_ROUTE if model else PREDICT_ROUTE, start, fields, {"kind": error.kind})
            return Refusal(error.raw_answer(fields["request_id"], keep_open=True), match.end(), int(length))
        if len(data) - match.end() < min(int(length), BYTES_OF_A_FAST_BODY):
            place.release()
            return None
        return place


def _headers_of(text: str) -> dict[str, str]:
    """The values of the headers by their names in lower case; none where the request is not of the plain form."""
    headers = {}
    for line in text.split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" ")
        is_plain = name not in NOT_PLAIN or (name, value.lower()) == ("connection", "keep-alive")
        if name in headers or not is_plain:
            return {}
        headers[name] = value
    return headers if "host" in headers else {}
