"""infer.py with the flags of its output: what stands on stdout and stderr, and which files are written."""

import ast
import csv
import json
import sys

import pytest
from PIL import Image

import infer
from common.errors import DataError, UsageError


@pytest.fixture
def photos(image_folder, tmp_path):
    """Two sound pictures and a damaged one."""
    folder = tmp_path / "photos"
    (folder / "in").mkdir(parents=True)
    for name, source in (("a.jpg", "b.jpg"), ("in/b.png", "inner folder/c.png")):
        (folder / name).write_bytes((image_folder / source).read_bytes())
    (folder / "c.jpg").write_bytes(b"damaged")
    return folder


@pytest.fixture
def run(exported, photos, capfd):
    """Run infer.py on the pictures; return stdout and stderr."""

    def run(*flags):
        with pytest.raises(DataError, match="1 of 3 images could not be read; the others have predictions"):
            infer.main([f"--model_file={exported}", f"--input_file={photos}", "--cpu_threads=1", *map(str, flags)])
        return capfd.readouterr()

    return run


@pytest.mark.parametrize("saved", [False, True])
def test_a_pipe_gets_what_the_predecessor_prints(run, photos, tmp_path, saved):
    out, err = run(*([f"--save_path={tmp_path}/a.csv"] * saved), f"--sort_into={tmp_path}/sorted")
    opening, *records = out.splitlines()
    assert opening == "Inference model(PeleeNet)..."
    names = [record["file_name"] for line in records for record in ast.literal_eval(line)]
    assert names == [f"{photos}/a.jpg", f"{photos}/in/b.png"]
    assert "predicted" not in err


def test_a_terminal_gets_a_table_and_a_summary(run, photos, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    out, err = run()
    assert out.splitlines()[1] == f"images in {photos}:" and "a.jpg " in out and "file_name" not in out
    assert "3 images predicted, of which 1 could not be read:" in err and f"error: {photos}/c.jpg" in err


def test_a_terminal_gets_only_a_summary_of_saved_predictions(run, monkeypatch, tmp_path):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    out, err = run(f"--save_path={tmp_path}/a.csv")
    assert out == "Inference model(PeleeNet)...\n"
    assert "3 images predicted" in err and f"the predictions are in {tmp_path}/a.csv" in err
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 3 and [bool(row["error"]) for row in rows] == [False, True, False] and "class_id_4" in rows[0]


def test_json_lines_are_alone_on_stdout(run, photos):
    out, err = run("--print=jsonl")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["file_name"] for record in records] == [
        f"{photos}/{name}" for name in ("a.jpg", "c.jpg", "in/b.png")
    ]
    assert "Inference model(PeleeNet)..." in err
    with pytest.raises(UsageError, match="--enable_benchmark prints a report"):
        infer.main(["--model_file=x", f"--input_file={photos}", "--print=jsonl", "--enable_benchmark=True"])


def test_pictures_are_annotated_and_sorted(run, tmp_path):
    _, err = run("--print=none", f"--save_images={tmp_path}/drawn", f"--sort_into={tmp_path}/sorted", "--threshold=0")
    drawn = sorted(path.relative_to(tmp_path / "drawn").as_posix() for path in (tmp_path / "drawn").rglob("*.*"))
    assert drawn == ["a.jpg", "in/b.png.jpg"]
    with Image.open(tmp_path / "drawn" / "a.jpg") as picture:
        assert picture.width >= 360
    copied = sorted(path.name for path in (tmp_path / "sorted").rglob("*.*") if path.is_file())
    assert copied == ["a.jpg", "b.png"]
    assert f"annotated pictures in {tmp_path}/drawn: 2" in err and "one folder per class: 2" in err


@pytest.mark.parametrize("flag", ["save_images", "sort_into"])
def test_a_folder_among_the_inputs_is_refused_before_a_model_is_loaded(photos, flag):
    with pytest.raises(UsageError, match=rf"--{flag} .*/in is inside the input folder"):
        infer.main(["--model_file=nothing", f"--input_file={photos}", f"--{flag}={photos}/in"])
