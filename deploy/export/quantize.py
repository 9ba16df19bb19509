"""INT8 from ONNX: post-training static quantisation, and an honest comparison with fp32."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import MissingDependencyError, ParityError
from datasets.reading.pixels import read_pixels

from ..card import Card, Program
from ..engines import EngineOptions
from ..predictor import Predictor

METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
BATCH_SIZE = 32  # of the accuracy measurement
NUM_TURNS, BATCHES_A_TURN = 20, 5  # of which the first, with the weights of the other model in the caches, is not timed


@dataclass(frozen=True)
class Calibration:
    """Training images on which the ranges of the activations are found, and how."""

    paths: Sequence[str]
    method: str = "minmax"


@dataclass(frozen=True)
class Validation:
    """Images with labels, and the points of top-1 that INT8 may lose on them."""

    paths: Sequence[str]
    labels: Sequence[int]
    max_drop: float


def write_int8(onnx_path: Path, path: Path, card: Card, calibration: Calibration) -> Program:
    """Quantise `onnx_path` to `path`: QDQ, weights int8 per channel, activations uint8.

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
    # batch norms must be folded into convolutions first: a quantised batch norm costs time and accuracy
    quant_pre_process(str(onnx_path), str(folded), skip_symbolic_shape=True)
    input_name = onnx.load(folded).graph.input[0].name
    logging.getLogger().setLevel(logging.ERROR)  # onnxruntime advises the step above even when it was done
    quantization.quantize_static(
        str(folded),
        str(path),
        _Reader(input_name, _arrays(card, calibration.paths)),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod[METHODS[calibration.method]],
    )
    folded.unlink()
    return Program((path.name,), input_name, "logits")


class _Reader:
    """onnxruntime asks for one input after the other, then None."""

    def __init__(self, input_name: str, arrays: Iterator[np.ndarray]):
        self._inputs = ({input_name: array[None]} for array in arrays)

    def get_next(self) -> dict | None:
        return next(self._inputs, None)


def _arrays(card: Card, paths: Sequence[str]) -> Iterator[np.ndarray]:
    for path in paths:
        yield card.preprocess.normalize(read_pixels(path, card.preprocess))


def compare_int8(folder: Path, calibration: Calibration, validation: Validation | None) -> tuple[list[str], dict]:
    """Size, speed and accuracy of model_int8.onnx beside model.onnx: lines to print, and metrics for the card.

    Raises:
        ParityError: INT8 loses more of top-1 than the validation allows.
    """
    options = EngineOptions(num_threads=1)
    fp32 = Predictor(folder / "model.onnx", engine="onnxruntime", options=options)
    int8 = Predictor(folder / "model_int8.onnx", engine="onnxruntime", options=options)
    sizes = [(folder / name).stat().st_size / 1e6 for name in ("model.onnx", "model_int8.onnx")]
    milliseconds = _median_ms(fp32, int8)
    lines = [f"{name}: {size:.2f} MB, {ms:.2f} ms an image on one thread" for name, size, ms in
             zip(("fp32", "int8"), sizes, milliseconds, strict=True)]  # fmt: skip
    if milliseconds[1] < milliseconds[0]:
        lines.append(f"int8 is {milliseconds[0] / milliseconds[1]:.2f} times as fast as fp32 on this machine")
    else:
        lines.append("int8 is NOT faster than fp32 on this machine: use model.onnx here")
    if validation is None:
        same = np.mean(_top1(fp32, calibration.paths) == _top1(int8, calibration.paths))
        lines.append(f"int8 and fp32 name the same class on {100 * same:.1f} % of the calibration images")
        return lines, {}
    top1 = [100 * float(np.mean(_top1(one, validation.paths) == np.array(validation.labels))) for one in (fp32, int8)]
    lines.append(f"top-1 of {len(validation.paths)} images: fp32 {top1[0]:.2f} %, int8 {top1[1]:.2f} %")
    if top1[0] - top1[1] > validation.max_drop:
        raise ParityError(
            f"model_int8.onnx loses {top1[0] - top1[1]:.2f} points of top-1 ({top1[0]:.2f} % to {top1[1]:.2f} %), "
            f"--max_drop allows {validation.max_drop}; try another --calibration_method or more --num_calibration"
        )
    return lines, {"fp32_top1_percent": top1[0], "int8_top1_percent": top1[1]}


def _median_ms(*predictors: Predictor) -> list[float]:
    """Median milliseconds of one image, the predictors taking turns so that the machine's moods hit all alike."""
    side = predictors[0].card.preprocess.input_size
    array = np.zeros((1, 3, side, side), np.float32)
    times = [[] for _ in predictors]
    for _ in range(NUM_TURNS):
        for predictor, seconds in zip(predictors, times, strict=True):
            for number in range(BATCHES_A_TURN):
                start = time.perf_counter()
                predictor.logits(array)
                if number > 0:
                    seconds.append(time.perf_counter() - start)
    return [1000 * float(np.median(seconds)) for seconds in times]


def _top1(predictor: Predictor, paths: Sequence[str]) -> np.ndarray:
    """The most probable class of each image."""
    labels = []
    for first in range(0, len(paths), BATCH_SIZE):
        arrays = np.stack(list(_arrays(predictor.card, paths[first : first + BATCH_SIZE])))
        labels.append(predictor.logits(arrays).argmax(axis=1))
    return np.concatenate(labels)
