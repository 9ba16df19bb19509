"""Prediction from Python: `Classifier`, which `deploy.load` opens, takes images in any form and from any thread."""

import operator
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path

import numpy as np

from common.cli import did_you_mean_path
from common.errors import BadImage, MissingDependencyError, ProjectError, UsageError

from .card import CARD_NAME, has_card
from .engine_base import EngineOptions
from .predictions import failed_prediction
from .predictor import Predictor, open_predictor
from .results.prediction import Prediction, Predictions
from .sources import Source, find_sources, read_source
from .topk import topk_predictions

PRECISIONS = ("fp32", "bf16", "int8")  # of an exported folder
PROGRAM_SUFFIXES = (".json", ".pdmodel", ".onnx")


class Classifier:
    """A model that is ready to predict; may be used by many threads at once, whose batches wait for each other."""

    def __init__(self, predictor: Predictor, path: str):
        """Wrap a predictor; `path` is what was loaded."""
        self._predictor, self._path = predictor, path
        self._lock = threading.Lock()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; the position is the number of the class."""
        names = self._predictor.class_names
        return tuple(names or (f"class {label}" for label in range(self._predictor.card.num_classes)))

    def predict(
        self, images, *, topk: int = 5, threshold: float = 0.0, batch_size: int = 32
    ) -> Prediction | Predictions:
        """Predict the classes of one image, or of many.

        Args:
            images: a path, bytes, a PIL image or an array (RGB, [H, W, 3] uint8): one image; a folder, a pattern such
                as "photos/*.jpg", an array [N, H, W, 3], or a list of any of these: many.
            topk: number of classes in a prediction.
            threshold: classes of a lower probability are left out.
            batch_size: largest number of images that are computed at once.

        Returns:
            A Prediction for one image, a list of Predictions for many. Of many images those that cannot be read have
            the reason in `error`.

        Raises:
            BadImage: the one image cannot be read.
            DataError: nothing at a path, or an object that is no image.
            ExportedModelError: the model gives nan or inf.
            UsageError: a number that cannot be used.
        """
        topk, batch_size = _whole_number("topk", topk), _whole_number("batch_size", batch_size)
        if not (isinstance(threshold, Real) and 0 <= threshold <= 1):
            raise UsageError(f"threshold: expected a number from 0 to 1, got {threshold!r}")
        sources, is_single = find_sources(images)
        exif = self._predictor.card.preprocess.exif_orientation
        predictions = Predictions()
        for first in range(0, len(sources), batch_size):
            batch = sources[first : first + batch_size]
            records = self._predict_batch(batch, topk, threshold)
            predictions += [
                Prediction(record, source.image, exif) for record, source in zip(records, batch, strict=True)
            ]
        if not is_single:
            return predictions
        [prediction] = predictions
        if prediction.error is not None:
            raise BadImage(prediction.file_name, prediction.error)
        return prediction

    def _predict_batch(self, sources: list[Source], topk: int, threshold: float) -> list[dict]:
        card = self._predictor.card
        arrays, records = [], []
        for source in sources:
            try:
                arrays.append(read_source(source, card.preprocess))
                records.append(None)
            except BadImage as error:
                records.append(failed_prediction(source.name, error.reason))
        if not arrays:
            return records
        with self._lock, python_words():
            logits = self._predictor.logits(np.stack(arrays))
        names = [source.name for source, record in zip(sources, records, strict=True) if record is None]
        settings = {"topk": topk, "threshold": threshold, "temperature": card.temperature}
        predicted = iter(topk_predictions(logits, names, self._predictor.class_names, **settings))
        return [record or next(predicted) for record in records]

    def __repr__(self) -> str:
        card = self._predictor.card
        side = card.preprocess.input_size
        engine = getattr(self._predictor.engine, "description", "Paddle")
        return f"<Classifier {self._path}: {card.architecture}, {card.num_classes} classes, {side} x {side}, {engine}>"


def _whole_number(name: str, value) -> int:
    try:
        number = operator.index(value)  # an int, or an integer of numpy
    except TypeError:
        number = 0
    if number < 1:
        raise UsageError(f"{name}: expected a whole number of at least 1, got {value!r}")
    return number


def is_exported(path: Path) -> bool:
    """Whether `path` means an exported folder, or a program in one, rather than a file of weights.

    Raises:
        UsageError: a folder that is neither, or a program without a card.
    """
    if has_card(path) and (path.is_dir() or path.suffix in PROGRAM_SUFFIXES):
        return True
    if path.is_dir():
        best = path / "checkpoint-best.pd"
        hint = f"for its weights name {best}" if best.exists() else "export_model.py writes one"
        raise UsageError(f"{path}: no {CARD_NAME} in this folder, so it is no exported folder; {hint}")
    if path.suffix in PROGRAM_SUFFIXES and path.exists():
        raise UsageError(f"{path}: no {CARD_NAME} beside this program; infer.py runs programs without one")
    if not path.exists():
        near = did_you_mean_path(path) or "; expected a folder of export_model.py, or a checkpoint of main.py"
        raise UsageError(f"{path}: no such file or folder{near}")
    return False


def open_exported(
    path: Path,
    engine: str,
    device: str,
    num_threads: int | None,
    label_list: str | None,
    trust_program: bool,
    precision: str = "fp32",
) -> Predictor:
    """Open an exported folder as infer.py does.

    Args:
        path: the folder, or a program in it.
        engine: name in `deploy.engines.ENGINES`, or "auto".
        device: "cpu", or "auto" and "gpu", which use a GPU where there is one.
        num_threads: of the engine on a CPU; None: one per usable processor.
        label_list: file of class names to use instead of those of the card.
        trust_program: also run a program that our exporter did not write.
        precision: one of PRECISIONS.

    Raises:
        MissingDependencyError: device "gpu", and the engine does not run on one.
        ProjectError: as `open_predictor`.
    """
    # Two images and more: the program with a fixed batch size of 1 would run them one by one.
    options = EngineOptions(use_gpu=device != "cpu", num_threads=num_threads, precision=precision, max_batch_size=32)
    predictor = open_predictor(path, engine=engine, options=options, label_list=label_list, trust_program=trust_program)
    if device == "gpu" and predictor.engine.device != "gpu":
        raise MissingDependencyError(f"--device gpu: no GPU is used by {predictor.engine.description}")
    return predictor


@contextmanager
def python_words() -> Iterator[None]:
    """Name arguments of `deploy.load` instead of flags in the message of an error, for example engine="onnxruntime".

    Raises:
        ProjectError: the error, of the same type.
    """
    try:
        yield
    except ProjectError as error:
        error.args = tuple(in_python_words(part) if isinstance(part, str) else part for part in error.args)
        raise


def in_python_words(message: str) -> str:
    """Replace the flags of infer.py and predict.py that are arguments of `deploy.load` in a message."""
    message = re.sub(r"--(trust_program|use_ema) True", r"\1=True", message)
    message = re.sub(r"(another|an engine instead of) --engine( auto)?", r"\1 engine", message)
    message = re.sub(r"--(engine|device|precision) (\w+)", r'\1="\2"', message)
    message = message.replace("--cpu_threads", "num_threads").replace("with --format", "with export_model.py --format")
    return re.sub(r"--(label_list|engine|device|precision|use_ema|trust_program)\b", r"\1", message)
