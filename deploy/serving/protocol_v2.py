"""The Open Inference Protocol, version 2, over REST: https://github.com/kserve/open-inference-protocol.

With Triton's extensions for binary tensors and classification. Its gRPC form is not here: a server of grpcio keeps 100
requests of 15 MB in 1.4 GB and does not close half-open connections; docs/serving.md has the measurement.
"""

import base64
import binascii
import json
import re
from typing import NamedTuple

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..topk import softmax
from .errors import ServingError, bad_request, too_large
from .service import query_of
from .workers.engine import Computed
from .workers.frames import Kind
from .workers.process import Image

SERVER = {
    "name": "peleenet-paddle",
    "version": "2",  # of the protocol
    "extensions": ["binary_tensor_data", "classification"],
}
MODEL_VERSION = "1"
TENSOR_INPUT, IMAGE_INPUT = "input", "image"
LOGITS, PROBABILITIES = "logits", "probabilities"
BINARY_HEADER = "inference-header-content-length"
MAX_ID_LENGTH = 128
SURROGATE = re.compile("[\ud800-\udfff]")  # JSON may name it, and UTF-8 cannot hold it


class Request2(NamedTuple):
    """An inference request: its images, its id, and the outputs that it asks for."""

    images: list[Image]
    id: str | None
    outputs: list[dict]
    seconds: float | None


async def live(request: Request) -> JSONResponse:
    """Answer GET /v2/health/live: the process runs."""
    return JSONResponse({"live": True})


async def ready(request: Request) -> JSONResponse:
    """Answer GET /v2/health/ready: requests of all models are answered."""
    is_ready = request.app.state.service.is_ready
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)


async def server_metadata(request: Request) -> JSONResponse:
    """Answer GET /v2."""
    return JSONResponse(SERVER)


async def model_ready(request: Request) -> JSONResponse:
    """Answer GET /v2/models/NAME/ready."""
    service = request.app.state.service
    name, engine = service.engine_of(_model_name(request))
    is_ready = engine.is_ready and not service.is_draining
    return JSONResponse({"name": name, "ready": is_ready}, 200 if is_ready else 503)


