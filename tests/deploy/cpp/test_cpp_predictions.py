"""The predictions of the C++ program are those of Python: same classes, scores, order and names."""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from common.printable import printable
from datasets.preprocess import Preprocess
from datasets.reading.decode import read_image
from datasets.reading.image_folder import find_images
from datasets.reading.pixels import image_to_input
from deploy import load
from deploy.card import Card
from deploy.export.export_folder import export_folder
from deploy.export.parity import parity_images
from deploy.predictor import open_predictor
from tests.common.test_printable import HARMLESS, HOSTILE
from tests.deploy.cpp.inputs import edit
from tests.deploy.odd_pictures import write_odd_pictures
from tests.deploy.varied_model import SIDE, export_model, make_model

pytestmark = pytest.mark.cpp

IMAGENET_LITE = Path(__file__).parents[4] / "shared" / "data" / "imagenet_lite"


def predictions_of(run: subprocess.CompletedProcess) -> list[dict]:
    return [json.loads(line) for line in run.stdout.splitlines()]


def assert_same_predictions(infer, folder: Path, images, *flags) -> None:
    predictor = open_predictor(folder, engine="onnxruntime", trust_program=True)
    paths = find_images(images)
    expected = [predictor.predict([read_image(path)], [path])[0] for path in paths]
    run = infer(folder, images, *flags)
    assert run.returncode == 0, run.stderr
    for prediction, of_python in zip(predictions_of(run), expected, strict=True):
        assert list(prediction) == list(of_python)
        assert prediction["scores"] == pytest.approx(of_python["scores"], abs=1e-5)
        for name in ("file_name", "class_ids", "label_names"):
            assert prediction[name] == of_python[name]


@pytest.fixture
def jpegs_and_pngs(image_folder, tmp_path) -> Path:
    ignore = shutil.ignore_patterns("*.webp", "*.tiff", "*.BMP")
    return shutil.copytree(image_folder, tmp_path / "images", ignore=ignore)


@pytest.mark.parametrize("batch_size", ["1", "3", "16"])
def test_predictions_equal_python(infer, exported_onnx, jpegs_and_pngs, batch_size):
    assert_same_predictions(infer, exported_onnx, jpegs_and_pngs, "--batch_size", batch_size)
    assert_same_predictions(infer, exported_onnx / "model.onnx", jpegs_and_pngs / "b.jpg", "-b", batch_size)


@pytest.mark.parametrize("temperature", [0.3, 1, 2.75])
def test_scores_equal_python_at_any_temperature(infer, exported_onnx, jpegs_and_pngs, tmp_path, temperature):
    folder = shutil.copytree(exported_onnx, tmp_path / "exported")
    edit(folder, lambda card: card.update(temperature=temperature))
    assert_same_predictions(infer, folder, jpegs_and_pngs)
    [plain] = predictions_of(infer(exported_onnx, jpegs_and_pngs / "b.jpg"))
    [prediction] = predictions_of(infer(folder, jpegs_and_pngs / "b.jpg"))
    assert (prediction["scores"] == plain["scores"]) == (temperature == 1)
    edit(folder, lambda card: card.pop("temperature"))
    assert predictions_of(infer(folder, jpegs_and_pngs / "b.jpg")) == [plain]


@pytest.mark.parametrize("exif", ["ignore", "apply"])
def test_predictions_equal_those_of_load_on_odd_pictures(infer, tmp_path, exif):
    """EXIF 1 to 8, 16 bits, CMYK, palette, alpha, grey, 1 x 1, tall, wide: equal to 1e-6, as every way of Python."""
    export_model(make_model(), tmp_path / "exported", ["onnx"], Preprocess(SIDE, exif_orientation=exif))
    pictures = write_odd_pictures(tmp_path / "pictures")
    expected = load(tmp_path / "exported", engine="openvino").predict(tmp_path / "pictures")
    run = infer(tmp_path / "exported", tmp_path / "pictures")
    assert run.returncode == 0, run.stderr
    found = predictions_of(run)
    assert len(found) == len(pictures) == 20
    assert len({round(prediction["scores"][0], 3) for prediction in found}) > 8, "the pictures are told apart"
    for prediction, of_python in zip(found, (one.to_dict() for one in expected), strict=True):
        assert prediction["scores"] == pytest.approx(of_python["scores"], abs=1e-6)
        for name in ("file_name", "class_ids", "label_names"):
            assert prediction[name] == of_python[name]


def slow(name: str):
    return pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.skipif(not IMAGENET_LITE.exists(), reason="no real photographs beside the project")
@pytest.mark.parametrize("name", ["mobilenet_v3_small", slow("peleenet"), slow("alexnet")])
def test_predictions_equal_python_on_real_photographs(infer, tmp_path, name):
    pytest.importorskip("paddle2onnx")
    import paddle

    from engine.export import export_program
    from models import create_model

    paddle.seed(0)
    model = create_model(name, num_classes=20)
    model.eval()
    preprocess = Preprocess()
    images = parity_images()
    with paddle.no_grad():
        logits = model(paddle.to_tensor(np.stack([image_to_input(image, preprocess) for image in images]))).numpy()
    card = Card(name, type(model).__name__, num_classes=20, preprocess=preprocess, class_names=None)
    export_folder(tmp_path, ["onnx"], card, partial(export_program, model, 224), images, logits)
    assert_same_predictions(infer, tmp_path, IMAGENET_LITE, "--batch_size", "8")


