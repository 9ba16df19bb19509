"""Holds `--pretrained` to its meaning: --finetune or --resume of a downloaded file, with what is published of it."""

import shutil

import numpy as np
import paddle
import pytest
import yaml

import factory
import predict
from common.errors import CheckpointError, UsageError
from configs.loader import given_flags, parse
from configs.schema import EvalConfig, ExportConfig, TrainConfig
from datasets.class_names import IMAGENET_LABEL_LIST, read_class_names
from engine.checkpoint import read_checkpoint
from models import create_model
from models.pretrained import WEIGHTS
from models.weights_cache import MIRROR, OFFLINE
from tests.engine.torch_writer import bystanders, legacy_form, tensor, zip_form
from tests.forked_python import run_python
from tests.loopback import loopback_server
from tests.scripts.conftest import ENVIRONMENT, ROOT

# Runs a script with a row of the table that has no published checksum, as no test has the published files.
PROGRAM = """
import runpy, sys
from models.pretrained import WEIGHTS
script, name = sys.argv[1:3]
WEIGHTS[name] = WEIGHTS[name]._replace(checksum="", num_bytes=None)
sys.argv = [script, *sys.argv[3:]]
runpy.run_path(script, run_name="__main__")
"""
OFF = "--aa= --reprob 0 --mixup 0 --cutmix 0 --lr 0 --min_lr 0 --weight_decay 0 --warmup_epochs 0".split()


def run_script(script: str, row: str, *flags: object, **environment: str):
    command = ["-c", PROGRAM, f"{script}.py", row, *flags]
    return run_python(command, cwd=ROOT, env={**ENVIRONMENT, "no_proxy": "*", **environment})


def torch_names(model: paddle.nn.Layer, prefix: str = "") -> dict:
    """The weights of a model in the names and layouts of PyTorch."""
    linear = [name for name, layer in model.named_sublayers() if isinstance(layer, paddle.nn.Linear)]
    content = {}
    for key, (name, value) in enumerate(model.state_dict().items()):
        layer, _, leaf = name.rpartition(".")
        array = value.numpy().T if layer in linear and leaf == "weight" else value.numpy()
        torch_leaf = {"_mean": "running_mean", "_variance": "running_var"}.get(leaf, leaf)
        content[f"{prefix}{layer}.{torch_leaf}"] = tensor(np.ascontiguousarray(array), f"w{key}")
        if leaf == "_mean":
            content[f"{prefix}{layer}.num_batches_tracked"] = tensor(np.array(3), f"n{key}")
    return content


# --- main.py ---------------------------------------------------------------------------------------------------------


def test_main_starts_from_public_weights_and_continues_without_network(data, tmp_path):
    row, folder = "mobilenet_v3_small.torchvision_v1", tmp_path / "run"
    paddle.seed(3)
    model = create_model("mobilenet_v3_small")
    flags = [*data.train_flags, "--pretrained", row, "--weights_dir", tmp_path / "weights", "--output_dir", folder]
    flags += [*OFF, "--input_size", 32, "--num_workers", 0, "--batch_size", 24]
    with loopback_server() as server:
        server.files["/mobilenet_v3_small-047dcff4.pth"] = zip_form(torch_names(model))
        done = run_script("main", row, *flags, "--epochs", 1, **{MIRROR: server.url})
        assert done.returncode == 0, done.stderr
        path = tmp_path / "weights" / "mobilenet_v3_small-047dcff4.pth"
        assert f"Load pre-trained checkpoint from: {path}" in done.stdout
        assert "Removing key classifier.3.weight from pretained checkpoint" in done.stdout
        checkpoint = read_checkpoint(folder / "checkpoint-latest.pd")
        weights = checkpoint.section("model")
        for name in ("features.0.0.weight", "classifier.0.weight"):
            assert np.array_equal(weights[name], model.state_dict()[name].numpy())
        assert checkpoint.meta["info"]["preprocess"]["interpolation"] == "bilinear"
        recipe = yaml.safe_load((folder / "config.yaml").read_text())
        assert {name: recipe[name] for name in ("model", "pretrained", "finetune", "train_interpolation")} == {
            "model": "mobilenet_v3_small",
            "pretrained": row,
            "finetune": "",
            "train_interpolation": "bilinear",
        }
        shutil.rmtree(tmp_path / "weights")
        server.files.clear()
        done = run_script("main", row, *flags, "--epochs", 2, "--resume", "auto", **{MIRROR: server.url})
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 1 and not (tmp_path / "weights").exists()


