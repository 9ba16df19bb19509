"""inference.yml says to PaddleX what the card says, and inference.json gives probabilities."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from common.errors import ParityError
from datasets.reading.pixels import image_to_input
from deploy.engines import EngineOptions, create_engine
from deploy.export import paddlex
from deploy.topk import softmax
from export_model import program_writer
from tests.deploy.conftest import SIDE


def test_the_config_says_what_the_card_says(exported, source):
    config = yaml.safe_load((exported / "inference.yml").read_text(encoding="utf-8"))
    assert config["Global"] == {"model_name": "PeleeNet"}
    ops = {name: value for op in config["PreProcess"]["transform_ops"] for name, value in op.items()}
    assert list(ops) == ["ResizeImage", "CropImage", "NormalizeImage", "ToCHWImage"]
    preprocess = source.card.preprocess
    assert ops["ResizeImage"] == {"resize_short": 36, "interpolation": "bicubic", "backend": "pil"}
    assert ops["CropImage"] == {"size": 32}
    assert (ops["NormalizeImage"]["mean"], ops["NormalizeImage"]["std"]) == (
        list(preprocess.mean),
        list(preprocess.std),
    )
    assert config["PostProcess"]["Topk"] == {"topk": 4, "label_list": list(source.card.class_names)}
    labels = (exported / "label_list.txt").read_text(encoding="utf-8")
    assert labels == "0 zero\n1 one, uno\n2 two: zwei\n3 三\n"


def test_the_program_divides_by_the_temperature(source, tmp_path):
    card = replace(source.card, temperature=2.5)
    source.export(tmp_path, ("paddlex",), card=card, save_program=program_writer(source.model, SIDE, 2.5))
    engine = create_engine("paddle", [tmp_path / "inference.json", tmp_path / "inference.pdiparams"], EngineOptions())
    arrays = np.stack([image_to_input(image, source.card.preprocess) for image in source.images])
    np.testing.assert_allclose(engine.run(arrays), softmax(source.logits / 2.5), atol=1e-5)
    with pytest.raises(ParityError, match=r"inference.json disagrees"):
        source.export(tmp_path, ("paddlex",), card=card)


def test_the_program_gives_probabilities(source, tmp_path, monkeypatch):
    source.export(tmp_path, ("paddle", "paddlex"))
    assert (tmp_path / "inference.pdiparams").read_bytes() == (tmp_path / "model.pdiparams").read_bytes()
    engine = create_engine("paddle", [tmp_path / "inference.json", tmp_path / "inference.pdiparams"], EngineOptions())
    arrays = np.stack([image_to_input(image, source.card.preprocess) for image in source.images])
    np.testing.assert_allclose(engine.run(arrays), softmax(source.logits), atol=1e-5)
    monkeypatch.setattr(paddlex, "allowed_difference", lambda logits: -1)
    with pytest.raises(ParityError, match=r"inference.json disagrees"):
        source.export(tmp_path, ("paddlex",))