def test_file_names_are_printed_unchanged(infer, folder, image_file, tmp_path):
    images = tmp_path / "images"
    (images / "loop").mkdir(parents=True)
    (images / "loop" / "back").symlink_to(images)
    names = [b'quote " and \\.png', "照片.PNG".encode(), b"latin \xe9.png", b"tab\t.png", b"cut \xe2\x82.Png"]
    for name in names:
        (images / os.fsdecode(name)).write_bytes(image_file.read_bytes())
    printed = [os.fsencode(prediction["file_name"]) for prediction in predictions_of(infer(folder, images))]
    assert printed == sorted(os.fsencode(images) + b"/" + name for name in names)


def test_the_same_files_as_python_are_found(infer, folder, image_file, tmp_path):
    images = tmp_path / "images"
    for name in ("a.jfif", "sub/b.PNG", "sub/.hidden.png", ".cache/c.png", "__MACOSX/d.png", "Thumbs.db", "notes.txt"):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes(image_file.read_bytes())
    (images / "sub" / "back").symlink_to(images)
    run = infer(folder, images)
    assert [prediction["file_name"] for prediction in predictions_of(run)] == find_images(images)
    assert len(find_images(images)) == 2
    assert "warning: skipped 4 hidden and system files and folders" in run.stderr


def test_topk_threshold_and_save_path(infer, folder, image_file, tmp_path):
    [every] = predictions_of(infer(folder, image_file, "--topk", "9"))
    assert len(every["scores"]) == 4
    assert sum(every["scores"]) == pytest.approx(1, abs=1e-12)
    [two] = predictions_of(infer(folder, image_file, "--topk=2"))
    assert two["class_ids"] == every["class_ids"][:2]
    assert two["label_names"] == [f"class {label}" for label in two["class_ids"]]
    [likely] = predictions_of(infer(folder, image_file, "--threshold", str(every["scores"][1])))
    assert likely["scores"] == every["scores"][:2]
    run = infer(folder, image_file, "--save-path", tmp_path / "predictions.jsonl")
    assert run.stdout == ""
    assert json.loads((tmp_path / "predictions.jsonl").read_text(encoding="utf-8")) == every


def test_the_batch_size_is_limited_by_the_number_of_images(infer, folder, image_file):
    assert len(predictions_of(infer(folder, image_file, "--batch_size", "2000000000"))) == 1


def test_benchmark_report(infer, folder, jpegs_and_pngs):
    run = infer(folder, jpegs_and_pngs, "--enable_benchmark", "True", "--batch_size", "4")
    assert run.returncode == 0
    sections = re.findall(r"-{22} (.*) -{22}", run.stderr)
    assert sections == ["Conf info", "Model info", "Data info", "Perf info"]
    assert f"image_num: {len(predictions_of(run))}" in run.stderr
    for stage in ("preprocess_time", "inference_time", "postprocess_time", "batch_time"):
        assert re.search(rf" {stage}\(ms\) p50: [\d.]+, p90: [\d.]+, p99: [\d.]+, per image: [\d.]+", run.stderr)


@pytest.mark.parametrize("is_gone", [False, True], ids=["an old program in its place", "no program in its place"])
def test_an_exchange_of_exports_that_was_killed_is_read_where_the_new_export_was_made(
    infer, folder, image_file, is_gone
):
    expected = predictions_of(infer(folder, image_file))
    shutil.copytree(folder, folder / ".export-0abc")
    shutil.copytree(folder, folder / ".export-1abc")
    (folder / ".export-0abc" / "card.yaml").write_text("of an export that was killed before the exchange")
    (folder / "model.onnx").write_bytes(b"of the old export")
    if is_gone:
        (folder / "model.onnx").unlink()
    for model in (folder, folder / "model.onnx"):
        run = infer(model, image_file)
        assert run.returncode == 0, run.stderr
        assert predictions_of(run) == expected


def is_printable(text: str) -> bool:
    """Whether `printable` escapes nothing in the lines of a text."""
    return all(printable(line) == line for line in text.split("\n"))


def hidden_characters() -> list[str]:
    """All characters that `printable` escapes, but halves of surrogate pairs, which a card cannot hold.

    Nor U+0085: PyYAML writes it as "\\N", which yaml-cpp 0.7 reads as the byte 0x85.
    """
    characters = map(chr, [*range(0xD800), *range(0xE000, sys.maxunicode + 1)])
    return [character for character in characters if printable(character) != character and character != "\x85"]


def test_class_names_are_printed_without_control_characters(infer, folder, image_file):
    names = ["".join(hidden_characters()), *("a\x1b[31m", "photo\u202egpj.exe", "line\nerror: none")]
    edit(folder, lambda card: card.update(class_names=names))
    run = infer(folder, image_file)
    assert run.returncode == 0, run.stderr
    assert sorted(predictions_of(run)[0]["label_names"]) == sorted(names)
    assert run.stdout.count("\n") == 1 and is_printable(run.stdout)


@pytest.mark.parametrize("name", [*HOSTILE, *HARMLESS])
def test_file_names_are_shown_as_python_shows_them(infer, folder, image_file, tmp_path, name):
    name = HOSTILE.get(name, name).replace("\0", "").replace("/", "")
    images = tmp_path / "images"
    images.mkdir()
    good, bad = images / f"{name} 1.png", images / f"{name} 2.png"
    good.write_bytes(image_file.read_bytes())
    bad.write_bytes(b"no image")
    run = infer(folder, images)
    first, second = predictions_of(run)
    assert (first["file_name"], second["file_name"]) == (str(good), str(bad))
    assert f"error: {printable(bad)}: {second['error']}\n" in run.stderr
    assert is_printable(run.stdout) and is_printable(run.stderr)
    run = infer(images / name, good)
    assert (run.returncode, run.stdout) == (4, "") and is_printable(run.stderr)
