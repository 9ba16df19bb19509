"""The five commands of the README on a folder as people have it, from a check to predictions: slow, `make test-all`."""

import json
import subprocess
import sys
from pathlib import Path

import paddle
import pytest

from models import create_model
from models.weights_cache import MIRROR
from tests.engine.torch_writer import zip_form
from tests.loopback import loopback_server
from tests.messy_folder import CLASSES, write_messy_folder
from tests.scripts.conftest import ENVIRONMENT, ROOT
from tests.scripts.test_pretrained import PROGRAM, torch_names

RECIPE = "configs/recipes/finetune_own_pictures.yaml"
ROW = "peleenet.official"


def run(*words: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, words)]
    env = {**ENVIRONMENT, "no_proxy": "*", **environment}
    env.pop("OMP_NUM_THREADS", None)
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1200)


@pytest.mark.slow
@pytest.mark.parametrize("is_pretrained", [False, True])
def test_the_five_commands_on_a_messy_folder(tmp_path: Path, is_pretrained: bool):
    pictures = write_messy_folder(tmp_path / "My Pictures")
    check = run("-m", "datasets.check", pictures)
    assert check.returncode == 3  # a cut JPEG, an empty file, a picture in two classes
    for told in (
        "cut.jpg: damaged",
        "empty.png",
        "DSC_0001.jpg: as трава/grass 000.jpg",
        "brick 006 small.jpg",
        "heic",
    ):
        assert told in check.stdout

    own = tmp_path / "own"
    flags = ["--config", RECIPE, "--data_path", pictures, "--output_dir", own, "--input_size", 96]
    if is_pretrained:
        paddle.seed(3)
        with loopback_server() as server:
            server.files["/peleenet_acc7208.pth.tar"] = zip_form(torch_names(create_model("peleenet")))
            flags += ["--pretrained", "--weights_dir", tmp_path / "weights"]
            train = run("-c", PROGRAM, "main.py", ROW, *flags, **{MIRROR: server.url})
        assert "Load pre-trained checkpoint" in train.stdout, train.stderr
    else:
        train = run("main.py", *flags)
    assert train.returncode == 0, train.stdout[-2000:] + train.stderr
    train_list, val_list = ((own / "split" / f"{name}_list.txt").read_text() for name in ("train", "val"))
    assert "cut.jpg" not in train_list + val_list and ".HEIC" not in train_list + val_list
    one_side = [f"brick 00{i}{copy}.jpg" for i in (0, 2, 4) for copy in ("", " (copy)")]
    assert all(sum(f"/{name} " in text for name in one_side[i : i + 2]) in (0, 2)
               for text in (train_list, val_list) for i in (0, 2, 4))  # fmt: skip

    best = own / "checkpoint-best.pd"
    report = run("eval.py", "--resume", best, "--output_dir", own / "report")
    assert report.returncode == 0, report.stderr
    assert "Worst class: " in report.stdout or "Every picture" in report.stdout
    metrics = json.loads((own / "report" / "metrics.json").read_text())
    page = (own / "report" / "report.html").read_text(encoding="utf-8")
    assert all(name.replace("&", "&amp;") in page for name in CLASSES)
    assert "<script src" not in page and "http://" not in page.replace("http://www.w3.org", "")

    export = run("export_model.py", "--resume", best, "--output_dir", own / "exported")
    assert export.returncode == 0, export.stderr
    flags = ["--input_file", pictures, "--save_images", tmp_path / "annotated", "--save_path", tmp_path / "all.csv"]
    infer = run("infer.py", "--model_file", own / "exported", *flags)
    assert infer.returncode == 3 and "could not be read" in infer.stderr  # the rest has predictions
    assert len(list((tmp_path / "annotated").rglob("*.*"))) >= 320
    print(json.dumps(metrics)[:600])
