"""export_model.py by its command line: files, messages and errors."""

import os
from dataclasses import replace
from functools import partial

import numpy as np
import paddle
import pytest
import yaml
from PIL import Image

import export_model
import infer
from common.errors import CheckpointError, DataError, DiskError, ExportedModelError, ModelError, ParityError, UsageError
from datasets.preprocess import Preprocess
from deploy.card import Card, read_card
from deploy.engines import EngineOptions, create_engine
from deploy.export.onnx_export import write_onnx
from deploy.export.parity import parity_images
from deploy.predictor import open_predictor
from deploy.topk import softmax
from engine.checkpoint import read_checkpoint, write_checkpoint
from models import create_model

TINY = {"block_config": [1, 1, 1, 1]}  # the name peleenet stands for a smaller network here: exports take a second


@pytest.fixture(autouse=True)
def small_model(monkeypatch):
    monkeypatch.setattr("models.create_model", partial(create_model, **TINY))


def tiny_weights():
    paddle.seed(0)
    return create_model("peleenet", num_classes=3, **TINY).state_dict()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    state = tiny_weights()
    tensors = {f"model/{name}": value.numpy() for name, value in state.items()}
    tensors |= {f"model_ema/{name}": value.numpy() * np.float32(0.5) for name, value in state.items()}
    preprocess = Preprocess(input_size=32, interpolation="bilinear").to_dict()
    info = {"class_names": ["red", "green", "blue"], "preprocess": preprocess}
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint-best.pd"
    meta = {"next_epoch": 3, "next_step": 0, "epoch": 2, "best_top1_percent": 61.5, "info": info}
    write_checkpoint(path, tensors, meta)
    return path


@pytest.fixture
def export_called(monkeypatch):
    """export_model.py without the making of programs; returns the card that it would write."""
    cards = []
    monkeypatch.setattr(
        "deploy.export.export_folder.export_folder", lambda folder, formats, card, *rest: cards.append(card)
    )

    def run(*arguments):
        export_model.main(list(arguments))
        return cards[-1]

    return run


def flags(checkpoint, folder, *more):
    return [
        "--nb_classes=3",
        "--input_size=32",
        f"--resume={checkpoint}",
        f"--output={folder}",
        *more,
    ]


def test_the_command_line_of_peleenet_paddle(checkpoint, tmp_path, capfd):
    export_model.main(flags(checkpoint, tmp_path / "out", "--train_interpolation=bicubic"))
    out, err = capfd.readouterr()
    assert out.splitlines()[-1] == f"Model is saved in {tmp_path / 'out'}."
    assert f"warning: --train_interpolation bicubic replaces bilinear, the value of {checkpoint}" in err
    card = read_card(tmp_path / "out")
    assert (card.model, card.architecture, card.num_classes) == ("peleenet", "PeleeNet", 3)
    assert card.class_names == ("red", "green", "blue")
    overrides = {"train_interpolation": {"checkpoint": "bilinear", "exported": "bicubic"}}
    assert card.metrics == {"best_top1_percent": 61.5, "epoch": 2, "overrides": overrides}
    assert card.preprocess == Preprocess(input_size=32)
    assert list(card.programs) == ["paddle", "pdmodel"]


def test_a_subset_of_the_formats_and_the_averaged_weights(checkpoint, tmp_path, source):
    def logits(folder, *more):
        export_model.main(flags(checkpoint, tmp_path / folder, "--format=pdmodel", *more))
        assert not (tmp_path / folder / "model.json").exists()
        predictor = open_predictor(tmp_path / folder)
        return predictor.logits(predictor.preprocess(source.images))

    assert np.abs(logits("model") - logits("average", "--use_ema")).max() > 1e-4


def test_the_card_says_what_the_checkpoint_says(checkpoint, tmp_path):
    export_model.main([f"--resume={checkpoint}", f"--output_dir={tmp_path}", "--format=paddle"])
    card = read_card(tmp_path)
    assert card.preprocess == Preprocess(input_size=32, interpolation="bilinear")
    assert (card.num_classes, card.class_names) == (3, ("red", "green", "blue"))


def test_names_from_a_label_list(checkpoint, tmp_path):
    """Another order, or another number of names, than in the checkpoint is a mistake."""
    labels, unnamed = tmp_path / "names.txt", tmp_path / "unnamed.pd"
    tensors = {f"model/{name}": value.numpy() for name, value in tiny_weights().items()}
    write_checkpoint(unnamed, tensors, {"next_epoch": 1, "next_step": 0, "info": {}})
    labels.write_text("0 un\n1 deux\n2 trois\n")
    export_model.main(flags(unnamed, tmp_path / "out", "--format=paddle", f"--class_names={labels}"))
    assert read_card(tmp_path / "out").class_names == ("un", "deux", "trois")
    for text, message in (
        ("0 red\n1 green\n", "expected the names of 3 classes, got 2"),
        ("0 green\n1 red\n2 blue\n", "names the classes in another order"),
    ):
        labels.write_text(text)
        with pytest.raises(DataError, match=message):
            export_model.main(flags(checkpoint, tmp_path / "other", f"--label_list={labels}"))


