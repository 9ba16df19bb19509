"""The Open Inference Protocol over REST: by hand, and by Triton's own client, which is used unchanged."""

import base64
import json

import numpy as np
import pytest

from .service_in_thread import NAMES, SIDE, service_in_thread

INFER = "/v2/models/one/infer"
TENSOR = {"name": "input", "datatype": "FP32", "shape": [1, 3, SIDE, SIDE], "data": [0.5, 2.0, 1.0] + [0.0] * 45}
FILE = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(b"\x01\x09\x05").decode()]}


@pytest.fixture(scope="module")
def service():
    with service_in_thread() as running:
        yield running


def infer(service, body: dict | bytes, **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return service.request("POST", INFER, data, **headers)


def test_health_and_metadata(service):
    assert service.request("GET", "/v2/health/live").json == {"live": True}
    assert service.request("GET", "/v2/health/ready").json == {"ready": True}
    assert service.request("GET", "/v2/models/one/ready").json == {"name": "one", "ready": True}
    assert "binary_tensor_data" in service.request("GET", "/v2").json["extensions"]
    about = service.request("GET", "/v2/models/one/versions/1").json
    assert about == service.request("GET", "/v2/models/one").json
    assert about["inputs"][0] == {"name": "input", "datatype": "FP32", "shape": [-1, 3, SIDE, SIDE]}
    assert about["inputs"][1] == {"name": "image", "datatype": "BYTES", "shape": [-1]}
    assert [output["name"] for output in about["outputs"]] == ["logits", "probabilities"]


def test_not_ready(service):
    service.engine.is_ready = False
    try:
        assert service.request("GET", "/v2/health/ready").status == 503
        assert service.request("GET", "/v2/models/one/ready").status == 503
        assert service.request("GET", "/v2/models/two/ready").status == 200
        assert service.request("GET", "/v2/health/live").status == 200
    finally:
        service.engine.is_ready = True


@pytest.mark.parametrize("path", ["x", "one/versions/2", "..%2fone", "one%00", "one/x", ""])
def test_unknown_models(service, path):
    path = f"/v2/models/{path}"
    reply = service.request("GET", path)
    assert reply.status == 404 and isinstance(reply.json["error"], str)


def test_infer_by_json(service):
    answer = infer(service, {"id": "7", "inputs": [TENSOR]}).json
    assert answer["id"] == "7" and answer["model_name"] == "one" and answer["model_version"] == "1"
    logits, probabilities = answer["outputs"]
    assert logits == {"name": "logits", "datatype": "FP32", "shape": [1, 3], "data": [0.5, 2.0, 1.0]}
    assert sum(probabilities["data"]) == pytest.approx(1)
    nested = {**TENSOR, "data": np.reshape(TENSOR["data"], TENSOR["shape"]).tolist()}
    assert infer(service, {"inputs": [nested]}).json["outputs"][0]["data"] == [0.5, 2.0, 1.0]
    assert infer(service, {"inputs": [FILE]}).json["outputs"][0]["data"] == [1, 9, 5]
    column = {**FILE, "shape": [1, 1], "data": [FILE["data"]]}
    assert infer(service, {"inputs": [column]}).json["outputs"][0]["data"] == [1, 9, 5]


def changed(base: dict, **fields) -> dict:
    return {"inputs": [{**base, **fields}]}


TOO_MANY = {"classification": 4}
REFUSED = {
    "no JSON": (b"{", 400, "no JSON"),
    "no text": (b"\xff\xfe", 400, "no JSON"),
    "no object": (b"[]", 400, "object"),
    "deep": (b"[" * 100_000, 400, "deep"),
    "many items": (b"[" + b"1," * 1_000_001 + b"1]", 413, "items"),
    "no inputs": ({}, 400, "inputs"),
    "two inputs": ({"inputs": [TENSOR, FILE]}, 400, "one input"),
    "inputs that is no list": ({"inputs": 3}, 400, "inputs"),
    "id that is no text": ({"id": 7, "inputs": [TENSOR]}, 400, "id"),
    "id that UTF-8 cannot hold": ({"id": "\ud800", "inputs": [TENSOR]}, 400, "id"),
    "long id": ({"id": "x" * 129, "inputs": [TENSOR]}, 400, "id"),
    "another name": (changed(TENSOR, name="x"), 400, "input or image"),
    "name that is no text": (changed(TENSOR, name=[]), 400, "input or image"),
    "another type": (changed(TENSOR, datatype="FP64"), 400, "FP32"),
    "no shape": (changed(TENSOR, shape=None), 400, "shape"),
    "negative shape": (changed(TENSOR, shape=[-1, 3, SIDE, SIDE]), 400, "shape"),
    "true in the shape": (changed(TENSOR, shape=[True, 3, SIDE, SIDE]), 400, "shape"),
    "no image": (changed(TENSOR, shape=[0, 3, SIDE, SIDE], data=[]), 400, "at least one"),
    "another side": (changed(TENSOR, shape=[1, 3, SIDE, 5]), 400, "shape"),
    "huge shape": (changed(TENSOR, shape=[2**31 - 1, 3, SIDE, SIDE]), 413, "32 images"),
    "shape above all": (changed(TENSOR, shape=[2**63, 3, SIDE, SIDE]), 400, "shape"),
    "too few numbers": (changed(TENSOR, data=[1.0]), 400, "1 numbers"),
    "no numbers": (changed(TENSOR, data=["a"] * 48), 400, "numbers"),
    "objects": (changed(TENSOR, data=[{}] * 48), 400, "numbers"),
    "ragged": (changed(TENSOR, data=[[1.0], [1.0, 2.0]]), 400, "numbers"),
    "another nesting": (changed(TENSOR, data=np.zeros((3, 16)).tolist()), 400, "nested"),
    "nan": (json.dumps({"inputs": [{**TENSOR, "data": [float("nan")] * 48}]}).encode(), 400, "nan"),
    "infinity": (json.dumps(changed(TENSOR, data=[77] * 48)).replace("77", "1e999").encode(), 400, "inf"),
    "many digits": (b'{"inputs":[' + b"9" * 5000 + b"]}", 400, ""),
    "an address": (changed(FILE, data=["http://a/b.jpg"]), 400, "not fetched"),
    "base64 of another count": (changed(FILE, shape=[2]), 400, "1 images"),
    "BYTES that are no texts": (changed(FILE, data=[3]), 400, "base64"),
    "another output": ({"inputs": [TENSOR], "outputs": [{"name": "x"}]}, 400, "logits"),
    "outputs that are no list": ({"inputs": [TENSOR], "outputs": 3}, 400, "outputs"),
    "too many classes": ({"inputs": [TENSOR], "outputs": [{"name": "logits", "parameters": TOO_MANY}]}, 400, "classes"),
    "parameters that are no object": ({"inputs": [TENSOR], "parameters": []}, 400, "parameters"),
    "shared memory": (changed(TENSOR, parameters={"shared_memory_region": "x"}), 400, "shared memory"),
    "timeout": ({"inputs": [TENSOR], "parameters": {"timeout": -1}}, 400, "timeout"),
    "a file that is no image": (changed(FILE, data=["YQ=="]), 422, "image 0: not an image"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_requests_that_are_refused(service, case):
    body, status, words = REFUSED[case]
    reply = infer(service, body)
    assert reply.status == status, reply
    assert words in reply.json["error"] and isinstance(reply.json["error"], str)


HEAD = json.dumps(
    {"inputs": [{**{k: v for k, v in TENSOR.items() if k != "data"}, "parameters": {"binary_data_size": 192}}]}
)


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (HEAD.encode() + b"x" * 191, len(HEAD)),
        (HEAD.encode() + b"x" * 192, len(HEAD) + 1),
        (HEAD.encode() + b"x" * 192, 10**6),
        (HEAD.encode() + b"x" * 192, "-1"),
        (HEAD.encode() + b"\xff" * 192, len(HEAD)),  # nan
        (json.dumps({"inputs": [TENSOR]}).encode() + b"x", len(json.dumps({"inputs": [TENSOR]}))),
        (HEAD.encode(), None),
    ],
)
def test_binary_data_that_does_not_fit(service, body, length):
    headers = {} if length is None else {"Inference_Header_Content_Length": str(length)}
    assert infer(service, body, **headers).status == 400


def test_tritons_client(service):
    """Health, metadata, tensors and files, binary and JSON, compression, classification, ids and errors."""
    http = pytest.importorskip("tritonclient.http")
    with http.InferenceServerClient(f"127.0.0.1:{service.port}") as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("one", "1")
        assert not client.is_model_ready("nothing")
        assert client.get_server_metadata()["name"] and client.get_model_metadata("one")["name"] == "one"
        array = np.zeros((2, 3, SIDE, SIDE), np.float32)
        array[:, 0, 0, :3] = [[1, 2, 3], [6, 5, 4]]
        tensor = http.InferInput("input", list(array.shape), "FP32")
        for binary in (True, False):
            tensor.set_data_from_numpy(array, binary_data=binary)
            for compression in (None, "gzip", "deflate"):
                answer = client.infer("one", [tensor], request_id="5", request_compression_algorithm=compression)
                assert answer.as_numpy("logits").tolist() == [[1, 2, 3], [6, 5, 4]]
                assert answer.as_numpy("probabilities").sum(1) == pytest.approx([1, 1])
                assert answer.get_response()["id"] == "5"
        asked = [http.InferRequestedOutput("logits", binary_data=False)]
        assert client.infer("one", [tensor], outputs=asked).as_numpy("logits")[1].tolist() == [6, 5, 4]
        files = http.InferInput("image", [2], "BYTES")
        files.set_data_from_numpy(np.array([b"\x01\x09\x05", b"\x09\x08\x07"], object))
        for binary in (True, False):
            asked = [http.InferRequestedOutput("logits", binary_data=binary, class_count=2)]
            best = client.infer("one", [files], model_version="1", outputs=asked).as_numpy("logits")
            texts = [text.decode() if isinstance(text, bytes) else text for text in best.ravel()]
            assert texts == [f"9.000000:1:{NAMES[1]}", "5.000000:2:fox", "9.000000:0:cat", "8.000000:1:dog"]
        for model, words, status in (("nothing", "no such model", "404"), ("one", "image 1: not an image", "422")):
            files.set_data_from_numpy(np.array([b"\x01\x09\x05", b"x"], object))
            with pytest.raises(http.InferenceServerException, match=words) as caught:
                client.infer(model, [files])
            assert caught.value.status() == status
