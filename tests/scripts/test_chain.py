"""The chain by its command lines: what train leaves, and that eval, predict and infer agree about it."""

import ast
import csv
import json
import re

import pytest
from PIL import Image

import main
from engine.checkpoint import read_checkpoint
from tests.scripts.conftest import MODEL, run_script

LOG_KEYS = ["train_lr", "train_loss", "test_loss", "test_acc1", "test_acc5", "best_acc1", "epoch", "n_parameters"]
STEP_LINE = re.compile(
    r"\[\d\d:\d\d:\d\d\.\d{6}\] Epoch: \[1\]  \[0/6\]  eta: \d+:\d\d:\d\d  lr: 0\.\d{6}  "
    r"loss: \d\.\d{4} \(\d\.\d{4}\)  time: \d\.\d{4}  data: \d\.\d{4}"
)
EVAL_FLAGS = MODEL[:-2]  # predict and export read no data and have no --num_workers


def test_training_leaves_the_predecessors_files_and_lines(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"checkpoint-latest.pd", "checkpoint-best.pd", "checkpoint-1.pd", "log.txt", "config.yaml"} <= names
    records = [json.loads(line) for line in (trained / "log.txt").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [0, 1]
    assert [list(record) for record in records] == [LOG_KEYS, LOG_KEYS]
    stdout = (trained / "stdout.txt").read_text()
    assert STEP_LINE.search(stdout), stdout
    order = [
        "job dir: ", "model='mobilenet_v3_small_x0_35'",
        "the warm-up of the learning rate takes 5 of 2 epochs, more than a third, and its peak is never reached",
        "the whole run has 12 steps", "actual lr: 5.00e-02", "accumulate grad iterations: 1",
        "effective batch size: 8", "Number of training examples = 48", "Number of training training per epoch = 6",
        "number of params: ", "Start training for 2 epochs", "Averaged stats: lr: ", "* Acc@1 ",
        "Accuracy of the network on the 33 test images: ", "Max accuracy: ", "Training time ",
    ]  # fmt: skip
    places = [stdout.index(text) for text in order]
    assert places == sorted(places)


def test_an_evaluation_leaves_the_folder_of_a_run_alone(data, trained, capfd, monkeypatch):
    """Its config.yaml goes on training, and a file that is being written is another process's."""
    monkeypatch.setattr("engine.watchdog.Watchdog.start", lambda watchdog: watchdog)
    monkeypatch.setattr("engine.preemption.Preemption.install", lambda preemption: preemption)
    (trained / "checkpoint-latest.pd.tmp").touch()
    before = {path.name: path.stat().st_mtime_ns for path in trained.iterdir()}
    main.main([*MODEL, *data.train_flags, "--batch_size=8", "--eval", "--resume=auto", f"--output_dir={trained}"])
    assert {path.name: path.stat().st_mtime_ns for path in trained.iterdir()} == before
    (trained / "checkpoint-latest.pd.tmp").unlink()
    assert "Accuracy of the network on the 33 test images" in capfd.readouterr().out


def test_a_checkpoint_holds_what_the_chain_needs(trained):
    checkpoint = read_checkpoint(trained / "checkpoint-latest.pd")
    assert {name.split("/")[0] for name in checkpoint.tensors} == {"model", "optimizer"}
    assert checkpoint.meta["epoch"] == 1
    assert checkpoint.meta["info"]["args"]["lr"] == 0.05
    assert checkpoint.meta["info"]["class_names"] == ["red", "green", "blue", "bright red, crimson"]


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    done = run_script("export_model", *EVAL_FLAGS, "--resume", trained / "checkpoint-best.pd", f"--output={folder}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"Model is saved in {folder}."
    return folder


@pytest.mark.parametrize("program", ["model.json", "model.pdmodel"])
def test_eval_predict_and_infer_agree(program, data, trained, exported, tmp_path):
    best = trained / "checkpoint-best.pd"
    done = run_script("eval", *MODEL, *data.val_flags, "--resume", best, "--batch_size", "8")
    assert done.returncode == 0, done.stderr
    top1 = float(re.search(r"\* Acc@1 (\S+) Acc@5", done.stdout)[1])
    assert "Accuracy of the network on the 33 test images" in done.stdout

    images = data.root / "val"
    save = ("--batch_size", "5", "--save_path")
    predicted = run_script("predict", *EVAL_FLAGS, "--resume", best, "--infer_imgs", images, *save, tmp_path / "p.json")
    inferred = run_script(
        "infer", "--model_file", exported / program, "--params_file", exported / "model.pdiparams", "--input_file",
        images, *save, tmp_path / "i.json",
    )  # fmt: skip
    assert (predicted.returncode, inferred.returncode) == (0, 0), predicted.stderr + inferred.stderr
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("p.json", "i.json"))
    assert [record["file_name"] for record in first] == [record["file_name"] for record in second]
    for one, other in zip(first, second, strict=True):
        assert one["class_ids"][0] == other["class_ids"][0]
        by_class = dict(zip(other["class_ids"], other["scores"], strict=True))
        assert by_class == pytest.approx(dict(zip(one["class_ids"], one["scores"], strict=True)), abs=1e-5)
    lines = data.val_list.read_text().splitlines()
    names = {str(data.root / line.rsplit(" ", 1)[0]): int(line.split()[-1]) for line in lines}
    right = sum(record["class_ids"][0] == names[record["file_name"]] for record in first)
    assert top1 == pytest.approx(100 * right / 33, abs=1e-3)


def test_predict_prints_the_predecessors_list(data, trained):
    picture = sorted((data.root / "val" / "3").iterdir())[0]
    done = run_script("predict", *EVAL_FLAGS, "--resume", trained / "checkpoint-best.pd", "--infer_imgs", picture)
    [record] = ast.literal_eval(done.stdout.strip())
    assert list(record) == ["class_ids", "scores", "file_name", "label_names"]
    assert record["file_name"] == str(picture)
    assert sum(record["scores"]) == pytest.approx(1)
    assert sorted(record["label_names"]) == ["blue", "bright red, crimson", "green", "red"]


def test_predict_goes_on_after_a_bad_image(data, trained, tmp_path):
    (tmp_path / "a.png").write_bytes(b"not an image")
    Image.new("RGB", (50, 40), "red").save(tmp_path / "b.png")
    table = tmp_path / "out" / "p.csv"
    flags = ("--resume", trained / "checkpoint-best.pd", "--infer_imgs", tmp_path, "--save_path", table, "--use_amp")
    done = run_script("predict", *EVAL_FLAGS, *flags)
    assert done.returncode == 3
    assert "mixed precision is ignored" in done.stderr
    assert "a.png: not an image of JPEG" in done.stderr and "1 of 2 images could not be read" in done.stderr
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["file_name"].endswith("b.png") for row in rows] == [False, True]
    assert rows[0]["error"].startswith("not an image of JPEG") and rows[0]["class_id"] == rows[0]["class_id_4"] == ""
    assert sum(float(rows[1][f"score{n}"]) for n in ("", "_2", "_3", "_4")) > 0.99