def test_without_the_file_main_ends_before_anything_is_written(data, tmp_path):
    row = "peleenet.paddleclas"
    with loopback_server() as server:
        flags = ["--pretrained", "paddleclas", "--weights_dir", tmp_path / "weights", "--input_size", 32]
        done = run_script("main", row, *data.train_flags, *flags, **{MIRROR: server.url})
    assert done.returncode == 7, done.stdout + done.stderr
    assert f"error: cannot download {server.url}/PeleeNet_pretrained.pdparams: the server answers 404" in done.stderr
    assert f"put the file at {tmp_path}/weights/PeleeNet_pretrained.pdparams" in done.stderr


def train_config(*argv: str):
    """What main.py makes of its flags: the config, and the preprocessing of the weights."""
    return factory.with_public_weights(
        parse(TrainConfig, list(argv), prog="main.py"), given_flags(TrainConfig, list(argv), prog="main.py")
    )


@pytest.mark.parametrize(
    ("argv", "model", "row"),
    [
        (["--pretrained"], "peleenet", "peleenet.official"),
        (["--pretrained", "paddleclas"], "peleenet", "peleenet.paddleclas"),
        (["--pretrained", "--model", "alexnet"], "alexnet", "alexnet.torchvision_v1"),
        (["--pretrained", "alexnet.paddleclas"], "alexnet", "alexnet.paddleclas"),
        (["--pretrained", "alexnet"], "alexnet", "alexnet.torchvision_v1"),
        (
            ["--pretrained", "torchvision_v1", "--model", "mobilenet_v3_large_x1_0"],
            "mobilenet_v3_large_x1_0",
            "mobilenet_v3_large.torchvision_v1",
        ),
    ],
)
def test_which_network_and_which_weights_are_meant(argv, model, row):
    config, _ = train_config(*argv)
    assert (config.model.name, config.resume.pretrained) == (model, row)


def test_flags_go_before_what_is_published():
    config, published = train_config("--pretrained", "mobilenet_v3_large.torchvision_v2")
    assert (config.preprocess.input_size, config.preprocess.train_interpolation) == (224, "bilinear")
    assert (published["resize_size"], published["input_size"]) == (232, 224)
    config, _ = train_config("--pretrained", "--input_size", "96", "--train_interpolation", "random")
    assert (config.preprocess.input_size, config.preprocess.train_interpolation) == (96, "random")
    assert train_config("--input_size", "96")[1] is None


def test_weights_of_another_network_are_refused():
    with pytest.raises(UsageError, match=r"the weights alexnet\.paddleclas are of alexnet, not of peleenet"):
        train_config("--pretrained", "alexnet.paddleclas", "--model", "peleenet")


@pytest.mark.parametrize("resume", ["run/checkpoint-best.pd", "auto"])
def test_a_checkpoint_that_is_continued_needs_no_download(tmp_path, monkeypatch, resume):
    monkeypatch.setattr("factory.public_weights.download_weights", lambda *arguments: pytest.fail("downloaded"))
    (tmp_path / "checkpoint-latest.pd").write_bytes(b"")
    config, _ = train_config("--pretrained", "--resume", resume, "--output_dir", str(tmp_path))
    assert factory.choose_start(config).finetune == ""


def test_a_run_without_a_checkpoint_yet_starts_from_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("factory.public_weights.download_weights", lambda name, folder: tmp_path / name)
    for argv in ([], ["--resume", "auto", "--output_dir", str(tmp_path)]):
        config, _ = train_config("--pretrained", *argv)
        start = factory.choose_start(config)
        assert (start.finetune, start.pretrained) == (str(tmp_path / "peleenet.official"), "")


def test_random_weights_are_not_frozen_where_there_is_nothing_to_continue(tmp_path):
    flags = ("--freeze", "backbone", "--resume", "auto", "--output_dir", str(tmp_path))
    with pytest.raises(UsageError, match=r"--freeze needs weights to start from, and .* has no checkpoint to continue"):
        factory.choose_start(train_config(*flags)[0])
    assert factory.choose_start(train_config(*flags, "--finetune", "weights.pd")[0]).finetune == "weights.pd"
    (tmp_path / "checkpoint-latest.pd").write_bytes(b"")
    factory.choose_start(train_config(*flags)[0])