def test_every_program_of_a_calibrated_export_gives_calibrated_scores(checkpoint, tmp_path, image_folder, capfd):
    """model.json gives the logits of the model, inference.json the probabilities, infer.py the scores."""
    metrics = tmp_path / "metrics.json"
    metrics.write_text('{"top1_percent": 50.0, "temperature": 0.25}')
    export_model.main(flags(checkpoint, tmp_path / "out", "--format=paddle,paddlex", f"--temperature={metrics}"))
    assert read_card(tmp_path / "out").temperature == 0.25
    images, out = parity_images(), open_predictor(tmp_path / "out")
    logits = out.logits(out.preprocess(images))
    files = [tmp_path / "out" / name for name in ("inference.json", "inference.pdiparams")]
    probabilities = create_engine("paddle", files, EngineOptions()).run(out.preprocess(images))
    np.testing.assert_allclose(probabilities, softmax(logits / 0.25), atol=1e-5)
    predictions = out.predict(images, list("abcd"), topk=1)
    assert [one["scores"][0] for one in predictions] == pytest.approx(probabilities.max(axis=1), abs=1e-5)
    capfd.readouterr()
    infer.main([f"--model_file={tmp_path / 'out'}", f"--input_file={image_folder / 'b.jpg'}"])
    assert "scores are calibrated by the temperature of the card, 0.25" in capfd.readouterr().err


def test_check_images_are_compared_too(checkpoint, tmp_path, image_folder, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "deploy.export.export_folder.check_parity", lambda path, images, logits, *, engine: seen.append(len(images))
    )
    export_model.main(flags(checkpoint, tmp_path, "--format=paddle", f"--check_images={image_folder}"))
    assert seen == [4 + 7]


@pytest.mark.parametrize(("orientation", "size"), [("ignore", (60, 40)), ("apply", (40, 60))])
def test_check_images_are_rotated_as_the_card_says(checkpoint, tmp_path, monkeypatch, orientation, size):
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    Image.new("RGB", (60, 40)).save(tmp_path / "turned.jpg", exif=exif)
    seen = []
    monkeypatch.setattr(
        "deploy.export.export_folder.check_parity", lambda path, images, logits, *, engine: seen.extend(images)
    )
    flag = f"--exif_orientation={orientation}"
    photograph = f"--check_images={tmp_path / 'turned.jpg'}"
    export_model.main(flags(checkpoint, tmp_path / "out", "--format=paddle", photograph, flag))
    assert seen[4].size == size
    assert read_card(tmp_path / "out").preprocess.exif_orientation == orientation


def test_nothing_is_written_if_a_program_disagrees(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("deploy.export.parity.TOLERANCE", -1)
    with pytest.raises(ParityError, match=r"model.json disagrees"):
        export_model.main(flags(checkpoint, tmp_path / "out", "--format=paddle"))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        (["--resume="], CheckpointError, "--resume is missing: random weights are not exported"),
        (["--resume=missing.pd"], CheckpointError, "missing.pd"),
        (["--output="], UsageError, "--output_dir is missing"),
        (["--format=paddle,tflite"], UsageError, "unknown program 'tflite'; known: paddle, pdmodel, pdmodel-b1, onnx"),
        (["--format=onnx-int8"], UsageError, "needs --calibration_images"),
        (["--calibration_images=photos"], UsageError, "are for onnx-int8, which is not in --format paddle,pdmodel"),
        (["--nb_classes=4"], CheckpointError, "checkpoint-best.pd"),
        (["--input_size=33"], ModelError, "33"),
        ([f"--output_dir={__file__}"], DiskError, "cannot write into .*: File exists"),
        ([os.fsdecode(b"--output_dir=caf\xe9")], ExportedModelError, "not UTF-8"),
        (["--check_images=nowhere"], DataError, "nowhere: no such file or folder"),
    ],
)
def test_wrong_inputs(checkpoint, tmp_path, more, error, message):
    with pytest.raises(error, match=message):
        export_model.main(flags(checkpoint, tmp_path / "out", *more))
    assert not (tmp_path / "out").exists()