def test_finetune_exchanges_the_head_and_keeps_the_rest(data, trained, tmp_path):
    flags = "--batch_size 8 --epochs 1 --lr 0 --min_lr 0 --warmup_epochs 0 --opt sgd --aa= --mixup 0 --cutmix 0"
    best = trained / "checkpoint-best.pd"
    more_classes = [*MODEL, *data.train_flags[:-2], *flags.split(), "--nb_classes", "7", "--finetune", best]
    done = run_script("main", *more_classes, "--output_dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"Load pre-trained checkpoint from: {best}" in done.stdout
    assert "Removing key classifier.3.weight from pretained checkpoint" in done.stdout
    before, after = (
        read_checkpoint(best).section("model"),
        read_checkpoint(tmp_path / "checkpoint-0.pd").section("model"),
    )
    assert after["classifier.3.weight"].shape[1] == 7
    assert (before["features.0.0.weight"] == after["features.0.0.weight"]).all()


def test_cutmix_alone_makes_soft_labels(data, tmp_path):
    flags = "--batch_size 8 --epochs 1 --mixup 0 --cutmix 1 --mixup_mode elem --log_every 1".split()
    done = run_script("main", *MODEL, *data.train_flags, *flags)
    assert done.returncode == 0, done.stderr
    assert "Mixup is activated!" in done.stdout
