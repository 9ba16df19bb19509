"""What holds for every program: one table for each principle, program by program, so that none can be forgotten."""

import importlib
import json
import math
import shlex
import subprocess
import sys

import pytest

import factory
from tests.field.conftest import run_program
from tests.source import ROOT, files, text_of

PROGRAMS = ("main", "main --eval", "eval", "predict", "export_model", "infer", "datasets.check", "datasets.pack")

EXPORT = "export_model --resume {best} --output_dir {out} --format paddle"
PACK = "datasets.pack --output_dir {out} --num_workers 1 --data_path"
CHECK = "datasets.check --num_workers 1"
MAIN_EVAL = "main --eval --num_workers 0 --resume {best} --data_path"
EVAL = "eval --num_workers 0 --resume {best} --data_path"
PREDICT, INFER = "predict --resume {best} --infer_imgs", "infer --model_file {exported} --input_file"
INT8 = "export_model --resume {best} --output_dir {out} --format onnx-int8 --calibration_images {m}/pictures/cat.png"

# (command line, exit code, words of the output); or why a principle does not concern the program.
Row = tuple[str, int, str] | str

PRINCIPLES: dict[str, dict[str, Row]] = {
    "hidden files are skipped and counted": {
        "main": ("main {T} --data_path {m}/macos", 0, "1 ._*, 1 Thumbs.db, 1 __MACOSX"),
        "main --eval": (f"{MAIN_EVAL} {{m}}/macos", 0, "1 ._*, 1 Thumbs.db, 1 __MACOSX"),
        "eval": (f"{EVAL} {{m}}/macos", 0, "1 ._*, 1 Thumbs.db, 1 __MACOSX"),
        "predict": (f"{PREDICT} {{m}}/macos", 0, "2 ._*, 2 Thumbs.db, 2 __MACOSX"),
        "export_model": (f"{EXPORT} --check_images {{m}}/macos", 0, "2 ._*, 2 Thumbs.db, 2 __MACOSX"),
        "infer": (f"{INFER} {{m}}/macos", 0, "2 ._*, 2 Thumbs.db, 2 __MACOSX"),
        "datasets.check": (f"{CHECK} {{m}}/macos", 0, "1 ._*, 1 Thumbs.db, 1 __MACOSX"),
        "datasets.pack": (f"{PACK} {{m}}/macos", 0, "1 ._*, 1 Thumbs.db, 1 __MACOSX"),
    },
    "images of types that are not read are counted and named": {
        "main": ("main {T} --data_path {m}/foreign", 0, "3 .heic files are not read: convert them"),
        "main --eval": (f"{MAIN_EVAL} {{m}}/foreign_val", 0, "3 .heic files are not read: convert them"),
        "eval": (f"{EVAL} {{m}}/foreign_val", 0, "3 .heic files are not read: convert them"),
        "predict": (f"{PREDICT} {{m}}/foreign", 0, "3 .heic files are not read: convert them"),
        "export_model": (f"{EXPORT} --check_images {{m}}/foreign", 0, "3 .heic files are not read: convert them"),
        "infer": (f"{INFER} {{m}}/foreign", 0, "3 .heic files are not read: convert them"),
        "datasets.check": (f"{CHECK} {{m}}/foreign", 0, "3 .heic files are not read: convert them"),
        "datasets.pack": (f"{PACK} {{m}}/foreign", 0, "3 .heic files are not read: convert them"),
    },
    "a damaged picture is named": {
        "main": ("main {T} --data_path {m}/bad_val", 3, "dog_0.png: damaged"),
        "main --eval": (f"{MAIN_EVAL} {{m}}/bad_val", 3, "dog_0.png: damaged"),
        "eval": (f"{EVAL} {{m}}/bad_val", 3, "dog_0.png: damaged"),
        "predict": (f"{PREDICT} '{{m}}/bad pictures'", 3, "cut.png: damaged"),
        "export_model": (f"{EXPORT} --check_images '{{m}}/bad pictures/cut.png'", 3, "cut.png: damaged"),
        "infer": (f"{INFER} '{{m}}/bad pictures'", 3, "cut.png: damaged"),
        "datasets.check": (f"{CHECK} {{m}}/bad_val", 3, "dog_0.png"),
        "datasets.pack": (f"{PACK} {{m}}/bad_train --store raw", 3, "dog_0.png: damaged"),
    },
    "a FIFO does not stop a program for ever": {
        "main": ("main {T} {cls3} --cls_label_path_train {m}/fifo_in_list.txt", 3, "fifo_in_list.txt:1"),
        "main --eval": (f"{MAIN_EVAL} {{m}}/cls3 --cls_label_path_val {{m}}/fifo_in_list.txt", 3, "fifo_in_list.txt:1"),
        "eval": (f"{EVAL} {{m}}/cls3 --cls_label_path_val {{m}}/fifo_in_list.txt", 3, "fifo_in_list.txt:1"),
        "predict": (f"{PREDICT} {{m}}/pipe.png", 3, "pipe.png: not a regular file"),
        "export_model": (f"{EXPORT} --check_images {{m}}/pipe.png", 3, "pipe.png: not a regular file"),
        "infer": (f"{INFER} {{m}}/pipe.png", 3, "pipe.png: not a regular file"),
        "datasets.check": (f"{CHECK} {{m}}/cls3 --lists {{m}}/fifo_in_list.txt", 3, "pipe.png"),
        "datasets.pack": (f"{PACK} {{m}}/cls3 --list {{m}}/fifo_in_list.txt", 3, "fifo_in_list.txt:1"),
    },
    "a FIFO or a folder is no file of weights": {
        "main": ("main {T} {cls3} --finetune {run}", 4, "it is a folder"),
        "main --eval": ("main --eval {cls3} --resume {m}/pipe.png", 4, "not a regular file"),
        "eval": ("eval {cls3} --resume {m}/pipe.png", 4, "not a regular file"),
        "predict": ("predict --infer_imgs {m}/pictures --resume {m}/pipe.png", 4, "not a regular file"),
        "export_model": ("export_model --output_dir {out} --resume {m}/pipe.png", 4, "not a regular file"),
        "infer": ("infer --input_file {m}/pictures --model_file {m}/cls3", 4, "no card.yaml"),
        "datasets.check": "reads no weights",
        "datasets.pack": "reads no weights",
    },
    "weights that are not finite are refused by the name of the tensor": {
        "main": ("main {T} {cls3} --finetune {weights}/nan.pd", 4, "_variance holds"),
        "main --eval": ("main --eval {cls3} --num_workers 0 --resume {weights}/nan.pd", 4, "_variance holds"),
        "eval": ("eval {cls3} --num_workers 0 --resume {weights}/nan.pd", 4, "_variance holds"),
        "predict": ("predict --infer_imgs {m}/pictures --resume {weights}/nan.pd", 4, "_variance holds"),
        "export_model": ("export_model --output_dir {out} --resume {weights}/nan.pd", 4, "_variance holds"),
        "infer": "such weights are not exported; tests/deploy holds that nan of a program is an error",
        "datasets.check": "reads no weights",
        "datasets.pack": "reads no weights",
    },
    "classes of data and weights are compared by name": {
        "main": ("main {T} {cls3b} --resume {best} --output_dir {out}", 4, "the classes were cat, dog, fox"),
        "main --eval": (f"{MAIN_EVAL} {{m}}/cls3b", 3, "do not know class bear"),
        "eval": (f"{EVAL} {{m}}/cls3b", 3, "do not know class bear"),
        "predict": "its images have no classes",
        "export_model": (f"{INT8} {{cls3b}}", 3, "do not know class bear"),
        "infer": "its images have no classes",
        "datasets.check": ("datasets.check --num_workers 1 {m}/val_other", 3, "class wolf"),
        "datasets.pack": "one split at a time; the names of the class folders stay with the shards",
    },
    "a label list is compared by name": {
        "main": ("main {T} {cls3} --label_list {m}/labels_other_order.txt", 3, "in another order"),
        "main --eval": (f"{MAIN_EVAL} {{m}}/cls3 --label_list {{m}}/labels_other_order.txt", 3, "in another order"),
        "eval": "has no label list",
        "predict": (f"{PREDICT} {{m}}/pictures --label_list {{m}}/labels_other_order.txt", 3, "in another order"),
        "export_model": (f"{EXPORT} --label_list {{m}}/labels_other_order.txt", 3, "in another order"),
        "infer": (f"{INFER} {{m}}/pictures --label_list {{m}}/labels_other_order.txt", 3, "in another order"),
        "datasets.check": "has no label list",
        "datasets.pack": "has no label list",
    },
    "names of folders that are not UTF-8 end in an answer or an error": {
        "main": ("main {T} --data_path {m}/gbk", 0, "not UTF-8"),
        "main --eval": ("main --eval --num_workers 0 --resume {gbk_run} --data_path {m}/gbk", 0, "not UTF-8"),
        "eval": ("eval --num_workers 0 --resume {gbk_run} --data_path {m}/gbk", 0, "not UTF-8"),
        "predict": ("predict --resume {gbk_run} --infer_imgs {m}/gbk", 0, "cat"),
        "export_model": ("export_model --resume {gbk_run} --output_dir {out}", 3, "not UTF-8"),
        "infer": (f"{INFER} {{m}}/gbk", 0, "cat"),
        "datasets.check": (f"{CHECK} {{m}}/gbk", 0, "not UTF-8"),
        "datasets.pack": (f"{PACK} {{m}}/gbk", 0, "not UTF-8"),
    },
    "~ in a path is the home folder": {
        "main": ("main {T} --data_path=~/cls3", 0, "3 classes"),
        "main --eval": ("main --eval --num_workers 0 --resume {best} --data_path=~/cls3", 0, "on the 6 test images"),
        "eval": ("eval --num_workers 0 --resume {best} --data_path=~/cls3", 0, "on the 6 test images"),
        "predict": ("predict --resume {best} --infer_imgs=~/pictures/cat.png", 0, "cat.png"),
        "export_model": (f"{EXPORT} --check_images=~/pictures/cat.png", 0, "Model is saved"),
        "infer": ("infer --model_file {exported} --input_file=~/pictures/cat.png", 0, "cat.png"),
        "datasets.check": (f"{CHECK} '~/cls3'", 0, "readable"),
        "datasets.pack": ("datasets.pack --output_dir {out} --num_workers 1 --data_path=~/cls3", 0, "12 images"),
    },
}  # fmt: skip

