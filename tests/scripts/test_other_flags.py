"""Every flag of eval.py, predict.py, export_model.py and infer.py reaches its place; main.py's are beside this file.

Each is given a value of its own, so that a lost one and two exchanged ones of the same type are seen in what the model
is fed, what is written and what the runtime is asked for.
"""

import json
import re
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from paddle import nn

import eval as evaluation
import export_model
import infer
import predict
from common.errors import DataError, UsageError
from configs.loader import parse
from configs.schema import TrainConfig
from deploy.card import read_card
from engine.checkpoint import write_checkpoint
from factory import trained_configs
from tests.scripts.conftest import write_split

NUM_CLASSES = 4


class TinyNetwork(nn.Layer):
    """Weights of one number; the class 1 of 4 has the largest logit, by twice that number."""

    def __init__(self, name: str, num_classes: int):
        super().__init__()
        self.name, self.seen = name, []
        self.weight = self.create_parameter([num_classes])

    def forward(self, x):
        self.seen.append(list(x.shape))
        order = paddle.to_tensor(np.array([1, 2, 0, 0], np.float32)[: self.weight.shape[0]])
        return x.mean(axis=[1, 2, 3]).unsqueeze(1) * 0 + self.weight * order


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Six images of val/ in the folders 0 to 3, their list and a shorter one; weights 1, and 2 for their average."""
    folder = tmp_path_factory.mktemp("images")
    write_split(folder, "val", 6, seed=0)
    lines = (folder / "val_list.txt").read_text().splitlines(keepends=True)
    (folder / "short.txt").write_text("".join(lines[:5]))
    (folder / "names.txt").write_text("".join(f"{label} name{label}\n" for label in range(NUM_CLASSES)))
    tensors = {f"{section}/weight": np.full(NUM_CLASSES, value, np.float32)
               for section, value in (("model", 1), ("model_ema", 2))}  # fmt: skip
    write_checkpoint(folder / "c.pd", tensors, {"next_epoch": 1, "next_step": 0, "epoch": 0, "info": {}})
    return folder


@pytest.fixture
def models(monkeypatch):
    """The models that were created."""
    created = []

    def create_model(name, *, num_classes):
        created.append(TinyNetwork(name, num_classes))
        return created[-1]

    monkeypatch.setattr("models.create_model", create_model)
    return created


MODEL = f"--model mobilenet_v3_small --nb_classes {NUM_CLASSES} --input_size 40".split()
PREPROCESS = "--train_interpolation bilinear --exif_orientation apply --crop_pct 0.8".split()


# ---------------------------------------------------------------------------------------------------- eval.py


@pytest.mark.parametrize(("more", "weight"), [([], 1), (["--use_ema"], 2)])
def test_eval(root, models, capfd, more, weight):
    lists = [f"--data_path={root}", f"--cls_label_path_val={root / 'short.txt'}"]
    flags = [*MODEL, *PREPROCESS, *lists, "--batch_size=3", "--num_workers=0", f"--resume={root / 'c.pd'}", *more]
    evaluation.main(flags)
    out = capfd.readouterr().out
    [model] = models
    assert (model.name, model.seen) == ("mobilenet_v3_small", [[3, 3, 40, 40], [2, 3, 40, 40]])
    assert model.weight.tolist() == [weight] * NUM_CLASSES
    assert "Accuracy of the network on the 5 test images: 20.0%" in out
    assert "input_size=40" in out and "interpolation='bilinear'" in out and "exif_orientation='apply'" in out
    assert "resize_size=50" in out and "crop_pct=0.8" in out


@pytest.mark.parametrize(
    ("trained", "message"),
    [
        (["0", "1", "2", "3"], None),
        (["0", "1", "2", "2b", "3"], r"no folder for class 2b of the weights .*; labels would not agree"),
        (["3", "1", "2", "0"], r"class . has label . in .*val, but . in .*c\.pd"),
    ],
)
def test_eval_compares_the_class_folders_with_those_that_were_trained(root, models, tmp_path, trained, message):
    tensors = {"model/weight": np.ones(len(trained), np.float32)}
    meta = {"next_epoch": 1, "next_step": 0, "epoch": 0, "info": {"class_names": trained}}
    write_checkpoint(tmp_path / "c.pd", tensors, meta)
    flags = [f"--data_path={root}", f"--resume={tmp_path / 'c.pd'}", "--num_workers=0", "--input_size=40"]
    if message is None:
        evaluation.main([*flags, "--nb_classes=4"])
        return
    with pytest.raises(DataError, match=message):
        evaluation.main([*flags, f"--nb_classes={len(trained)}"])
    assert not any(model.seen for model in models), "nothing is evaluated before"


def test_main_eval_takes_the_preprocessing_flags_that_are_given():
    given = ["--fit=crop", "--crop_pct=0.8"]
    config = parse(TrainConfig, given, prog="main.py")
    _, flags = trained_configs(config, frozenset({"fit", "crop_pct"}))
    assert (flags.fit, flags.crop_pct) == ("crop", 0.8)
    _, flags = trained_configs(config, frozenset())
    assert (flags.fit, flags.crop_pct) == (None, None)


# ---------------------------------------------------------------------------------------------------- predict.py


@pytest.mark.parametrize(("more", "weight"), [([], 1), (["--use_ema"], 2)])
def test_predict(root, models, tmp_path, more, weight):
    images = [f"--infer_imgs={root / 'val'}", "--batch_size=5", "--topk=2", f"--label_list={root / 'names.txt'}"]
    saved = tmp_path / "answers.json"
    predict.main([*MODEL, *PREPROCESS, f"--resume={root / 'c.pd'}", *images, f"--save_path={saved}", *more])
    [model] = models
    assert (model.name, model.seen) == ("mobilenet_v3_small", [[5, 3, 40, 40], [1, 3, 40, 40]])
    records = json.loads(saved.read_text())
    assert len(records) == 6 and {tuple(record["label_names"]) for record in records} == {("name1", "name0")}
    expected = np.exp(2 * weight) / np.exp(np.array([2, 1, 0, 0]) * weight).sum()
    assert records[0]["scores"][0] == pytest.approx(expected, rel=1e-5)


def test_predict_computes_in_the_precision_of_its_flag(root, models, monkeypatch):
    """A fake replaces a GPU."""
    entered, asked = [], []
    precision = SimpleNamespace(autocast=lambda: entered.append(True) or nullcontext())
    monkeypatch.setattr("engine.amp.choose_precision", lambda use_amp: asked.append(use_amp) or precision)
    predict.main([*MODEL, f"--resume={root / 'c.pd'}", f"--infer_imgs={root / 'val'}", "--use_amp"])
    assert asked == [True] and entered


def test_predict_with_a_temperature(root, models, tmp_path):
    metrics, saved = tmp_path / "metrics.json", tmp_path / "answers.json"
    metrics.write_text('{"temperature": 2.5}')
    common = [*MODEL, f"--resume={root / 'c.pd'}", f"--infer_imgs={root / 'val'}", f"--save_path={saved}"]
    for value in ("2.5", metrics):
        predict.main([*common, f"--temperature={value}"])
        expected = np.exp(2 / 2.5) / np.exp(np.array([2, 1, 0, 0]) / 2.5).sum()
        assert json.loads(saved.read_text())[0]["scores"][0] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(UsageError, match="--temperature: expected a finite number above 0"):
        predict.main([*common, "--temperature=0"])


# ---------------------------------------------------------------------------------------------------- export_model.py


@pytest.fixture
def export(root, models, monkeypatch):
    """export_model.py whose programs are not made; returns what it would hand to the export, by position and name."""
    called = []

    def export_folder(folder, formats, card, save_program, images, expected_logits, quantization=None, paddlex_name=""):
        called.append(SimpleNamespace(**locals()))

    monkeypatch.setattr("deploy.export.export_folder.export_folder", export_folder)

    def run_export(*flags):
        export_model.main([*MODEL, *PREPROCESS, f"--resume={root / 'c.pd'}", *map(str, flags)])
        return called[-1]

    return run_export


@pytest.mark.parametrize(("more", "weight"), [([], 1), (["--use_ema"], 2)])
def test_export(root, export, tmp_path, more, weight):
    names = ["--format=pdmodel,onnx", f"--label_list={root / 'names.txt'}", f"--output_dir={tmp_path / 'out'}"]
    called = export(*names, f"--check_images={root / 'val'}", *more)
    assert (called.folder, called.formats) == (str(tmp_path / "out"), ["pdmodel", "onnx"])
    assert (called.card.model, called.card.num_classes) == ("mobilenet_v3_small", NUM_CLASSES)
    assert called.card.class_names == tuple(f"name{label}" for label in range(NUM_CLASSES))
    preprocess = called.card.preprocess
    assert (preprocess.input_size, preprocess.interpolation, preprocess.exif_orientation) == (40, "bilinear", "apply")
    assert (preprocess.fit, preprocess.crop_pct) == ("crop", 0.8)
    assert len(called.images) == 4 + 6 and called.expected_logits[9].tolist() == [weight, 2 * weight, 0, 0]
    assert (called.quantization, called.paddlex_name) == (None, "")


@pytest.mark.parametrize(("more", "temperature"), [([], 1), (["--temperature=1.75"], 1.75)])
def test_export_with_a_temperature(export, tmp_path, more, temperature):
    """The logits, by which programs are compared, are those of the model at any temperature."""
    called = export(f"--output_dir={tmp_path}", *more)
    assert called.card.temperature == temperature
    assert called.expected_logits[0].tolist() == [1, 2, 0, 0]


def test_export_of_int8(root, export, tmp_path):
    ranges = [f"--calibration_images={root / 'val'}", "--num_calibration=3", "--calibration_method=entropy"]
    labelled = [f"--data_path={root}", f"--cls_label_path_val={root / 'short.txt'}", "--max_drop=2.5"]
    called = export("--format=onnx-int8", f"--output_dir={tmp_path}", *ranges, *labelled)
    images = sorted(str(path) for path in (root / "val").rglob("*.png"))
    paths = list(called.quantization.calibration.paths)
    assert len(paths) == 3 and {paths[0], paths[2]} == {images[0], images[-1]}, "spread over all"
    assert called.quantization.calibration.method == "entropy"
    lines = (root / "short.txt").read_text().splitlines()
    validation = called.quantization.validation
    assert [str(path) for path in validation.paths] == [str(root / line.rsplit(" ", 1)[0]) for line in lines]
    assert (list(validation.labels), validation.max_drop) == ([0, 1, 2, 3, 0], 2.5)


def test_the_exporter_writes_the_program_of_the_flags(root, tmp_path, monkeypatch):
    """With a real network, since a program is made of it."""
    from models import create_model

    model = create_model("peleenet", num_classes=NUM_CLASSES, block_config=[1, 1, 1, 1])
    tensors = {f"model/{name}": value.numpy() for name, value in model.state_dict().items()}
    write_checkpoint(tmp_path / "c.pd", tensors, {"next_epoch": 1, "next_step": 0, "epoch": 0, "info": {}})
    monkeypatch.setattr("models.create_model", lambda name, num_classes: model)
    flags = ["--nb_classes=4", "--input_size=48", "--format=paddle"]
    export_model.main([*flags, f"--resume={tmp_path / 'c.pd'}", f"--output={tmp_path / 'out'}"])
    assert read_card(tmp_path / "out").preprocess.input_size == 48
    answered = tmp_path / "answers.json"
    infer.main([f"--model_file={tmp_path / 'out'}", f"--input_file={root / 'val'}", f"--save_path={answered}"])
    assert len(json.loads(answered.read_text())) == 6


# ---------------------------------------------------------------------------------------------------- infer.py


class FakeEngine:
    """A runtime that notes what it is asked for; the class 1 of 4 has the largest logit."""

    description, device, onednn_is_on, memory_optim_is_on = "a fake", "cpu", False, False

    def __init__(self, name, files, options):
        self.name, self.files, self.options, self.shapes = name, list(files), options, []

    def run(self, images):
        self.shapes.append(images.shape)
        return np.tile(np.array([[0, 2, 1, 0]], np.float32), (len(images), 1))

    def clone(self):
        return self


@pytest.fixture
def infer_with(root, tmp_path, monkeypatch):
    """infer.py on a program that is not there; returns the runtime, files and options asked for, and what it ran."""
    files = [tmp_path / "model.json", tmp_path / "model.params"]
    for file in files:
        file.write_bytes(b"")
    trusted = []

    engines = []
    monkeypatch.setattr(
        "deploy.predictor.create_engine", lambda *asked: engines.append(FakeEngine(*asked)) or engines[-1]
    )
    monkeypatch.setattr("deploy.exported_program.check_operators", trusted.append)
    monkeypatch.setattr("deploy.exported_program.check_options", lambda name, options: None)  # any option, any machine
    monkeypatch.setattr("infer.BENCHMARK_LOG", str(tmp_path / "benchmark.log"))

    def run_infer(*flags):
        asked = [f"--model_file={files[0]}", f"--params_file={files[1]}", f"--input_file={root / 'val'}"]
        infer.main([*asked, f"--save_path={tmp_path / 'answers.json'}", *map(str, flags)])
        engine = engines[-1]
        engine.is_checked = bool(trusted)
        engine.records = json.loads((tmp_path / "answers.json").read_text())
        assert engine.files == files
        return engine

    return run_infer


def test_infer(root, infer_with):
    engine = infer_with(
        *"--engine onnxruntime -b 5 --topk 3 --threshold 0.2 --train_interpolation bilinear --cpu_threads 7".split(),
        *"--gpu_id 2 --gpu_mem 3000 --precision fp16".split(),
        f"--label_list={root / 'names.txt'}",
    )
    assert engine.name == "onnxruntime"
    options = engine.options
    assert (options.gpu_id, options.gpu_mem_mb, options.precision, options.max_batch_size) == (2, 3000, "fp16", 5)
    assert options.threads * options.num_clones <= 7 and options.num_clones == 2, "one for each of two batches"
    assert sorted(shape[0] for shape in engine.shapes) == [1, 1, 5], "the picture of the self-check, then all"
    assert {tuple(record["label_names"]) for record in engine.records} == {("name1", "name2")}, "of three, above 0.2"
    assert len(infer_with("--topk=1").records[0]["class_ids"]) == 1


def test_infer_takes_every_thread_where_one_engine_answers(infer_with):
    assert infer_with("--cpu_threads=7", "-b=6", "--engine=openvino").options.threads == 7


# flag -> the option; their defaults
SWITCHES = {
    "use_gpu": ("use_gpu", True),
    "ir_optim": ("ir_optim", True),
    "use_tensorrt": ("tensorrt", False),
    "enable_mkldnn": ("onednn", False),
    "enable_openvino": ("openvino", False),
}


@pytest.mark.parametrize("turned", SWITCHES)
def test_each_switch_of_infer_turns_its_own(infer_with, turned):
    options = infer_with(f"--{turned}={not SWITCHES[turned][1]}").options
    assert {flag: getattr(options, name) for flag, (name, _) in SWITCHES.items()} == {
        flag: default != (flag == turned) for flag, (_, default) in SWITCHES.items()
    }


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_engine_is_built_for_the_batches_that_come(infer_with, batch_size):
    """TensorRT builds for a largest batch, and Paddle's OpenVINO prefers the program of single images for one."""
    assert infer_with(f"--batch_size={batch_size}").options.max_batch_size == batch_size


