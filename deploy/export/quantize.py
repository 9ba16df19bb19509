"""INT8 by post-training static quantisation of ONNX, and its size, speed and accuracy beside fp32."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import MissingDependencyError, ParityError
from datasets.reading.pixels import read_pixels

from ..card import Card, Program
from ..engines import EngineOptions
from ..predictor import Predictor, open_predictor

METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
BATCH_SIZE = 32  # when accuracy is measured
# When time is measured. The first batch of a round is not timed: the caches hold the weights of the other model.
NUM_ROUNDS, BATCHES_PER_ROUND = 20, 5


@dataclass(frozen=True)
class Calibration:
    """Training images for the ranges of the activations, and the method: a name in METHODS."""

    paths: Sequence[str]
    method: str = "minmax"


@dataclass(frozen=True)
class Validation:
    """Images with labels, and the largest allowed loss of top-1 accuracy in percentage points."""

    paths: Sequence[str]
    labels: Sequence[int]
    max_drop: float


class Quantization(NamedTuple):
    """Images for INT8: for the ranges, and, if there are any, with labels to hold its accuracy to that of fp32."""

    calibration: Calibration
    validation: Validation | None = None


def write_int8(onnx_path: Path, path: Path, card: Card, calibration: Calibration) -> Program:
    """Quantise an ONNX program: QDQ format, weights int8 per channel, activations uint8.

    Args:
        onnx_path: the fp32 program.
        path: the file to write.
        card: preprocessing of the calibration images.
        calibration: images and method for the ranges of the activations.

    Raises:
        MissingDependencyError: onnx or onnxruntime is not installed.
    """
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise MissingDependencyError(f"--format onnx-int8: {error}; pip install -r requirements-deploy.txt") from None
    folded = path.with_name("." + path.name)
    # Fold batch norms into convolutions first: a quantised batch norm costs time and accuracy.
    quant_pre_process(str(onnx_path), str(folded), skip_symbolic_shape=True)
    input_name = onnx.load(folded).graph.input[0].name
    with _warnings_of_root_off():
        quantization.quantize_static(
            str(folded),
            str(path),
            _CalibrationReader(input_name, _inputs(card, calibration.paths)),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod[METHODS[calibration.method]],
        )
    folded.unlink()
    return Program((path.name,), input_name, "logits")


@contextmanager
def _warnings_of_root_off() -> Iterator[None]:
    """Silence the root logger: onnxruntime recommends `quant_pre_process` by it even after that was done."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


class _CalibrationReader:
    """Feed images to onnxruntime one by one; None marks the end."""

    def __init__(self, input_name: str, images: Iterator[np.ndarray]):
        self._inputs = ({input_name: image[None]} for image in images)

    def get_next(self) -> dict | None:
        return next(self._inputs, None)


def _inputs(card: Card, paths: Sequence[str]) -> Iterator[np.ndarray]:
    """Read and preprocess image files: [3, S, S] float32 each."""
    for path in paths:
        yield card.preprocess.normalize(read_pixels(path, card.preprocess))


def compare_int8(folder: Path, calibration: Calibration, validation: Validation | None) -> tuple[list[str], dict]:
    """Compare size, speed and accuracy of model_int8.onnx with model.onnx in `folder`.

    Without `validation`, accuracy is the share of calibration images for which both name the same class.

    Returns:
        Lines to print, and metrics for the card.

    Raises:
        ParityError: INT8 loses more top-1 accuracy than the validation allows.
    """
    options = EngineOptions(num_threads=1)
    fp32 = open_predictor(folder / "model.onnx", engine="onnxruntime", options=options)
    int8 = open_predictor(folder / "model_int8.onnx", engine="onnxruntime", options=options)
    sizes = [(folder / name).stat().st_size / 1e6 for name in ("model.onnx", "model_int8.onnx")]
    milliseconds = _median_ms(fp32, int8)
    lines = [f"{name}: {size:.2f} MB, {ms:.2f} ms per image on one thread" for name, size, ms in
             zip(("fp32", "int8"), sizes, milliseconds, strict=True)]  # fmt: skip
    if milliseconds[1] < milliseconds[0]:
        lines.append(f"int8 is {milliseconds[0] / milliseconds[1]:.2f} times as fast as fp32 on this machine")
    else:
        lines.append("int8 is NOT faster than fp32 on this machine: use model.onnx here")
    if validation is None:
        same = np.mean(_top1(fp32, calibration.paths) == _top1(int8, calibration.paths))
        lines.append(f"int8 and fp32 predict the same class for {100 * same:.1f} % of the calibration images")
        return lines, {}
    labels = np.array(validation.labels)
    top1 = [100 * float(np.mean(_top1(predictor, validation.paths) == labels)) for predictor in (fp32, int8)]
    lines.append(f"top-1 of {len(validation.paths)} images: fp32 {top1[0]:.2f} %, int8 {top1[1]:.2f} %")
    if top1[0] - top1[1] > validation.max_drop:
        raise ParityError(
            f"model_int8.onnx loses {top1[0] - top1[1]:.2f} points of top-1 ({top1[0]:.2f} % to {top1[1]:.2f} %), "
            f"--max_drop allows {validation.max_drop}; try another --calibration_method or more --num_calibration"
        )
    return lines, {"fp32_top1_percent": top1[0], "int8_top1_percent": top1[1]}


def _median_ms(*predictors: Predictor) -> list[float]:
    """Measure the median milliseconds of one image; the predictors alternate, so a busy machine slows all alike."""
    side = predictors[0].card.preprocess.input_size
    image = np.zeros((1, 3, side, side), np.float32)
    times = [[] for _ in predictors]
    for _ in range(NUM_ROUNDS):
        for predictor, seconds in zip(predictors, times, strict=True):
            for number in range(BATCHES_PER_ROUND):
                start = time.perf_counter()
                predictor.logits(image)
                if number > 0:
                    seconds.append(time.perf_counter() - start)
    return [1000 * float(np.median(seconds)) for seconds in times]


def _top1(predictor: Predictor, paths: Sequence[str]) -> np.ndarray:
    """Predict the most probable class of each image file."""
    labels = []
    for first in range(0, len(paths), BATCH_SIZE):
        batch = np.stack(list(_inputs(predictor.card, paths[first : first + BATCH_SIZE])))
        labels.append(predictor.logits(batch).argmax(axis=1))
    return np.concatenate(labels)