ROWS = [
    pytest.param(*row, id=f"{principle}: {program}")
    for principle, rows in PRINCIPLES.items()
    for program, row in rows.items()
    if not isinstance(row, str)
]


def programs_of_the_project() -> set[str]:
    """Modules that can be started, but for those that others start in environments of their own, and the tests."""
    elsewhere = ("tests/", "alignment/torch_side/", "benchmarks/serving_peer.py")
    paths = [
        path
        for path in files("*.py")
        if '\nif __name__ == "__main__":' in text_of(path) and not path.startswith(elsewhere)
    ]
    return {path.removesuffix(".py").removesuffix("/__main__").replace("/", ".") for path in paths}


def test_no_program_is_forgotten():
    for principle, rows in PRINCIPLES.items():
        assert tuple(rows) == PROGRAMS, principle
        for program, row in rows.items():
            assert isinstance(row, str) or row[0].startswith(program.split()[0]), f"{principle}: {program}"
    of_the_root = {name for name in programs_of_the_project() if "." not in name and name != "alignment"}
    assert of_the_root == {program for program in PROGRAMS if "." not in program and " " not in program}


@pytest.mark.parametrize(("command", "code", "words"), ROWS)
def test_principle(command, code, words, program, places, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", places["m"])
    monkeypatch.setattr("engine.fit.fit", lambda *arguments: None)
    if "{m}/bad_val" in command and command.startswith("main {T}"):
        monkeypatch.undo()  # found by the evaluation after the steps
    name, _, flags = command.format(**places, out=tmp_path).partition(" ")
    end = program(name, flags)
    assert end.code == code, end.text
    assert words in end.text, end.text
    assert "Traceback" not in end.text


@pytest.mark.parametrize("name", sorted(programs_of_the_project()))
def test_help_prints_help(name, capfd):
    """In a process of its own only where the main function takes no arguments."""
    module = {"datasets.check": "datasets.check.__main__", "alignment": "alignment.__main__"}.get(name, name)
    main = getattr(importlib.import_module(module), "main", None)
    if main is None or main.__code__.co_argcount == 0:
        command = [sys.executable, "-m", name, "--help"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
        code, out, err = done.returncode, done.stdout, done.stderr
    else:
        code = run_program(module, ["--help"])
        out, err = capfd.readouterr()
    assert code == 0, err
    assert out.startswith("usage: ") and name.split(".")[-1] in out.splitlines()[0]
    assert "Traceback" not in err


def loss_of(records: list[dict], num_classes: int) -> float:
    """Mean cross-entropy of predictions with all classes, whose true class is the folder of the image."""
    assert all(len(record["class_ids"]) == num_classes for record in records)
    probabilities = [
        record["scores"][record["label_names"].index(record["file_name"].split("/")[-2])] for record in records
    ]
    return -sum(map(math.log, probabilities)) / len(records)


def test_the_checkpoint_alone_gives_the_numbers_of_the_training(program, places, tmp_path, monkeypatch):
    """48 pixels, bilinear, EXIF applied, own classes: `--resume FILE` says it all, in each program."""
    last = json.loads((tmp_path.parent / places["run"] / "log.txt").read_text().splitlines()[-1])
    losses = {}
    evaluate = factory.evaluate_trained

    def record(*arguments, **named):
        scores = evaluate(*arguments, **named)
        losses["evaluation"] = (scores.loss, scores.top1_percent)
        return scores

    monkeypatch.setattr("factory.evaluate_trained", record)
    data = "--num_workers 0 --data_path {m}/turned --resume {best}".format(**places)
    for name, flags in (("eval", data), ("main", f"--eval {data}")):
        assert program(name, flags).code == 0
        assert losses.pop("evaluation") == pytest.approx((last["test_loss"], last["test_acc1"]), rel=1e-6), name
    for other in ("--train_interpolation bicubic", "--exif_orientation ignore", "--input_size 64"):
        end = program("eval", f"{data} {other}")
        assert end.code == 0 and f"{other} replaces" in end.text
        assert losses.pop("evaluation")[0] != pytest.approx(last["test_loss"], rel=1e-5), "the test sees the setting"

    images = shlex.quote(f"{places['m']}/turned/val")
    exported = f"--model_file {places['exported']} --input_file {images}"
    for name, flags in (("predict", f"--resume {places['best']} --infer_imgs {images}"), ("infer", exported)):
        saved = tmp_path / f"{name}.json"
        assert program(name, f"{flags} --save_path {saved}").code == 0
        assert loss_of(json.loads(saved.read_text()), 3) == pytest.approx(last["test_loss"], rel=1e-4), name
