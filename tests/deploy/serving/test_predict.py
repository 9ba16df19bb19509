"""POST /predict and GET /model: files and forms in, records of infer.py out, errors of one form."""

import numpy as np
import pytest

from deploy.serving.app import OPEN_PATHS, ROUTES
from deploy.serving.workers.batching import Answer

from .service_in_thread import service_in_thread

FORM = b'--B\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'


@pytest.fixture(scope="module")
def service():
    with service_in_thread() as running:
        yield running


def form(*files: tuple[str, bytes]) -> dict:
    parts = [FORM % (b"a", b'; filename="%s"' % name.encode() if name else b"", data) for name, data in files]
    return {"body": b"".join(parts) + b"--B--\r\n", "content_type": "multipart/form-data; boundary=B"}


def test_one_image(service):
    reply = service.request("POST", "/predict", bytes([1, 9, 5]), content_type="image/jpeg")
    assert reply.status == 200
    [record] = reply.json["predictions"]
    assert list(record) == ["class_ids", "scores", "file_name", "label_names"]
    assert record["label_names"] == ["dog", "fox", "cat"] and record["class_ids"] == [1, 2, 0]
    assert sum(record["scores"]) == pytest.approx(1) and record["file_name"] == "image"
    assert reply.json["model"] == "one"
    assert list(reply.json["milliseconds"]) == ["queue", "decode", "compute", "total"]
    assert reply.json["milliseconds"]["decode"] == 3.0


def test_several_files_of_which_one_cannot_be_read(service):
    reply = service.request("POST", "/predict?top_k=1&model=two", **form(("a.jpg", b"\x09\x01\x02"), ("é.jpg", b"x")))
    good, bad = reply.json["predictions"]
    assert good["label_names"] == ["cat"] and good["file_name"] == "a.jpg" and "error" not in good
    assert bad == {
        "class_ids": [],
        "scores": [],
        "file_name": "é.jpg",
        "label_names": [],
        "error": "not an image",
    }
    assert reply.json["model"] == "two"


@pytest.mark.parametrize("request_", [{"body": b"x", "content_type": "image/png"}, form(("a.jpg", b"x"))])
def test_a_single_image_that_cannot_be_read(service, request_):
    reply = service.request("POST", "/predict", **request_)
    assert reply.status == 422
    assert reply.json["error"] == "not an image" and reply.json["kind"] == "unreadable_image"