@pytest.mark.deploy
def test_other_tools_find_labels_and_preprocessing_in_the_onnx_file(exported_onnx, tmp_path):
    import json

    import onnx

    from deploy.export.onnx_export import write_onnx

    model = onnx.load(exported_onnx / "model.onnx")
    assert model.opset_import[0].version == 17
    [image_port], [logit_port] = model.graph.input, model.graph.output
    shapes = [
        [dim.dim_param or dim.dim_value for dim in port.type.tensor_type.shape.dim] for port in (image_port, logit_port)
    ]
    assert (image_port.name, logit_port.name) == ("images", "logits")
    assert shapes == [["batch", 3, 32, 32], ["batch", 4]]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    card = yaml.safe_load((exported_onnx / "card.yaml").read_text(encoding="utf-8"))
    assert json.loads(metadata["preprocess"]) == card["preprocess"]
    assert json.loads(metadata["class_names"]) == card["class_names"]
    assert json.loads(metadata["temperature"]) == card["temperature"] == 1
    calibrated = replace(read_card(exported_onnx), temperature=0.5)
    write_onnx(exported_onnx / "model.json", tmp_path / "calibrated.onnx", calibrated)
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "calibrated.onnx").metadata_props}
    assert json.loads(metadata["temperature"]) == 0.5


@pytest.mark.deploy
def test_a_crash_of_the_converter_is_an_error(tmp_path):
    """As with AlexNet below 224 pixels, whose pooling has a larger output than its input."""
    pytest.importorskip("paddle2onnx")
    model = paddle.nn.Sequential(paddle.nn.AdaptiveAvgPool2D(6), paddle.nn.Flatten(), paddle.nn.Linear(108, 4))
    card = Card("tiny", "Sequential", 4, Preprocess(input_size=4), class_names=None)
    export_model.program_writer(model, 4)(tmp_path)
    with pytest.raises(
        ExportedModelError, match=r"paddle2onnx cannot convert this model: its process ended by SIGFPE, .*AlexNet"
    ):
        write_onnx(tmp_path / "model.json", tmp_path / "model.onnx", card)


def test_flags_that_replace_the_checkpoints_values_stand_in_the_card(checkpoint, tmp_path, capfd):
    export_model.main([f"--resume={checkpoint}", f"--output_dir={tmp_path / 'same'}", "--format=paddle"])
    assert "overrides" not in read_card(tmp_path / "same").metrics
    export_model.main(
        [f"--resume={checkpoint}", f"--output_dir={tmp_path / 'other'}", "--format=paddle", "--exif_orientation=apply"]
    )
    overrides = read_card(tmp_path / "other").metrics["overrides"]
    assert overrides == {"exif_orientation": {"checkpoint": "ignore", "exported": "apply"}}
    assert "warning: --exif_orientation apply replaces ignore" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flag", "message", "overrides", "preprocess"),
    [
        (
            "--fit=letterbox",
            "--fit letterbox replaces crop",
            {"fit": {"checkpoint": "crop", "exported": "letterbox"}},
            {"fit": "letterbox"},
        ),
        (
            "--crop_pct=1",
            "--crop_pct 1.0 replaces 0.875",
            {"crop_pct": {"checkpoint": 0.875, "exported": 1.0}},
            {"crop_pct": 1.0},
        ),
    ],
)
def test_another_fit_than_that_of_an_old_checkpoint(
    checkpoint, tmp_path, export_called, flag, message, overrides, preprocess, capfd
):
    """It was written before the field, so it means crop, and the warning says so."""
    data = read_checkpoint(checkpoint)
    info = data.meta["info"] | {"preprocess": dict(data.meta["info"]["preprocess"])}
    del info["preprocess"]["fit"], info["preprocess"]["crop_pct"]
    tensors = {f"model/{name}": array for name, array in data.section("model").items()}
    write_checkpoint(tmp_path / "old.pd", tensors, data.meta | {"info": info})
    card = export_called(f"--resume={tmp_path / 'old.pd'}", f"--output_dir={tmp_path / 'a'}", flag)
    assert card.metrics["overrides"] == overrides
    assert card.preprocess == Preprocess(input_size=32, interpolation="bilinear", **preprocess)
    assert f"warning: {message}, the value of {tmp_path / 'old.pd'}" in capfd.readouterr().err
    plain = export_called(f"--resume={tmp_path / 'old.pd'}", f"--output_dir={tmp_path / 'b'}")
    assert plain.preprocess == Preprocess(input_size=32, interpolation="bilinear")
    assert "overrides" not in plain.metrics and "replaces" not in capfd.readouterr().err


def test_the_recipe_of_a_run_does_not_export_into_the_run(checkpoint, tmp_path):
    recipe = checkpoint.parent / "config.yaml"
    recipe.write_text(f"output_dir: {checkpoint.parent}\n")
    with pytest.raises(UsageError, match=r"--output_dir is missing: the recipe names .*, the folder of the training"):
        export_model.main([f"--config={recipe}", f"--resume={checkpoint}"])
    assert not (checkpoint.parent / "card.yaml").exists()
