"""inference.yml says to PaddleX what the card says, and inference.json gives probabilities."""

from dataclasses import replace

import numpy as np
import paddle
import pytest
import yaml

from common.errors import ParityError, UsageError
from datasets.preprocess import Preprocess
from datasets.reading.pixels import image_to_input
from deploy.card import Card, read_card
from deploy.engines import EngineOptions, create_engine
from deploy.export import paddlex
from deploy.export.export_folder import export_folder
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


def ops_of(preprocess, folder):
    paddlex.write_paddlex_config(folder, Card("peleenet", "PeleeNet", 2, preprocess, None))
    config = yaml.safe_load((folder / "inference.yml").read_text(encoding="utf-8"))
    return {name: value for op in config["PreProcess"]["transform_ops"] for name, value in op.items()}


def test_the_config_says_how_images_are_fitted(tmp_path):
    """PaddleX resizes to a square where `size` is given without `resize_short`."""
    squashed, cut = (ops_of(Preprocess(32, **how), tmp_path) for how in ({"fit": "squash"}, {"crop_pct": 1.0}))
    assert squashed["ResizeImage"] == {"size": 32, "interpolation": "bicubic", "backend": "pil"}
    assert cut["ResizeImage"] == {"resize_short": 32, "interpolation": "bicubic", "backend": "pil"}
    assert squashed["CropImage"] == cut["CropImage"] == {"size": 32}


def test_a_letterbox_has_no_config(source, tmp_path, capsys):
    card = replace(source.card, preprocess=Preprocess(SIDE, fit="letterbox"))
    with pytest.raises(
        UsageError, match=r"--format paddlex: PaddleX cannot fit images by letterbox: .* leave paddlex out"
    ):
        source.export(tmp_path / "none", ("paddle", "paddlex"), card=card)
    assert not (tmp_path / "none").exists()
    source.export(tmp_path)
    assert (tmp_path / "inference.yml").exists()
    images = np.stack([image_to_input(image, card.preprocess) for image in source.images])
    with paddle.no_grad():
        logits = source.model(paddle.to_tensor(images)).numpy()
    export_folder(tmp_path, ["paddle"], card, source.save_program, source.images, logits)
    assert not (tmp_path / "inference.yml").exists() and not (tmp_path / "label_list.txt").exists()
    assert "note: inference.yml and label_list.txt are not written: PaddleX cannot" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("model", "name", "expected", "remark"),
    [
        ("mobilenet_v3_small", "", "MobileNetV3_small_x1_0", ""),
        ("peleenet", "", "PeleeNet", "PaddleX refuses the name PeleeNet"),
        ("peleenet", "ResNet50", "ResNet50", "calls the model ResNet50: for PaddleX this means any image classifier"),
        ("mobilenet_v3_small", "MobileNetV3_small_x1_0", "MobileNetV3_small_x1_0", ""),
        ("mobilenet_v3_small", "ResNet50", "ResNet50", "any image classifier"),
    ],
)
def test_the_name_for_paddlex(source, tmp_path, model, name, expected, remark):
    card = replace(source.card, model=model)
    paddlex.write_paddlex_config(tmp_path, card, name)
    paddlex.write_pipeline(tmp_path, card, name)
    config, pipeline = (
        yaml.safe_load((tmp_path / file).read_text()) for file in ("inference.yml", "image_classification.yaml")
    )
    module = pipeline["SubModules"]["ImageClassification"]
    assert config["Global"]["model_name"] == module["model_name"] == expected
    assert (pipeline["pipeline_name"], module["module_name"]) == ("image_classification", "image_classification")
    assert (module["topk"], module["batch_size"], module["model_dir"]) == (4, 1, ".")
    assert remark in paddlex.remark_on_name(card, name) and bool(remark) == bool(paddlex.remark_on_name(card, name))


def test_the_pipeline_is_a_file_of_the_export_and_the_name_is_warned_of(source, tmp_path, capsys):
    source.export(tmp_path, ("paddlex",), paddlex_name="ResNet50")
    assert "image_classification.yaml" in read_card(tmp_path).files
    assert "warning: inference.yml calls the model ResNet50" in capsys.readouterr().err
    source.export(tmp_path, ("paddle",))
    assert not (tmp_path / "image_classification.yaml").exists() and not capsys.readouterr().err