IMAGE = {"body": b"abc"}
FORM_OF_A_BROWSER = {"body": b"a=b", "content_type": "application/x-www-form-urlencoded"}
ADDRESS = {"body": b'{"image": "http://a/b.jpg"}', "content_type": "application/json"}
CUT_SHORT = {"body": b"--B\r\nCont", "content_type": "multipart/form-data; boundary=B"}
REFUSED = {
    "unknown parameter": ("/predict?topk=3", IMAGE, 400, "top_k"),
    "parameter twice": ("/predict?top_k=3&top_k=2", IMAGE, 400, "twice"),
    "top_k of 0": ("/predict?top_k=0", IMAGE, 400, "from 1 to 3"),
    "top_k above the classes": ("/predict?top_k=4", IMAGE, 400, "from 1 to 3"),
    "top_k that is no number": ("/predict?top_k=1e9", IMAGE, 400, "from 1 to 3"),
    "unknown model": ("/predict?model=x", IMAGE, 404, "one, two"),
    "no body": ("/predict", {}, 400, "empty"),
    "a form of a browser": ("/predict", FORM_OF_A_BROWSER, 415, "image/"),
    "an address": ("/predict", ADDRESS, 415, "image/"),
    "an unknown encoding": ("/predict", {"body": b"abc", "content_encoding": "br"}, 415, "gzip"),
    "damaged gzip": ("/predict", {"body": b"abc", "content_encoding": "gzip"}, 400, "no gzip data"),
    "a form without a boundary": ("/predict", {"body": b"abc", "content_type": "multipart/form-data"}, 400, "form"),
    "a form that is cut short": ("/predict", CUT_SHORT, 400, "form"),
    "a form without a file": ("/predict", form(), 400, "no file"),
    "a form with a field": ("/predict", form(("", b"3")), 400, "query"),
    "too many files": ("/predict", form(*[("a", b"abc")] * 33), 413, "32 images"),
    "no such path": ("/predictions", IMAGE, 404, "/docs"),
    "a path above": ("/../predict", IMAGE, 404, "/docs"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_requests_that_are_refused(service, case):
    path, request_, status, words = REFUSED[case]
    reply = service.request("POST", path, **request_)
    assert reply.status == status, reply
    assert set(reply.json) == {"error", "status", "kind", "request_id"}
    assert words in reply.json["error"] and reply.json["status"] == status
    assert reply.headers["X-Request-ID"] == reply.json["request_id"]


def test_a_file_name_that_utf8_cannot_hold(service):
    request_ = form(("\\ud800.jpg", b"abc"))
    request_["content_type"] += "; charset=unicode_escape"
    reply = service.request("POST", "/predict", **request_)
    assert reply.status == 200 and reply.json["predictions"][0]["file_name"] == "?.jpg"


def test_the_form_of_errors_of_other_methods(service):
    reply = service.request("GET", "/predict")
    assert reply.status == 405 and reply.headers["Allow"] == "POST" and reply.json["kind"] == "method_not_allowed"
    assert service.request("OPTIONS", "/predict").headers["Access-Control-Allow-Origin"] is None


def test_the_card_of_a_model(service):
    about = service.request("GET", "/model?model=two").json
    assert about["model"] == "two" and about["models"] == ["one", "two"]
    assert about["classes"] == 3 and about["input_size"] == 4 and about["top1_percent"] == 90.0
    assert about["limits"] == {"max_body_bytes": 16 << 20, "max_images": 32}
    assert service.request("GET", "/model?x=1").status == 400


def test_the_request_id_of_a_client_is_kept_if_it_is_harmless(service):
    assert service.request("GET", "/model", X_Request_ID="abc-1").headers["X-Request-ID"] == "abc-1"
    assert service.request("GET", "/model", X_Request_ID="<script>").headers["X-Request-ID"] != "<script>"


def test_the_pages(service):
    page, docs = service.request("GET", "/"), service.request("GET", "/docs")
    assert page.status == docs.status == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    description = service.request("GET", "/openapi.json").json
    assert description["openapi"] == "3.1.0"
    assert b"POST /predict" in docs.content and b"http" not in docs.content.replace(b"http://www.w3.org", b"")
    described = description["paths"].keys() | {"/", "/docs", "/openapi.json"}
    assert {route.path for route in ROUTES if "version" not in route.path} == described
    operations = {path: operation for path, methods in description["paths"].items() for operation in methods.values()}
    open_paths = {path for path, operation in operations.items() if operation.get("security") == []}
    assert open_paths == OPEN_PATHS & operations.keys()
    assert {"token": []} in description["security"]


def test_requests_and_images_are_counted(service):
    before = service.samples()
    service.request("POST", "/predict", **form(("a", b"abc"), ("b", b"x"), ("c", b"abc")))
    service.request("GET", "/nowhere/a?b=c")
    after = service.samples()

    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert grown('serving_requests_total{route="/predict",status="200"}') == 1
    assert grown('serving_requests_total{route="other",status="404"}') == 1
    assert grown('serving_images_total{model="one",outcome="computed"}') == 2
    assert grown('serving_images_total{model="one",outcome="unreadable_image"}') == 1


def test_the_time_of_a_batch_is_counted_once(service):
    before = service.samples().get('serving_compute_seconds_sum{model="two"}', 0)
    answers = [Answer(np.zeros(3, np.float32), 0.0, 0.0, 2.0, 4)] * 4
    service.call(service.service._count, "two", answers)
    assert service.samples()['serving_compute_seconds_sum{model="two"}'] - before == pytest.approx(2)


def test_a_fault_is_an_error_without_a_traceback(service, monkeypatch, capsys):
    monkeypatch.setattr(service.engine, "compute", None)
    reply = service.request("POST", "/predict", b"abc")
    assert reply.status == 500
    assert reply.json["kind"] == "fault" and b"Traceback" not in reply.content and b"NoneType" not in reply.content
    service.samples()  # the log is written after the answer
    assert '"event": "fault"' in capsys.readouterr().out
