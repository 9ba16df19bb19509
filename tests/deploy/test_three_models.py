"""All engines agree on real photographs for all three architectures, 1000 classes at 224 pixels."""

from pathlib import Path

import numpy as np
import paddle
import pytest

from datasets.preprocess import Preprocess
from datasets.reading.decode import read_image
from datasets.reading.image_folder import find_images
from deploy.card import Card
from deploy.engines import EagerEngine, EngineOptions
from deploy.export.export_folder import export_folder
from deploy.predictor import Predictor, open_predictor
from deploy.topk import softmax
from export_model import program_writer
from models import create_model

PHOTOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "imagenet_lite"
RUNS = [
    ("paddle", "model.json", {}),
    ("paddle", "model.json", {"onednn": True}),
    ("paddle", "model.pdmodel", {"onednn": True}),
    ("paddle", "model.pdmodel", {"openvino": True}),
    ("onnxruntime", "model.onnx", {}),
    ("openvino", "model.onnx", {}),
    ("openvino", "model.pdmodel", {}),
]


@pytest.mark.slow
@pytest.mark.deploy
@pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason="no photographs beside the project")
@pytest.mark.parametrize("name", ["peleenet", "mobilenet_v3_small", "alexnet"])
def test_all_engines_agree_on_photographs(name, tmp_path):
    for package in ("onnx", "paddle2onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    model = model_with_statistics(name)
    card = Card(name, type(model).__name__, 1000, Preprocess(), class_names=None)
    eager = Predictor(EagerEngine(model), card)
    images = [read_image(path) for path in find_images(PHOTOGRAPHS)]
    arrays = eager.preprocess(images)
    expected = np.concatenate([eager.logits(part) for part in np.split(arrays, 4)])
    export_folder(tmp_path, ("paddle", "pdmodel", "onnx"), card, program_writer(model, 224), images[:8], expected[:8])
    for engine, program, options in RUNS:
        predictor = open_predictor(tmp_path / program, engine=engine, options=EngineOptions(num_threads=1, **options))
        logits = np.concatenate([predictor.logits(part) for part in np.split(arrays, 4)])
        assert np.abs(softmax(logits) - softmax(expected)).max() <= 1e-5, predictor.engine.description
        best, expected_best = (np.argsort(-one, axis=1, kind="stable")[:, :5] for one in (logits, expected))
        assert np.array_equal(best, expected_best), predictor.engine.description


def model_with_statistics(name):
    """Create a model with random weights and batch norms of one batch: activations are of order 1 as after training."""
    paddle.seed(1)
    model = create_model(name)
    norms = [layer for layer in model.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    for layer in norms:
        layer._momentum = 0.0
    model.train()
    if norms:
        with paddle.no_grad():
            model(paddle.randn([16, 3, 96, 96]))
    model.eval()
    return model
