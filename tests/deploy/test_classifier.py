"""`deploy.load`: images in any form give what infer.py and predict.py print, from any thread; and its errors."""

import ast
import io
import json
import math
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from PIL import Image

import infer
import predict
from common.errors import BadImage, CheckpointError, DataError, MissingDependencyError, ProjectError, UsageError
from datasets.preprocess import Preprocess
from deploy import load
from deploy.card import Card
from deploy.classifier import Classifier, in_python_words
from deploy.engine_base import import_runtime
from deploy.paddle_engine import PaddleEngine
from deploy.predictor import Predictor
from deploy.results.prediction import Prediction, Predictions
from engine.checkpoint import write_checkpoint
from engine.cpu_threads import import_paddle
from tests.deploy.odd_pictures import write_odd_pictures
from tests.deploy.varied_model import CLASSES, NAME, SIDE, export_model, make_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint and its exported folder, with EXIF applied: `checkpoint-best.pd` and `exported`."""
    folder = tmp_path_factory.mktemp("run")
    model, preprocess = make_model(), Preprocess(SIDE, exif_orientation="apply")
    info = {
        "args": {"model": NAME, "nb_classes": len(CLASSES)},
        "preprocess": preprocess.to_dict(),
        "class_names": CLASSES,
    }
    tensors = {f"model/{name}": value.numpy() for name, value in model.state_dict().items()}
    meta = {"next_epoch": 1, "next_step": 0, "epoch": 0, "info": info}
    write_checkpoint(folder / "checkpoint-best.pd", tensors, meta)
    export_model(model, folder / "exported", ["paddle"], preprocess)
    return folder


@pytest.fixture(scope="module")
def classifier(trained):
    return load(trained / "exported", engine="paddle", num_threads=1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_odd_pictures(tmp_path_factory.mktemp("odd pictures"))


def assert_same(records, others, tolerance=1e-6):
    assert len(records) == len(others) > 0
    for one, other in zip(records, others, strict=True):
        assert list(one) == list(other)
        assert one["file_name"] == other["file_name"] and one["class_ids"] == other["class_ids"]
        assert one["label_names"] == other["label_names"]
        assert one["scores"] == pytest.approx(other["scores"], abs=tolerance)


# ---------------------------------------------------------------------------------------------------- equality


def test_the_records_are_those_of_infer_and_predict(classifier, trained, pictures, capfd):
    folder = pictures[0].parent
    ours = [prediction.to_dict() for prediction in classifier.predict(folder, batch_size=3)]
    assert len({round(record["scores"][0], 3) for record in ours}) > 8, "the pictures are told apart"
    infer.main([f"--model_file={trained / 'exported'}", f"--input_file={folder}", "--print=jsonl", "--cpu_threads=1"])
    assert_same(ours, [json.loads(line) for line in capfd.readouterr().out.splitlines()])
    checkpoint = trained / "checkpoint-best.pd"
    predict.main([f"--resume={checkpoint}", "--infer_imgs", str(folder), "--device=cpu"])
    theirs = [record for line in capfd.readouterr().out.splitlines() for record in ast.literal_eval(line)]
    assert_same(ours, theirs)
    assert_same([one.to_dict() for one in load(checkpoint, device="cpu").predict(folder)], theirs)


def test_predict_explains_every_picture(trained, pictures, tmp_path, capfd):
    """Batches of one: a worker predicts the next picture while the map of this one is computed."""
    out, flags = tmp_path / "maps", ["--print=none", "--device=cpu", "--batch_size=1"]
    checkpoint = trained / "checkpoint-best.pd"
    predict.main([f"--resume={checkpoint}", "--infer_imgs", str(pictures[0].parent), f"--explain={out}", *flags])
    assert sorted(path.name.removesuffix(".jpg") for path in out.iterdir()) == sorted(
        path.name.removesuffix(".jpg") for path in pictures
    )
    out, err = capfd.readouterr()
    assert out == "" and "20 images predicted:" in err and err.rstrip().endswith("maps: 20")


def test_exif_is_applied_as_the_card_says(classifier, pictures):
    """The first is upright, and the sixth is turned: only a reader of EXIF gives both the right scores."""
    by_name = {path.name: path for path in pictures}
    for orientation in (1, 3, 6, 8):
        path = by_name[f"exif {orientation}.jpg"]
        with Image.open(path) as image:
            degrees = {1: 0, 3: 180, 6: 270, 8: 90}[orientation]
            upright = np.asarray(image.convert("RGB").rotate(degrees, expand=True))
        assert classifier.predict(path).score == pytest.approx(classifier.predict(upright).score, abs=1e-6)


@pytest.mark.parametrize("form", ["path", "Path", "bytes", "bytearray", "PIL", "array"])
def test_every_form_of_an_image_gives_the_same(classifier, pictures, form):
    for path in pictures:
        expected = classifier.predict(str(path)).to_dict()
        if form == "array":
            with Image.open(path) as opened:
                if opened.getexif().get(0x0112, 1) != 1 or opened.mode not in ("RGB", "L", "I;16", "RGBA"):
                    continue
                image = np.asarray(opened)
        else:
            image = {
                "path": str,
                "Path": Path,
                "bytes": Path.read_bytes,
                "bytearray": lambda path: bytearray(path.read_bytes()),
                "PIL": lambda path: Image.open(io.BytesIO(path.read_bytes())),
            }[form](path)
        prediction = classifier.predict(image)
        assert isinstance(prediction, Prediction)
        name = str(path) if form in ("path", "Path") else "image 0"
        assert_same([prediction.to_dict()], [expected | {"file_name": name}])


def test_lists_folders_patterns_and_mixtures(classifier, pictures):
    folder = pictures[0].parent
    every = [prediction.to_dict() for prediction in classifier.predict(folder)]
    assert [record["file_name"] for record in every] == [str(path) for path in pictures]
    exif = classifier.predict(f"{folder}/exif*.jpg")
    assert isinstance(exif, Predictions) and len(exif) == 8
    assert_same([one.to_dict() for one in exif], [record for record in every if "/exif " in record["file_name"]])
    assert len(classifier.predict([str(pictures[0])])) == 1, "a list stays a list"
    pixels = np.zeros((2, 30, 40, 3), np.uint8)
    mixed = classifier.predict(one for one in ([folder], pictures[0].read_bytes(), pixels, f"{folder}/c*.jpg"))
    assert len(mixed) == len(every) + 1 + 2 + 1
    assert_same([one.to_dict() for one in mixed[: len(every)]], every)
    assert [one.file_name for one in mixed[-4:-1]] == [f"image {len(every) + n}" for n in range(3)]
    assert mixed[-2].to_dict()["scores"] == mixed[-3].to_dict()["scores"]
    assert classifier.predict(np.array([str(path) for path in pictures[:2]]))[1].file_name == str(pictures[1])


def test_eight_threads_get_what_one_thread_gets(classifier, pictures):
    expected = [prediction.to_dict() for prediction in classifier.predict(pictures)]
    found, start = [None] * 8, threading.Barrier(8)

    def work(place):
        start.wait()
        found[place] = [prediction.to_dict() for prediction in classifier.predict(pictures, batch_size=1 + place)]

    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for records in found:
        assert_same(records, expected)


def test_the_engine_never_runs_in_two_threads(trained, pictures):
    classifier = load(trained / "exported", engine="paddle", num_threads=1)
    engine, inside = classifier._predictor.engine, []
    run = engine.run

    def counted(images):
        inside.append(threading.get_ident())
        assert len(inside) == 1
        threading.Event().wait(0.01)
        inside.pop()
        return run(images)

    engine.run = counted
    errors = []

    def work():
        try:
            classifier.predict(pictures[:3], batch_size=1)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


# ---------------------------------------------------------------------------------------------------- objects


def test_a_prediction_says_label_score_and_topk(classifier, pictures):
    prediction = classifier.predict(pictures[0], topk=2)
    record = prediction.to_dict()
    assert (prediction.label, prediction.score) == (record["label_names"][0], record["scores"][0])
    assert [one.label for one in prediction.topk] == record["label_names"] and len(prediction.topk) == 2
    assert prediction.topk[1] == (record["label_names"][1], record["scores"][1], record["class_ids"][1])
    assert prediction.class_id == record["class_ids"][0] and prediction.file_name == str(pictures[0])
    record["scores"].clear()
    assert prediction.to_dict()["scores"], "a copy"
    assert repr(prediction).startswith(f"<Prediction {pictures[0]}: {prediction.label} ")
    none = classifier.predict(pictures[0], threshold=1.0)
    assert (none.label, none.score, none.topk, none.error) == (None, None, (), None) and "no class" in repr(none)
    assert classifier.class_names == tuple(CLASSES)
    assert "MobileNetV3, 4 classes, 32 x 32, Paddle" in repr(classifier)


def test_a_notebook_shows_pictures_and_escapes_names(classifier, pictures, tmp_path):
    odd = tmp_path / "<i>&.jpg"
    odd.write_bytes(pictures[3].read_bytes())
    page = classifier.predict(odd)._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 1
    assert "&lt;i&gt;&amp;.jpg" in page and "&lt;b&gt;dog&lt;/b&gt;" in page and "<b>dog" not in page and "三" in page
    many = classifier.predict([pictures[0]] * 30)
    assert many._repr_html_().count("<img") == 24 and "and 6 more" in many._repr_html_()
    assert isinstance(many[:2], Predictions)
    odd.unlink()
    assert classifier.predict([pictures[0].read_bytes()])[0]._repr_html_().count("<img") == 1
    assert classifier.predict(pictures[0]).picture().width >= 360


def test_an_unreadable_image_among_others(classifier, pictures, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"damaged")
    good, failed, raw = classifier.predict([pictures[0], bad, b"damaged too"])
    assert good.error is None and "not an image of JPEG" in failed.error and raw.file_name == "image 2"
    assert failed.to_dict().keys() == {"class_ids", "scores", "file_name", "label_names", "error"}
    for ask in (lambda: failed.label, lambda: failed.score, lambda: failed.topk, failed.picture):
        with pytest.raises(BadImage, match=r"bad\.jpg: not an image"):
            ask()
    assert "error: not an image" in repr(failed) and "cannot be read" in failed._repr_html_()
    with pytest.raises(BadImage, match=r"bad\.jpg: not an image") as error:
        classifier.predict(bad)
    assert error.value.exit_code == 3


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ("nothing.jpg", DataError, r"nothing\.jpg: no such file or folder"),
        (["nothing.jpg"], DataError, r"nothing\.jpg: no such file or folder"),
        ("nothing/*.jpg", DataError, r"nothing/\*\.jpg: no image has such a path"),
        ([], DataError, "no images given; expected a path, a folder"),
        (3, DataError, "expected a path, .* got int"),
        ({"a": 1}, DataError, "got dict"),
        (None, DataError, "got NoneType"),
        (np.zeros((4, 4, 3), np.float32), BadImage, r"expected an array \[H, W, 3\] or \[H, W\] uint8, got .* float32"),
        (np.zeros((4, 4, 5), np.uint8), BadImage, r"got \[4, 4, 5\] uint8"),
        (b"", BadImage, "image 0: not an image"),
    ],
)
def test_wrong_images(classifier, images, error, message):
    with pytest.raises(error, match=message):
        classifier.predict(images)


def test_a_tensor_is_told_how_to_become_an_array(classifier):
    with pytest.raises(DataError, match=r"got Tensor; a tensor becomes an array by \.numpy\(\)"):
        classifier.predict(paddle.zeros([4, 4, 3]))


@pytest.mark.parametrize(
    "numbers",
    [
        {"topk": 0},
        {"topk": 1.5},
        {"threshold": -1},
        {"threshold": 2},
        {"batch_size": 0},
        {"topk": "5"},
        {"topk": math.nan},
        {"batch_size": 2.0},
        {"threshold": "0.5"},
        {"threshold": math.nan},
    ],
)
def test_wrong_numbers(classifier, pictures, numbers):
    with pytest.raises(UsageError, match=rf"{next(iter(numbers))}: expected"):
        classifier.predict(pictures[0], **numbers)


def test_skipped_files_are_a_warning(classifier, pictures, tmp_path):
    (tmp_path / "a.jpg").write_bytes(pictures[3].read_bytes())
    (tmp_path / "b.heic").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"1 \.heic file is not read"):
        assert len(classifier.predict(tmp_path)) == 1


# ---------------------------------------------------------------------------------------------------- load


def test_what_cannot_be_loaded_says_what_can(trained, tmp_path, monkeypatch):
    (tmp_path / "weights.pd").write_bytes(b"nothing")
    (tmp_path / "model.json").write_text("{}")
    exported = trained / "exported"
    for arguments, error, message in (
        ((trained,), UsageError, rf"no card.yaml in this folder.* name {trained}/checkpoint-best.pd"),
        ((tmp_path,), UsageError, "no card.yaml in this folder.* export_model.py writes one"),
        (
            (tmp_path / "no",),
            UsageError,
            "no such file or folder; expected a folder of export_model.py, or a checkpoint",
        ),
        ((tmp_path / "weights.pd",), CheckpointError, "weights.pd is not a file of weights"),
        ((tmp_path / "model.json",), UsageError, "no card.yaml beside this program; infer.py runs"),
        ((exported, {"engine": "tensorrt"}), UsageError, "engine: expected auto, onnxruntime, openvino, paddle, got"),
        ((exported, {"device": "tpu"}), UsageError, "device: expected auto, cpu, gpu, got 'tpu'"),
        ((exported, {"precision": "fp8"}), UsageError, "precision: expected fp32, bf16, int8, got 'fp8'"),
        (
            (trained / "checkpoint-best.pd", {"precision": "bf16"}),
            UsageError,
            "precision='bf16' is of exported folders",
        ),
        ((exported, {"use_ema": True}), UsageError, "use_ema: an exported folder has one set of weights"),
        ((exported, {"label_list": str(tmp_path / "none.txt")}), DataError, "none.txt"),
        ((trained / "checkpoint-best.pd", {"engine": "openvino"}), UsageError, "is a file of weights: export it"),
    ):
        with pytest.raises(error, match=message) as caught:
            load(arguments[0], **(arguments[1] if len(arguments) > 1 else {}))
        assert "--" not in str(caught.value), "the caller is Python"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "--engine openvino: No module named x; choose another --engine",
            'engine="openvino": No module named x; choose another engine',
        ),
        ("name an engine instead of --engine auto", "name an engine instead of engine"),
        ("If you trust it: --trust_program True; or", "If you trust it: trust_program=True; or"),
        ("others by --label_list", "others by label_list"),
        ("--precision bf16: not here; take --precision fp32", 'precision="bf16": not here; take precision="fp32"'),
        ("--device gpu needs a GPU build", 'device="gpu" needs a GPU build'),
        ("export the model again with --format onnx", "export the model again with export_model.py --format onnx"),
    ],
)
def test_messages_name_arguments_instead_of_flags(message, words):
    assert in_python_words(message) == words


def test_bf16_without_support_is_named_as_an_argument(trained, monkeypatch):
    monkeypatch.setattr("deploy.engine_base.has_bfloat16", lambda: False)
    with pytest.raises(MissingDependencyError, match=r'precision="bf16": this processor .* take precision="fp32"'):
        load(trained / "exported", engine="openvino", precision="bf16")


def test_an_engine_that_is_missing_is_named_as_an_argument(trained, monkeypatch):
    def missing(*arguments):
        return import_runtime(PaddleEngine, "no_such_runtime")

    monkeypatch.setattr("deploy.predictor.create_engine", missing)
    with pytest.raises(MissingDependencyError, match=r'^engine="paddle": No module .*choose another engine$') as error:
        load(trained / "exported", engine="paddle")
    assert error.value.exit_code == 7


def test_a_gpu_that_is_not_there_is_an_error(trained):
    if paddle.device.cuda.device_count():
        pytest.skip("this machine has a GPU")
    for path in ("exported", "checkpoint-best.pd"):
        with pytest.raises(MissingDependencyError, match='device="gpu"'):
            load(trained / path, device="gpu", engine="paddle")


def test_names_of_a_label_list_are_taken(trained, pictures, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("0 un\n1 deux\n2 trois\n3 quatre\n")
    classifier = load(trained / "exported", label_list=str(names), engine="paddle")
    assert classifier.class_names == ("un", "deux", "trois", "quatre")
    assert classifier.predict(pictures[0]).label in classifier.class_names
    assert load(trained / "checkpoint-best.pd", label_list=str(names)).class_names == classifier.class_names
    known = load(trained / "checkpoint-best.pd").class_names
    names.write_text("".join(f"{label} {name}\n" for label, name in enumerate(reversed(known))))
    for path in ("exported", "checkpoint-best.pd"):
        with pytest.raises(DataError, match="leave out label_list"):
            load(trained / path, label_list=str(names), engine="paddle")


def test_a_checkpoint_computes_with_the_threads_that_were_asked_for(trained):
    """Paddle reads their number at its import, and it is imported here; a fresh process takes all processors."""
    now = import_paddle()
    with pytest.warns(UserWarning, match=f"num_threads={now + 3}: Paddle was imported with {now} threads before"):
        load(trained / "checkpoint-best.pd", num_threads=now + 3)
    code = f"from deploy import load; load({str(trained / 'checkpoint-best.pd')!r}, num_threads=3)"
    code += "; import os; print(os.environ['OMP_NUM_THREADS'])"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "3", done.stderr


def test_what_weights_do_not_say_is_a_warning(tmp_path, pictures):
    model = make_model()
    tensors = {f"model/{name}": value.numpy() for name, value in model.state_dict().items()}
    info = {"args": {"model": NAME, "nb_classes": 4}, "preprocess": Preprocess(SIDE).to_dict()}
    write_checkpoint(tmp_path / "c.pd", tensors, {"next_epoch": 1, "next_step": 0, "epoch": 0, "info": info})
    with pytest.warns(UserWarning, match="no class names: classes are called by their numbers"):
        classifier = load(tmp_path / "c.pd")
    assert classifier.class_names[2] == "class 2"


def test_loading_a_known_folder_warns_of_nothing(trained):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert isinstance(load(trained / "exported", engine="paddle").class_names, tuple)
    assert issubclass(BadImage, ProjectError)


@pytest.mark.deploy
@pytest.mark.parametrize("engine", ["auto", "onnxruntime", "openvino"])
def test_load_without_paddle(exported_onnx, pictures, engine):
    """`import paddle` raises ImportError in the process, and neither models nor engine nor factory is imported."""
    script = (
        "import sys; sys.modules['paddle'] = None\n"
        "from deploy import load\n"
        "prediction = load(sys.argv[1], engine=sys.argv[2]).predict(sys.argv[3])\n"
        "print(prediction.label, *{'models', 'engine', 'factory'} & set(sys.modules), sep='|')"
    )
    command = [sys.executable, "-c", script, str(exported_onnx), engine, str(pictures[0])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("zero", "one, uno", "two: zwei", "三")


def test_the_temperature_of_the_card_makes_the_scores():
    card = Card("fake", "Fake", 2, Preprocess(8), ("a", "b"), temperature=0.5)
    engine = SimpleNamespace(run=lambda batch: np.tile(np.float32([0, 1]), (len(batch), 1)))
    predictor, image, score = Predictor(engine, card), Image.new("RGB", (8, 8)), 1 / (1 + math.exp(-2))
    assert Classifier(predictor, "fake").predict(image).score == pytest.approx(score)
    [record] = predictor.predict([image], ["a.png"])
    assert record["scores"][0] == pytest.approx(score)