# --- eval.py, predict.py, export_model.py ----------------------------------------------------------------------------


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """A folder of copies, with the weights of two small networks under the names of the published files."""
    monkeypatch.setenv(OFFLINE, str(tmp_path))
    for row, model in (
        ("mobilenet_v3_small_x0_35_paddleclas.paddleclas", "mobilenet_v3_small_x0_35_paddleclas"),
        ("mobilenet_v3_large.torchvision_v2", "mobilenet_v3_small_x0_35"),
    ):
        monkeypatch.setitem(WEIGHTS, row, WEIGHTS[row]._replace(checksum="", num_bytes=None, num_parameters=1))
        monkeypatch.setitem(WEIGHTS, row, WEIGHTS[row]._replace(models=(model,)))
        paddle.save(create_model(model).state_dict(), str(tmp_path / WEIGHTS[row].file.name))
    return tmp_path


def read(config_class, *argv: str):
    config = parse(config_class, list(argv), prog="x.py")
    return factory.read_trained(config.model, config.weights, config.preprocess)


@pytest.mark.parametrize("config_class", [EvalConfig, ExportConfig])
def test_what_is_published_describes_the_weights(copies, config_class):
    trained = read(config_class, "--pretrained", "mobilenet_v3_large.torchvision_v2")
    assert trained.name == "mobilenet_v3_small_x0_35" and trained.notes == []
    assert (trained.preprocess.input_size, trained.preprocess.resize_size) == (224, 232)
    assert trained.preprocess.interpolation == "bilinear"
    assert trained.classes.names == tuple(read_class_names(IMAGENET_LABEL_LIST))
    assert trained.create_model().state_dict()["classifier.3.bias"].shape == [1000]


def test_a_flag_replaces_what_is_published_with_a_warning(copies):
    name = "mobilenet_v3_small_x0_35_paddleclas"
    trained = read(EvalConfig, "--model", name, "--pretrained", "paddleclas", "--input_size", "64")
    assert (trained.name, trained.preprocess.input_size, trained.preprocess.resize_size) == (name, 64, 73)
    assert trained.notes[0].startswith("--input_size 64 replaces 224, the value of ")


def test_the_official_peleenet_is_read(copies, monkeypatch):
    """Its file is the older form of torch.save: a checkpoint with an optimizer, of a model in DataParallel."""
    row = WEIGHTS["peleenet.official"]
    monkeypatch.setitem(WEIGHTS, "peleenet.official", row._replace(checksum=""))
    model = create_model("peleenet")
    content = {"epoch": 119, "state_dict": torch_names(model, "module."), **bystanders()}
    (copies / row.file.name).write_bytes(legacy_form(content))
    trained = read(EvalConfig, "--pretrained")
    loaded = trained.create_model().state_dict()
    for name in ("features.stemblock.stem1.norm._variance", "classifier.weight"):
        assert np.array_equal(loaded[name].numpy(), model.state_dict()[name].numpy())
    assert (trained.name, trained.classes.number, trained.preprocess.resize_size) == ("peleenet", 1000, 256)


def test_resume_goes_first(copies):
    missing = str(copies / "none.pd")
    with pytest.raises(CheckpointError, match=r"none\.pd"):
        read(EvalConfig, "--pretrained", "mobilenet_v3_large.torchvision_v2", "--resume", missing)


def test_predict_names_imagenets_classes(copies, data, capsys):
    row = "mobilenet_v3_small_x0_35_paddleclas.paddleclas"
    image = next((data.root / "val").rglob("*.png"))
    predict.main(["--pretrained", row, "--infer_imgs", str(image), "--input_size", "32", "--device", "cpu"])
    printed = capsys.readouterr().out
    assert any(name in printed for name in read_class_names(IMAGENET_LABEL_LIST)), printed


def test_main_evaluates_public_weights_as_eval_does(copies):
    argv = ["--eval", "--pretrained", "mobilenet_v3_large.torchvision_v2"]
    config, _ = train_config(*argv)
    weights = factory.weights_to_evaluate(config)
    model, flags = factory.trained_configs(config, given_flags(TrainConfig, argv, prog="main.py"))
    trained = factory.read_trained(model, weights, flags)
    assert trained.preprocess == read(EvalConfig, *argv[1:]).preprocess
    assert trained.name == "mobilenet_v3_small_x0_35"