@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_program_is_examined_unless_it_is_trusted(infer_with, is_trusted):
    assert infer_with(f"--trust_program={is_trusted}").is_checked != is_trusted


@pytest.mark.parametrize("is_on", ["ir_optim", "enable_tensorrt", "enable_mkldnn", "enable_memory_optim"])
def test_the_benchmark_report_says_what_was_asked_for_and_what_the_engine_has(infer_with, monkeypatch, capfd, is_on):
    """One thing is on at a time; of oneDNN and memory optimisation the engine says whether it has them."""
    monkeypatch.setattr(FakeEngine, "onednn_is_on", is_on == "enable_mkldnn")
    monkeypatch.setattr(FakeEngine, "memory_optim_is_on", is_on == "enable_memory_optim")
    numbers = ["--enable_benchmark=True", "-b=4", "--precision=fp16", "--cpu_threads=3"]
    infer_with(*numbers, f"--ir_optim={is_on == 'ir_optim'}", f"--use_tensorrt={is_on == 'enable_tensorrt'}")
    values = dict(re.findall(r"root INFO:  (\w+): (.*)", capfd.readouterr().out))
    switches = ("ir_optim", "enable_tensorrt", "enable_mkldnn", "enable_memory_optim")
    assert [name for name in switches if values[name] == "True"] == [is_on]
    assert [values[name] for name in ("batch_size", "image_num", "data_num", "precision", "input_shape")] == [
        "4", "6", "2", "fp16", "3,224,224"
    ]  # fmt: skip
    assert values["cpu_math_library_num_threads"] == "3" and values["model_name"] == "PeleeNet"


def test_infer_goes_on_from_an_earlier_file(infer_with, root, tmp_path):
    first = infer_with("-b=4").records
    kept = tmp_path / "kept.jsonl"
    kept.write_text("".join(json.dumps(record) + "\n" for record in first[:4]))
    engine = infer_with("-b=4", f"--resume_from={kept}")
    assert sorted(shape[0] for shape in engine.shapes) == [1, 2] and len(engine.records) == 6
