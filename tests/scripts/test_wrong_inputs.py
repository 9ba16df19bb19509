"""What a user can get wrong, and the message and exit code that each mistake gets; the README prints the codes."""

import importlib
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.cli import run
from tests.scripts.conftest import MODEL, run_script

NET = MODEL[:-2]  # without --num_workers, which only main.py and eval.py have


class Evil:
    """Unpickling it would create the file `path`."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def files(data, trained, tmp_path_factory) -> dict[str, Path]:
    """Faulty files by name, and a few good ones."""
    folder = tmp_path_factory.mktemp("faulty")
    best = (trained / "checkpoint-best.pd").read_bytes()
    image = Image.new("RGB", (40, 40))
    image.save(folder / "good.png")
    contents = {
        "no_label.txt": b"train/0/a.png\n",
        "word_label.txt": b"# comment\n\ntrain/0/a.png cat\n",
        "big_label.txt": b"train/0/a.png 4\n",
        "latin1.txt": b"train/0/caf\xe9.png 1\n",
        "empty.txt": b"\n# nothing\n",
        "missing_image.txt": b"train/0/none.png 1\n",
        "few_labels.txt": b"0 red\n1 green\n",
        "flipped.pd": best[:-1000] + bytes([best[-1000] ^ 1]) + best[-999:],
        "cut.pd": best[:5000],
        "empty.pd": b"",
        "text.pd": b"hello",
        "evil.pdparams": pickle.dumps({"w": Evil(folder / "it ran")}, protocol=4),
        "broken.jpg": b"\xff\xd8\xff\xe0 not a photograph",
        "bad.yaml": b"epoch: 3\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "no images").mkdir()
    (folder / "tree" / "val" / "a").mkdir(parents=True)
    (folder / "tree" / "val" / "b").mkdir()
    image.save(folder / "tree" / "val" / "a" / "1.png")
    return {"folder": folder, "best": trained / "checkpoint-best.pd"}


# script, flags ({data} and {folder} and {best} are filled in), exit code, what the message says
WRONG = [
    ("main", "--epoch 3", 2, "unknown flag --epoch; did you mean --epochs?"),
    ("main", "--opt adam", 2, "--opt: unknown value 'adam'; did you mean adamw?"),
    ("main", "--model peleent", 2, "unknown model 'peleent'; did you mean peleenet? known models: peleenet, "),
    ("main", "--model peleenet --input_size 33", 2, "peleenet cannot take an image side of 33"),
    ("main", "--config {folder}/bad.yaml", 2, "bad.yaml: unknown key 'epoch'; did you mean epochs?"),
    ("main", "{lists} --aa rand-x9", 2, "rand-x9"),
    ("main", "--resume auto", 2, "--resume auto looks for checkpoints in --output_dir"),
    ("main", "--data_path '{root}' --nb_classes 9", 3, "4 class folders (0, 1, 2, 3), but --nb_classes is 9"),
    ("main", "--data_path /none", 3, "/none: no such folder; name the root of the data with --data_path"),
    ("main", "{lists} --accum_iter 64", 3, "48 training images do not fill one step of 4096"),
    ("main", "{lists} --class_weights {folder}/few_labels.txt", 3, "few_labels.txt:1: expected '<class> <weight>'"),
    ("main", "{lists} --finetune {best} --freeze 15", 2, "--freeze 15: the model has 14 layers before its classifier"),
    ("main", "{lists} --batch_size 3 --mixup_mode pair", 3, "--mixup_mode pair needs an even batch size, got 3"),
    ("main", "{lists} --batch_size 8 --finetune {folder}/none.pd", 4, "none.pd: No such file"),
    ("main", "{lists} --batch_size 8 --finetune {best} --model alexnet --input_size 64", 4, "does not fit the model"),
    ("main", "{lists} --batch_size 8 --model_ema --resume_ema {folder}/none.pd", 4, "none.pd: No such file"),
    ("main", "{lists} --batch_size 8 --model_ema --resume_ema {best}", 4, "holds no moving average (model_ema)"),
    ("main", "{lists} --batch_size 8 --eval --resume auto --output_dir '{folder}/no images'", 4,
     "no images, and random weights are never evaluated"),
    ("main", "{lists} --batch_size 8 --eval --finetune {best} --label_list= --nb_classes 7", 4, "does not fit"),
    ("main", "{lists} --batch_size 8 --output_dir {folder}/good.png", 74, "cannot write into --output_dir"),
    ("main", "{lists} --batch_size 8 --device gpu", 7, "--device gpu needs a GPU build of Paddle"),
    ("eval", "{val}/no_label.txt --resume {best}", 3, "no_label.txt:1: expected '<relative path> <label>'"),
    ("eval", "{val}/word_label.txt --resume {best}", 3, "word_label.txt:3: expected"),
    ("eval", "{val}/big_label.txt --resume {best}", 3, "big_label.txt:1: expected a label from 0 to 3, got 4"),
    ("eval", "{val}/latin1.txt --resume {best}", 3, "latin1.txt:1"),
    ("eval", "{val}/empty.txt --resume {best}", 3, "got a list without images"),
    ("eval", "{val}/missing_image.txt --resume {best}", 3, "missing_image.txt:1: no such file"),
    ("eval", "--data_path {folder}/tree --resume {best}", 3, "no image in class b"),
    ("eval", "{good}", 4, "no file of weights is named, and random weights are never used"),
    ("eval", "{good} --resume {folder}/flipped.pd", 4, "flipped.pd is damaged"),
    ("eval", "{good} --resume {folder}/cut.pd", 4, "cut.pd is damaged"),
    ("eval", "{good} --resume {folder}/empty.pd", 4, "empty.pd is empty"),
    ("eval", "{good} --resume {folder}/text.pd", 4, "text.pd is not a file of weights"),
    ("eval", "{good} --resume {folder}/evil.pdparams", 4, "evil.pdparams"),
    ("eval", "{good} --resume {best} --nb_classes 7", 4, "of another shape or type: classifier.3."),
    ("eval", "{good} --resume {best} --nb_classes 7", 4, "with --model mobilenet_v3_small_x0_35 --nb_classes 4"),
    ("eval", "{good} --resume {run}", 4, "it is a folder; name a file in it: checkpoint-1.pd, checkpoint-best.pd"),
    ("predict", "--resume {best}", 2, "--infer_imgs is missing"),
    ("predict", "--resume {best} --infer_imgs {folder}/no_such.png", 3, "no_such.png: no such file or folder"),
    ("predict", "--resume {best} --infer_imgs '{folder}/no images'", 3, "no image in this folder or below"),
    ("predict", "--resume {best} --infer_imgs {folder}/broken.jpg", 3, "1 of 1 images could not be read"),
    ("predict", "--resume {best} --infer_imgs {folder}/good.png --label_list {folder}/few_labels.txt", 3,
     "expected the names of 4 classes, got 2"),
    ("predict", "--resume {best} --infer_imgs {folder}/good.png --save_path p.txt", 2, "p.txt"),
    ("predict", "--resume {best} --infer_imgs '{root}' --save_path {folder}/good.png/p.csv", 74, "cannot write"),
    ("export_model", "--resume {best} --output_dir {folder}/good.png", 74, "cannot write"),
    ("export_model", "--resume {best}", 2, "--output_dir is missing"),
    ("export_model", "--output x", 4, "random weights are not exported"),
    ("infer", "--input_file {folder}/good.png", 2, "--model_file is missing"),
    ("infer", "--input_file {folder}/good.png --model_file {folder}/none.json", 4, "none.json: no such file"),
]  # fmt: skip


def end_well(main) -> None:
    """Run the main function of a script to exit code 0."""
    with pytest.raises(SystemExit) as end:
        run(main)
    assert not end.value.code


@pytest.mark.parametrize(("script", "flags", "code", "message"), WRONG, ids=[f"{row[0]} {row[1]}" for row in WRONG])
def test_every_mistake_has_its_message_and_exit_code(script, flags, code, message, data, files, capfd, monkeypatch):
    import shlex

    places = {
        "folder": files["folder"],
        "best": files["best"],
        "run": files["best"].parent,
        "root": data.root,
        "lists": shlex.join(data.train_flags),
        "val": f"--data_path '{data.root}' --cls_label_path_val {files['folder']}",
        "good": shlex.join(data.val_flags),
    }
    model_flags = [] if script == "infer" else [*NET, "--num_workers", "0"] if script in ("main", "eval") else NET
    argv = [*model_flags, *shlex.split(flags.format(**places))]
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *argv])
    monkeypatch.setattr("engine.watchdog.Watchdog.start", lambda watchdog: watchdog)  # it would outlive this test
    with pytest.raises(SystemExit) as end:
        run(importlib.import_module(script).main)
    stderr = capfd.readouterr().err
    assert message in stderr
    assert end.value.code == code
    assert stderr.splitlines()[-1] and "Traceback" not in stderr
    assert not (files["folder"] / "it ran").exists()


def test_there_are_at_least_25_and_every_code_of_the_scripts_is_among_them():
    assert len(WRONG) >= 25
    assert {row[2] for row in WRONG} == {2, 3, 4, 7, 74}


def test_a_loss_that_is_not_finite_names_epoch_step_rate_and_files(data, tmp_path):
    flags = "--batch_size 8 --epochs 2 --opt sgd --lr 1e30 --warmup_epochs 0 --aa= --mixup 0 --cutmix 0".split()
    done = run_script("main", *MODEL, *data.train_flags, *flags, "--output_dir", tmp_path)
    assert done.returncode == 5, done.stderr
    assert "in epoch 0, step " in done.stderr and "learning rate 9.82963e+29" in done.stderr and "image " in done.stderr
    assert not list(tmp_path.glob("*.pd")), "poisoned weights were written"


def test_an_error_is_one_message_and_the_exit_code_of_the_process(data):
    done = run_script("eval", *MODEL, *data.val_flags)
    assert done.returncode == 4
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_a_bad_image_in_a_worker_is_named(data, trained, tmp_path):
    bad = tmp_path / "val"
    bad.mkdir()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(bad / "good.png")
    (bad / "bad.png").write_bytes((bad / "good.png").read_bytes()[:60])
    (tmp_path / "val.txt").write_text("val/good.png 0\nval/bad.png 1\n")
    flags = ("--data_path", tmp_path, "--cls_label_path_val", tmp_path / "val.txt", "--num_workers", "2")
    done = run_script("eval", *NET, *flags, "--resume", trained / "checkpoint-best.pd")
    assert done.returncode == 3
    assert f"{bad}/bad.png: damaged" in done.stderr and "val.txt:2" in done.stderr


def test_neither_a_refused_start_nor_an_evaluation_changes_config_yaml(data, trained, tmp_path, capfd, monkeypatch):
    for name in ("checkpoint-latest.pd", "config.yaml", "log.txt"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    before = (tmp_path / "config.yaml").read_text()
    monkeypatch.setattr("engine.watchdog.Watchdog.start", lambda watchdog: watchdog)
    flags = [*MODEL, *data.train_flags, "--batch_size", "8", "--output_dir", str(tmp_path), "--resume", "auto"]
    monkeypatch.setattr(sys, "argv", ["main.py", *flags, "--opt", "sgd"])
    with pytest.raises(SystemExit) as end:
        run(importlib.import_module("main").main)
    assert end.value.code == 4
    monkeypatch.setattr(sys, "argv", ["main.py", *flags, "--opt", "sgd", "--eval"])
    end_well(importlib.import_module("main").main)
    best = json.loads((tmp_path / "log.txt").read_text().splitlines()[-1])["test_acc1"]
    assert f"Accuracy of the network on the 33 test images: {best:.1f}%" in capfd.readouterr().out
    assert (tmp_path / "config.yaml").read_text() == before


def test_where_a_run_began_is_not_read_again_when_it_goes_on(data, trained, tmp_path, capfd, monkeypatch):
    """A pre-trained file may be gone by then, and the average of --resume_ema would take the place of the run's own."""
    (tmp_path / "checkpoint-latest.pd").write_bytes((trained / "checkpoint-latest.pd").read_bytes())
    monkeypatch.setattr("engine.watchdog.Watchdog.start", lambda watchdog: watchdog)
    began = ["--finetune", "gone.pd", "--model_ema", "--resume_ema", "gone.pd", "--epochs", "2", "--opt", "momentum"]
    flags = [*MODEL, *data.train_flags, "--batch_size", "8", "--output_dir", str(tmp_path), "--resume", "auto", *began]
    monkeypatch.setattr(sys, "argv", ["main.py", *flags])
    end_well(importlib.import_module("main").main)
    assert "nothing is left to train" in capfd.readouterr().out
