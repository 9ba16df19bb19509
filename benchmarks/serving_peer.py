"""LitServe with the program of an exported folder: the peer of benchmarks/serving.py, in an environment of its own.

pip install litserve python-multipart onnxruntime numpy Pillow PyYAML; python benchmarks/serving_peer.py EXPORTED prints
a line of JSON with its address, as our service does.
"""

import json
import socket
import sys
from pathlib import Path

import litserve
import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).parents[1]))  # this program runs without the installation of the project

from deploy.card import read_card
from deploy.sources import Source, read_source
from deploy.topk import topk_predictions

MAX_BATCH_SIZE, TIMEOUT_SECONDS = 8, 0.002  # as our service


class Classifier(litserve.LitAPI):
    """Decodes with the functions of this project, computes batches with ONNX Runtime on one thread."""

    folder = ""

    def setup(self, device: str) -> None:
        """Load the program, in the process that computes."""
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        self.card = read_card(self.folder)
        program = Path(self.folder) / "model.onnx"
        self.session = onnxruntime.InferenceSession(program, settings, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    def decode_request(self, request) -> np.ndarray:
        """The image of a form, [3, S, S] float32."""
        return read_source(Source(request["file"].file.read(), "image"), self.card.preprocess)

    def batch(self, inputs: list) -> np.ndarray:
        """Images to a batch."""
        return np.stack(inputs)

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """Compute the logits [B, C]."""
        return self.session.run(None, {self.name: batch})[0]

    def unbatch(self, output: np.ndarray) -> list:
        """A batch to its rows."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict:
        """The record of an image."""
        settings = {"temperature": self.card.temperature}
        return {"predictions": topk_predictions(output[None], ["image"], self.card.class_names, **settings)}


def main(folder: str) -> None:
    """Serve until the process is ended."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    api = Classifier(max_batch_size=MAX_BATCH_SIZE, batch_timeout=TIMEOUT_SECONDS)
    api.folder = folder
    print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
    litserve.LitServer(api, accelerator="cpu").run(host="127.0.0.1", port=port, generate_client_file=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
