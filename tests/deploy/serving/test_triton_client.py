"""The example client for Triton: what it asks and prints; tests/deploy/serving/test_docs.py asks a service by it."""

import json
import socket
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from common.errors import ServiceError, UsageError
from datasets.preprocess import Preprocess
from deploy.card import Card, write_card
from deploy.serving import triton_client

from .service_in_thread import SIDE, service_in_thread

CARD = Card("peleenet", "PeleeNet", 2, Preprocess(32), ("cat", "dog"), temperature=2.0)
METADATA = {
    "inputs": [{"name": "images", "datatype": "FP32", "shape": ["-1", "3", "32", "32"]}],
    "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 2]}],
}


class FakeModel:
    """Gives the mean of the red channel as first logit."""

    def __init__(self):
        self.sizes = []

    def logits(self, images):
        self.sizes.append(images.shape)
        return np.stack([images[:, 0].mean(axis=(1, 2)), np.zeros(len(images))], axis=1).astype(np.float32)


def test_records_are_those_of_infer_in_batches(tmp_path):
    for place, red in enumerate((255, 0, 128)):
        Image.new("RGB", (40, 40), (red, 0, 0)).save(tmp_path / f"{place}.png")
    (tmp_path / "0b.png").write_bytes(b"no picture")
    paths = sorted(map(str, tmp_path.iterdir()))
    model = FakeModel()
    records = list(triton_client.predict(model, CARD, paths, 2))
    assert [record["file_name"] for record in records] == paths
    assert model.sizes == [(1, 3, 32, 32), (2, 3, 32, 32)]
    assert "error" in records[1] and records[0]["label_names"] == ["cat", "dog"]
    red = (1 - 0.485) / 0.229
    assert records[0]["scores"][0] == pytest.approx(1 / (1 + np.exp(-red / 2)), abs=1e-5)  # divided by the temperature


def test_another_model_on_the_server_is_refused():
    assert triton_client.check_metadata(METADATA, CARD) == "images"
    for change in ({"inputs": []}, {"outputs": [{"name": "logits", "shape": [-1, 3]}]}):
        with pytest.raises(UsageError, match="name the folder of that model"):
            triton_client.check_metadata(METADATA | change, CARD)


def test_no_server_is_said_in_one_message(tmp_path):
    pytest.importorskip("tritonclient.http")
    write_card(tmp_path, CARD)
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        url = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UsageError, match=rf"--url {url}: no server answers there"):
            triton_client.main([str(tmp_path), str(tmp_path / "a.png"), "--url", url])


def test_a_token_is_sent_and_a_refusal_is_said_in_one_message(tmp_path, capsys):
    pytest.importorskip("tritonclient.http")
    write_card(tmp_path, Card("one", "PeleeNet", 3, Preprocess(SIDE), ("cat", "dog", "fox")))
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    (tmp_path / "token").write_text("token-of-the-laboratory")
    with service_in_thread(token_file=str(tmp_path / "token")) as service:
        words = [str(tmp_path), str(tmp_path / "a.png"), "--url", f"127.0.0.1:{service.port}"]
        with pytest.raises(ServiceError, match="a token is needed"):
            triton_client.main(words)
        words += ["--token_file", str(tmp_path / "token")]
        triton_client.main(words)
        [record] = [
            line for line in capsys.readouterr().out.splitlines() if "scores" in line
        ]  # beside those of the log
        assert len(json.loads(record)["scores"]) == 3
        service.engine.is_busy = True
        with pytest.raises(ServiceError, match=r"model one: .*the service is busy"):
            triton_client.main(words)


def test_pictures_are_read_by_the_backend_of_the_card(tmp_path, monkeypatch):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    backends, read = [], triton_client.read_pixels

    def read_by(path, preprocess):
        backends.append(preprocess.image_backend)
        return read(path, replace(preprocess, image_backend="pil"))

    monkeypatch.setattr(triton_client, "read_pixels", read_by)
    card = replace(CARD, preprocess=Preprocess(32, image_backend="cv2"))
    assert len(list(triton_client.predict(FakeModel(), card, [str(tmp_path / "a.png")], 1))) == 1
    assert backends == ["cv2"]