async def model_metadata(request: Request) -> JSONResponse:
    """Answer GET /v2/models/NAME: the two inputs, of which a request has one, and the outputs."""
    name, engine = request.app.state.service.engine_of(_model_name(request))
    about = engine.description
    side, num_classes = about["preprocess"]["input_size"], about["num_classes"]
    return JSONResponse(
        {
            "name": name,
            "versions": [MODEL_VERSION],
            "platform": about["engine_name"],
            "inputs": [
                {"name": TENSOR_INPUT, "datatype": "FP32", "shape": [-1, 3, side, side]},
                {"name": IMAGE_INPUT, "datatype": "BYTES", "shape": [-1]},
            ],
            "outputs": [
                {"name": LOGITS, "datatype": "FP32", "shape": [-1, num_classes]},
                {"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, num_classes]},
            ],
        }
    )


async def infer(request: Request) -> Response:
    """Answer POST /v2/models/NAME/infer.

    Raises:
        ClientGoneError: the client closed the connection.
        ServingError: the request cannot be answered.
    """
    service = request.app.state.service
    query_of(request, ())
    name, engine = service.engine_of(_model_name(request))
    service.bodies.check_length(request)
    engine.check_queue()
    async with service.bodies.read(request) as body:
        asked = parse_request(bytes(body), request.headers.get(BINARY_HEADER), engine.description, service.limits)
        body.clear()
        computed = await service.compute(request, name, asked.images, asked.seconds)
    request.scope["serving.log"] |= {"model": name, "images": len(asked.images)}
    for place, answer in enumerate(computed.answers):
        if isinstance(answer, ServingError):
            raise ServingError(answer.status, answer.kind, f"image {place}: {answer.message}")
    return _response(name, asked, computed)


def _model_name(request: Request) -> str:
    if request.path_params.get("version", MODEL_VERSION) != MODEL_VERSION:
        raise ServingError(404, "unknown_model", f"no such version of the model; known: {MODEL_VERSION}")
    return request.path_params["name"]


# --- the request ----------------------------------------------------------------------------------------------------


def parse_request(body: bytes, header_length: str | None, description: dict, limits) -> Request2:
    """Parse the body of an inference request.

    Args:
        body: JSON, and after it the binary tensors.
        header_length: number of bytes of the JSON, from the header of the request; None: all.
        description: of the model.
        limits: of the service.

    Raises:
        ServingError: the body is not what the protocol says, or is above a limit.
    """
    binary = memoryview(b"")
    if header_length is not None:
        if not re.fullmatch(r"[0-9]{1,9}", header_length) or int(header_length) > len(body):
            raise bad_request("Inference-Header-Content-Length: expected the number of bytes of the JSON")
        body, binary = body[: int(header_length)], memoryview(body)[int(header_length) :]
    fields = parse_json(body, limits.max_json_items)
    if not isinstance(fields, dict):
        raise bad_request("the request: expected a JSON object")
    parameters = _object(fields, "parameters")
    request_id = fields.get("id")
    is_text = isinstance(request_id, str) and not SURROGATE.search(request_id)
    if request_id is not None and not (is_text and len(request_id) <= MAX_ID_LENGTH):
        raise bad_request(f"id: expected a text of at most {MAX_ID_LENGTH} letters")
    inputs = fields.get("inputs")
    if not (isinstance(inputs, list) and len(inputs) == 1 and isinstance(inputs[0], dict)):
        raise bad_request(f"inputs: expected a list of one input, {TENSOR_INPUT} or {IMAGE_INPUT}")
    images = _images_of(inputs[0], binary, description, limits)
    outputs = _outputs_of(fields, parameters, description)
    timeout = parameters.get("timeout")  # microseconds
    if timeout is not None and not (isinstance(timeout, int) and not isinstance(timeout, bool) and timeout > 0):
        raise bad_request("parameters.timeout: expected a whole number of microseconds")
    return Request2(images, request_id, outputs, None if timeout is None else min(timeout, 10**12) / 1e6)


def parse_json(text: bytes, max_items: int) -> object:
    """Parse JSON whose items are counted first.

    Raises:
        ServingError: the text is no JSON, is nested too deeply, or has too many items.
    """
    if sum(map(text.count, (b"[", b"{", b",", b":"))) > max_items:
        raise too_large(f"more than {max_items:,} items of JSON; send tensors as binary data, or image files")
    try:
        return json.loads(text)
    except RecursionError:
        raise bad_request("the JSON is nested too deeply") from None
    except ValueError:  # also bytes that are no text, and numbers of more than 4,300 digits
        raise bad_request("the body is no JSON") from None


def _object(fields: dict, name: str) -> dict:
    value = fields.get(name)
    if not isinstance(value, dict | None):
        raise bad_request(f"{name}: expected a JSON object")
    return value or {}


def _images_of(given: dict, binary: memoryview, description: dict, limits) -> list[Image]:
    """The images of the one input of a request."""
    name, datatype, shape = given.get("name"), given.get("datatype"), given.get("shape")
    expected = {TENSOR_INPUT: "FP32", IMAGE_INPUT: "BYTES"}
    if not isinstance(name, str) or name not in expected:
        raise bad_request(f"inputs[0].name: expected {TENSOR_INPUT} or {IMAGE_INPUT}")
    if datatype != expected[name]:
        raise bad_request(f"inputs[0].datatype: expected {expected[name]} for {name}")
    is_shape = isinstance(shape, list) and all(type(size) is int and 0 <= size < 2**31 for size in shape)
    if not is_shape or not shape:
        raise bad_request("inputs[0].shape: expected a list of whole numbers")
    side = description["preprocess"]["input_size"]
    if name == TENSOR_INPUT and shape[1:] != [3, side, side]:
        raise bad_request(f"inputs[0].shape: expected [B, 3, {side}, {side}]")
    if name == IMAGE_INPUT and shape[1:] not in ([], [1]):
        raise bad_request("inputs[0].shape: expected [B] or [B, 1]")
    if shape[0] < 1:
        raise bad_request("inputs[0].shape: expected at least one image")
    if shape[0] > limits.max_images:
        raise too_large(f"more than {limits.max_images} images in one request; send several requests")
    data = _binary_of(given, binary)
    if name == TENSOR_INPUT:
        return _tensors(given, data, shape)
    return _encoded_images(given, data, shape[0])


def _binary_of(given: dict, binary: memoryview) -> memoryview | None:
    """The binary data of the input; None where its data is in the JSON."""
    size = _object(given, "parameters").get("binary_data_size")
    if "shared_memory_region" in _object(given, "parameters"):
        raise bad_request("inputs[0]: shared memory is not used here; send the data")
    if size is None:
        if binary:
            raise bad_request("inputs[0].parameters.binary_data_size is missing, and binary data follows the JSON")
        return None
    if type(size) is not int or size != len(binary) or "data" in given:
        raise bad_request("inputs[0].parameters.binary_data_size: expected the number of bytes after the JSON")
    return binary


def _tensors(given: dict, data: memoryview | None, shape: list[int]) -> list[Image]:
    if data is None:
        values = given.get("data")
        if not isinstance(values, list):
            raise bad_request("inputs[0].data: expected a list of numbers")
        try:
            array = np.array(values, np.float32)
        except (ValueError, TypeError, OverflowError):
            raise bad_request("inputs[0].data: expected numbers, flat or nested as the shape says") from None
        if array.shape not in ((array.size,), tuple(shape)):
            raise bad_request("inputs[0].data: nested in another way than the shape says")
    elif len(data) % 4:
        raise bad_request("inputs[0]: the binary data is no float32")
    else:
        array = np.frombuffer(data, "<f4").astype(np.float32, copy=False)
    if array.size != np.prod(shape, dtype=np.int64):
        raise bad_request(f"inputs[0]: {array.size} numbers, and the shape says {np.prod(shape, dtype=np.int64)}")
    if not np.isfinite(array).all():
        raise bad_request("inputs[0]: nan or inf")
    return [Image(Kind.TENSOR, image.tobytes()) for image in array.reshape(shape)]


def _encoded_images(given: dict, data: memoryview | None, count: int) -> list[Image]:
    if data is not None:
        files = _split_bytes(data)
    else:
        values = given.get("data")
        if isinstance(values, list) and all(isinstance(value, list) and len(value) == 1 for value in values):
            values = [value[0] for value in values]
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise bad_request("inputs[0].data: expected a list of texts, image files in base64")
        try:
            files = [base64.b64decode(value, validate=True) for value in values]
        except (binascii.Error, ValueError):
            raise bad_request("inputs[0].data: expected image files in base64; addresses are not fetched") from None
    if len(files) != count:
        raise bad_request(f"inputs[0]: {len(files)} images, and the shape says {count}")
    return [Image(Kind.IMAGE, file) for file in files]


def _split_bytes(data: memoryview) -> list[bytes]:
    """Split the binary form of BYTES: each text has its length, 4 bytes, before it."""
    texts, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        if at + 4 + length > len(data):
            raise bad_request("inputs[0]: a length in the binary data is wrong")
        texts.append(bytes(data[at + 4 : at + 4 + length]))
        at += 4 + length
    return texts


def _outputs_of(fields: dict, parameters: dict, description: dict) -> list[dict]:
    """Outputs that are asked for: name, is_binary, num_classes (None: the tensor itself)."""
    asked = fields.get("outputs")
    if asked is None or asked == []:
        asked = [{"name": LOGITS}, {"name": PROBABILITIES}]
    if not isinstance(asked, list) or len(asked) > 8:
        raise bad_request(f"outputs: expected a list of {LOGITS} or {PROBABILITIES}")
    default = parameters.get("binary_data_output", False)
    outputs = []
    for place, output in enumerate(asked):
        if not isinstance(output, dict) or output.get("name") not in (LOGITS, PROBABILITIES):
            raise bad_request(f"outputs[{place}].name: expected {LOGITS} or {PROBABILITIES}")
        own = _object(output, "parameters")
        is_binary, num_classes = own.get("binary_data", default), own.get("classification", 0)
        if not isinstance(is_binary, bool):
            raise bad_request(f"outputs[{place}].parameters.binary_data: expected true or false")
        if type(num_classes) is not int or not 0 <= num_classes <= description["num_classes"]:
            raise bad_request(f"outputs[{place}].parameters.classification: expected at most the number of classes")
        outputs.append({"name": output["name"], "is_binary": is_binary, "num_classes": num_classes})
    return outputs


# --- the answer -----------------------------------------------------------------------------------------------------


def _response(name: str, asked: Request2, computed: Computed) -> Response:
    logits = np.stack([answer.logits for answer in computed.answers])
    values = {LOGITS: logits}
    if any(output["name"] == PROBABILITIES for output in asked.outputs):
        values[PROBABILITIES] = softmax(logits, computed.description["temperature"]).astype(np.float32)
    outputs, binary = [], []
    for output in asked.outputs:
        array = values[output["name"]]
        if output["num_classes"]:
            array = _classified(array, output["num_classes"], computed.description["class_names"])
        is_text = array.dtype == object
        about = {"name": output["name"], "datatype": "BYTES" if is_text else "FP32", "shape": list(array.shape)}
        if output["is_binary"]:
            data = _join_bytes(array) if is_text else array.astype("<f4").tobytes()
            about["parameters"] = {"binary_data_size": len(data)}
            binary.append(data)
        else:
            about["data"] = array.ravel().tolist()
        outputs.append(about)
    answer = {"model_name": name, "model_version": MODEL_VERSION, "outputs": outputs}
    if asked.id is not None:
        answer["id"] = asked.id
    if not binary:
        return JSONResponse(answer)
    head = json.dumps(answer).encode()
    headers = {BINARY_HEADER: str(len(head))}
    return Response(b"".join([head, *binary]), media_type="application/octet-stream", headers=headers)


def _classified(values: np.ndarray, num_classes: int, class_names: list[str] | None) -> np.ndarray:
    """The largest values of each row as Triton writes them: `value:class:name`."""
    best = np.argsort(-values, axis=1, kind="stable")[:, :num_classes]
    texts = np.empty(best.shape, object)
    for row, labels in enumerate(best):
        for place, label in enumerate(labels):
            name = f":{class_names[label]}" if class_names else ""
            texts[row, place] = f"{values[row, label]:f}:{label}{name}"
    return texts


def _join_bytes(texts: np.ndarray) -> bytes:
    encoded = [text.encode() for text in texts.ravel()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in encoded)
