"""POST /predict: image files to predictions with names and probabilities, the records of infer.py."""

import re

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse

from ..predictions import failed_prediction
from ..topk import topk_predictions
from .errors import ServingError, bad_request
from .request_body import files_of_form
from .service import milliseconds_of, query_of
from .workers.batching import Answer
from .workers.engine import Computed
from .workers.frames import Kind
from .workers.process import Image

DEFAULT_TOP_K = 5
FORM = "multipart/form-data"


async def predict(request: Request) -> JSONResponse:
    """Answer POST /predict.

    Raises:
        ClientGoneError: the client closed the connection.
        ServingError: the request cannot be answered.
    """
    service = request.app.state.service
    query = query_of(request, ("model", "top_k"))
    name, engine = service.engine_of(query.get("model"))
    top_k = top_k_of(query, engine.description)
    content_type = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if not (content_type in (FORM, "application/octet-stream") or re.fullmatch(r"image/[\w.+-]+", content_type)):
        message = (
            f"Content-Type: expected image/* or application/octet-stream for one image, or {FORM} for files; with "
            'curl: --data-binary @photo.jpg -H "Content-Type: image/jpeg"'
        )
        raise ServingError(415, "unsupported_media_type", message)
    service.bodies.check_length(request)
    engine.check_queue()  # before the body is read
    async with service.bodies.read(request) as body:
        engine.check_queue()  # and before it is parsed
        if content_type == FORM:
            files = await files_of_form(request, body, service.limits.max_images)
        else:
            files = [("image", body)]
        names, images = [file_name for file_name, _ in files], [Image(Kind.IMAGE, data) for _, data in files]
        del files
        if len(images) == 1 and not images[0].data:
            raise bad_request("the body is empty; with curl: --data-binary @photo.jpg")
        computed = await service.compute(request, name, images)
    request.scope["serving.log"] |= {"model": name, "images": len(names)}
    if len(names) == 1 and isinstance(computed.answers[0], ServingError):
        raise computed.answers[0]
    records = records_of(computed, names, top_k)
    milliseconds = milliseconds_of(request, computed.answers)
    return JSONResponse({"model": name, "predictions": records, "milliseconds": milliseconds})


def top_k_of(query: dict[str, str], description: dict) -> int:
    """Number of classes in a prediction, from the query.

    Raises:
        ServingError: it is no whole number, or more than there are classes.
    """
    text = query.get("top_k", str(min(DEFAULT_TOP_K, description["num_classes"])))
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= description["num_classes"]:
        raise bad_request(f"top_k: expected a whole number from 1 to {description['num_classes']}")
    return int(text)


def records_of(computed: Computed, file_names: list[str], top_k: int) -> list[dict]:
    """Make the record of every image; one that cannot be read has an `error`.

    Args:
        computed: answers to the images.
        file_names: of the images.
        top_k: number of classes in a record.
    """
    description = computed.description
    rows = [answer.logits for answer in computed.answers if isinstance(answer, Answer)]
    names = [name for name, answer in zip(file_names, computed.answers, strict=True) if isinstance(answer, Answer)]
    settings = {"topk": top_k, "temperature": description["temperature"]}
    predictions = iter(topk_predictions(np.stack(rows), names, description["class_names"], **settings) if rows else ())
    return [
        next(predictions) if isinstance(answer, Answer) else failed_prediction(name, answer.message)
        for name, answer in zip(file_names, computed.answers, strict=True)
    ]
