"""Ask Triton, or the service of this project, about pictures that are prepared by the card: an example.

Both speak the Open Inference Protocol (v2): tensors in, logits out. The card beside the model holds preprocessing,
class names and temperature, so the answers are those of infer.py, printed as JSON lines:

    python -m deploy.serving.triton_client exported/triton/peleenet photos --url localhost:8000
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "yaml")

import argparse
from collections.abc import Iterator, Sequence

import numpy as np

from common.cli import positive_int, run
from common.errors import BadImage, MissingDependencyError, ServiceError, UsageError
from common.printable import printable, printable_json
from datasets.reading.backends import choose_backend
from datasets.reading.image_folder import find_images
from datasets.reading.pixels import read_pixels

from ..card import Card, read_card
from ..predictions import failed_prediction
from ..topk import topk_predictions
from .client import read_token

OUTPUT_NAME = "logits"


def main(argv: list[str]) -> None:
    """Print one record per picture, as infer.py --print jsonl does."""
    flags = create_parser().parse_args(argv)
    card = read_card(flags.model_folder, verify=False)
    choose_backend(card.preprocess.image_backend)  # an error that names the package where it is not installed
    paths = find_images(flags.pictures)
    model = RemoteModel(flags.url, flags.model or card.model, card, read_token(flags.token_file))
    for record in predict(model, card, paths, flags.batch_size):
        print(printable_json(record), flush=True)


class RemoteModel:
    """A model on a server: images [B, 3, S, S] to logits [B, C]."""

    def __init__(self, url: str, name: str, card: Card, token: str = ""):
        """Connect, and compare the model with the card.

        Args:
            url: host and port.
            name: of the model on the server.
            card: of the model.
            token: sent as `Authorization: Bearer`.

        Raises:
            MissingDependencyError: tritonclient is not installed.
            ServiceError: the server refuses to describe the model: there is none of this name, or a token is missing.
            UsageError: no server, or another model than the card describes.
        """
        try:
            import tritonclient.http
        except ImportError:
            raise MissingDependencyError("tritonclient is not installed; pip install 'tritonclient[http]'") from None
        self._triton, self._name = tritonclient.http, name
        self._client = tritonclient.http.InferenceServerClient(url)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            metadata = self._client.get_model_metadata(name, headers=self._headers)
        except OSError as error:  # of the connection
            raise UsageError(f"--url {url}: no server answers there ({error}); start it, or name another") from None
        except tritonclient.http.InferenceServerException as error:
            raise ServiceError(f"--model {name}: the server at {url} refuses: {printable(str(error))}") from None
        self._input_name = check_metadata(metadata, card)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Send float32 images [B, 3, S, S]; return their logits [B, C].

        Raises:
            ServiceError: the server does not answer, or refuses.
        """
        tensor = self._triton.InferInput(self._input_name, list(images.shape), "FP32")
        tensor.set_data_from_numpy(images)
        wanted = [self._triton.InferRequestedOutput(OUTPUT_NAME)]
        try:
            answer = self._client.infer(self._name, [tensor], outputs=wanted, headers=self._headers)
        except (OSError, self._triton.InferenceServerException) as error:
            raise ServiceError(f"model {self._name}: the server gives no answer: {printable(str(error))}") from None
        return answer.as_numpy(OUTPUT_NAME)


def check_metadata(metadata: dict, card: Card) -> str:
    """Return the name of the input for tensors, if the model on the server has the sizes of the card.

    Raises:
        UsageError: the model is another one.
    """
    side = card.preprocess.input_size
    expected = {"input": [-1, 3, side, side], OUTPUT_NAME: [-1, card.num_classes]}
    inputs = [one for one in metadata["inputs"] if one["datatype"] == "FP32"]
    outputs = {one["name"]: [int(size) for size in one["shape"]] for one in metadata["outputs"]}
    found = {
        "input": [int(size) for size in inputs[0]["shape"]] if inputs else [],
        OUTPUT_NAME: outputs.get(OUTPUT_NAME),
    }
    if found != expected:
        raise UsageError(
            f"the model on the server has {found}, the card says {expected}: name the folder of that model"
        )
    return inputs[0]["name"]


def predict(model: RemoteModel, card: Card, paths: Sequence[str], batch_size: int) -> Iterator[dict]:
    """Yield the record of each picture, in batches; one that cannot be read has the reason in `error`.

    Args:
        model: on the server.
        card: how to prepare the pictures, and what the classes are called.
        paths: of the pictures.
        batch_size: pictures per request, at most max_batch_size of config.pbtxt.
    """
    for start in range(0, len(paths), batch_size):
        read, errors = {}, {}
        for path in paths[start : start + batch_size]:
            try:
                read[path] = card.preprocess.normalize(read_pixels(path, card.preprocess))
            except BadImage as error:
                errors[path] = failed_prediction(path, error.reason)
        records = errors
        if read:
            logits = model.logits(np.stack(list(read.values())))
            predictions = topk_predictions(logits, list(read), card.class_names, temperature=card.temperature)
            records |= {record["file_name"]: record for record in predictions}
        yield from (records[path] for path in paths[start : start + batch_size])


def create_parser() -> argparse.ArgumentParser:
    """Create the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.serving.triton_client", description=__doc__.splitlines()[0])
    parser.add_argument(
        "model_folder", help="folder with card.yaml: the model in the repository, or an exported folder"
    )
    parser.add_argument("pictures", help="image or folder")
    parser.add_argument("--url", default="localhost:8000", help="host and port of the server (%(default)s)")
    parser.add_argument("--model", default="", help="name of the model on the server; default: that of the card")
    parser.add_argument("--batch_size", type=positive_int, default=8, help="pictures per request (%(default)s)")
    parser.add_argument("--token_file", default="", help="its first line is sent to the server")
    return parser


if __name__ == "__main__":
    run(main)
