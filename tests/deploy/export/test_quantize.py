"""INT8: a smaller file with nearly the same probabilities, a report, and the gate of accuracy."""

import numpy as np
import pytest

from common.errors import ParityError
from datasets.reading.image_folder import find_images
from deploy.card import read_card
from deploy.engines import EngineOptions
from deploy.export import quantize
from deploy.export.quantize import Calibration, Quantization, Validation
from deploy.exported_program import choose_engine
from deploy.predictor import open_predictor
from deploy.topk import softmax

pytestmark = pytest.mark.deploy
for package in ("onnx", "paddle2onnx", "onnxruntime"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def paths(image_folder):
    return find_images(image_folder)


@pytest.fixture(scope="module")
def folder(source, paths, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    source.export(folder, ("onnx-int8",), quantization=Quantization(Calibration(paths)))
    return folder


def test_int8_is_smaller_and_gives_nearly_the_same_probabilities(folder, source):
    card = read_card(folder)
    assert list(card.programs) == ["onnx", "onnx-int8"]
    assert card.files["model_int8.onnx"].bytes < 0.5 * card.files["model.onnx"].bytes
    predictor = open_predictor(folder, engine="onnxruntime", options=EngineOptions(precision="int8"))
    probabilities = softmax(predictor.logits(predictor.preprocess(source.images)))
    difference = np.abs(probabilities - softmax(source.logits)).max()
    assert 1e-7 < difference < 0.1, "neither equal to fp32 nor far from it"


def test_every_channel_of_a_convolution_has_its_own_scale(folder):
    """One scale for all channels costs top-1 accuracy if a few channels are large."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(folder / "model_int8.onnx").graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {node.output[0]: node for node in graph.node}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert convolutions
    for node in convolutions:
        activation, (weight, scale, zero) = made_by[node.input[0]], made_by[node.input[1]].input
        assert made_by[node.input[1]].op_type == activation.op_type == "DequantizeLinear"
        assert arrays[weight].dtype == arrays[zero].dtype == np.int8 and not arrays[zero].any()
        assert arrays[scale].shape == (len(arrays[weight]),), "one scale per output channel"
        assert arrays[activation.input[1]].shape == () and arrays[activation.input[2]].dtype == np.uint8


def test_auto_does_not_choose_int8(folder):
    assert choose_engine(folder, EngineOptions())[0] == "onnxruntime"
    assert "model.onnx" in open_predictor(folder, engine="onnxruntime").engine.description


@pytest.mark.parametrize("milliseconds", [(2.0, 1.0), (1.0, 3.0)])
def test_the_report_says_whether_int8_is_faster(folder, paths, monkeypatch, milliseconds):
    monkeypatch.setattr(quantize, "_median_ms", lambda *predictors: milliseconds)
    lines, metrics = quantize.compare_int8(folder, Calibration(paths), None)
    text = "\n".join(lines)
    assert ("2.00 times as fast" in text) == (milliseconds[1] < milliseconds[0])
    assert ("NOT faster than fp32 on this machine: use model.onnx" in text) == (milliseconds[1] > milliseconds[0])
    assert metrics == {}


def test_a_larger_drop_of_accuracy_than_allowed_is_refused(folder, paths, monkeypatch):
    labels = [0, 1, 2, 3, 0, 1, 2]
    labels_by_model = iter([np.array(labels), np.array([0, 1, 2, 3, 0, 0, 0])] * 2)
    monkeypatch.setattr(quantize, "_top1", lambda predictor, paths: next(labels_by_model))
    lines, metrics = quantize.compare_int8(folder, Calibration(paths), Validation(paths, labels, max_drop=30))
    assert lines[-1] == "top-1 of 7 images: fp32 100.00 %, int8 71.43 %"
    assert metrics == {"fp32_top1_percent": 100.0, "int8_top1_percent": pytest.approx(71.43, abs=0.01)}
    with pytest.raises(ParityError, match=r"loses 28.57 points of top-1 .*--max_drop allows 28"):
        quantize.compare_int8(folder, Calibration(paths), Validation(paths, labels, max_drop=28))
