"""infer.py by its command line: flags and output of PeleeNet-paddle, folders, bad images, files of predictions."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import infer
from common.errors import DataError, ExportedModelError, PredictionsFileError, UsageError
from deploy.predictions import read_predictions

ROOT = Path(__file__).parents[2]
KEYS = ["class_ids", "scores", "file_name", "label_names"]
NAMES = ["a.JPEG", "b.jpg", "e.webp", "f.tiff", "g.Jpg", "inner folder/c.png", "inner folder/d.BMP"]


def run(capfd, *flags):
    """Run infer.py; return the lists of predictions that it prints, and all its lines."""
    infer.main([*flags, "--cpu_threads=1"])
    lines = capfd.readouterr().out.splitlines()
    return [ast.literal_eval(line) for line in lines if line.startswith("[{")], lines


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)


def flat(batches):
    return [prediction for batch in batches for prediction in batch]


def test_the_command_line_and_the_output_of_peleenet_paddle(capfd, exported, image_folder):
    flags = [f"--model_file={exported}/model.pdmodel", f"--params_file={exported}/model.pdiparams", "--use_gpu=True"]
    batches, lines = run(capfd, *flags, f"--input_file={image_folder}/b.jpg", "-b", "1", "--enable_mkldnn=True")
    assert lines[0] == "Inference model(PeleeNet)..."
    [[prediction]] = batches
    assert list(prediction) == KEYS
    assert prediction["file_name"] == f"{image_folder}/b.jpg"
    assert sum(prediction["scores"]) == pytest.approx(1), "--topk is 5, but there are 4 classes"
    assert set(prediction["label_names"]) == {"zero", "one, uno", "two: zwei", "三"}


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_all_images_of_a_folder_are_predicted_in_sorted_batches(capfd, exported, image_folder, batch_size):
    batches, _ = run(capfd, f"--model_file={exported}", f"--input_file={image_folder}", f"--batch_size={batch_size}")
    assert [len(batch) for batch in batches] == {1: [1] * 7, 3: [3, 3, 1], 100: [7]}[batch_size]
    assert [prediction["file_name"] for prediction in flat(batches)] == [f"{image_folder}/{name}" for name in NAMES]


def test_both_programs_and_any_batch_give_the_same_scores(capfd, exported, image_folder):
    def scores(program, batch_size):
        flags = (f"--model_file={exported}/{program}", f"--input_file={image_folder}", f"-b={batch_size}")
        batches, _ = run(capfd, *flags)
        return [prediction["scores"] for prediction in flat(batches)]

    expected = scores("model.json", 1)
    for one, other in zip(expected, scores("model.json", 4), strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    for one, other in zip(expected, scores("model.pdmodel", 7), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_a_damaged_image_is_reported_and_the_others_are_predicted(capfd, exported, image_folder, tmp_path):
    folder = shutil.copytree(image_folder, tmp_path / "some broken")
    (folder / "e.webp").write_bytes((image_folder / "e.webp").read_bytes()[:100])
    (folder / "a.JPEG").write_bytes(b"")
    flags = [f"--model_file={exported}", f"--input_file={folder}", f"--save_path={tmp_path}/out.jsonl", "-b=2"]
    with pytest.raises(DataError, match="2 of 7 images could not be read") as error:
        infer.main(flags)
    assert error.value.exit_code == 3
    out, err = capfd.readouterr()
    assert out.count("'file_name'") == 5
    assert f"error: {folder}/e.webp: " in err and f"error: {folder}/a.JPEG: " in err
    written = list(read_predictions(tmp_path / "out.jsonl"))
    assert [Path(prediction["file_name"]).name for prediction in written] == [Path(name).name for name in NAMES]
    assert [bool(prediction.get("error")) for prediction in written] == [True, False, True, *[False] * 4]

    shutil.copy(image_folder / "e.webp", folder)
    with pytest.raises(DataError, match="1 of 2 images could not be read"):
        infer.main([*flags, f"--resume_from={tmp_path}/out.jsonl"])
    assert capfd.readouterr().out.count("'file_name'") == 1, "only the repaired image was predicted"
    assert sorted("error" in prediction for prediction in read_predictions(tmp_path / "out.jsonl")) == [
        *[False] * 6,
        True,
    ]


def test_predictions_of_another_model_are_not_continued(exported, image_folder, tmp_path):
    path = tmp_path / "out.jsonl"
    infer.main([f"--model_file={exported}", f"--input_file={image_folder}", f"--save_path={path}"])
    first, *others = path.read_text(encoding="utf-8").splitlines()
    prediction = json.loads(first)
    prediction["label_names"][0] = "unicorn"
    path.write_text("\n".join([json.dumps(prediction), *others]) + "\n", encoding="utf-8")
    with pytest.raises(PredictionsFileError, match=r"is called .unicorn. there .* of another model"):
        infer.main([f"--model_file={exported}", f"--input_file={image_folder}", f"--resume_from={path}"])


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv"])
def test_saved_and_printed_predictions_are_equal(capfd, exported, image_folder, tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    batches, _ = run(
        capfd, f"--model_file={exported}", f"--input_file={image_folder}", f"--save_path={path}", "--topk=2"
    )
    assert list(read_predictions(path)) == flat(batches)
    assert {len(prediction["class_ids"]) for prediction in flat(batches)} == {2}
    if suffix == ".json":
        assert json.loads(path.read_text(encoding="utf-8")) == flat(batches)


def test_the_benchmark_prints_a_report_after_the_predictions(capfd, exported, image_folder):
    batches, lines = run(
        capfd, f"--model_file={exported}", f"--input_file={image_folder}", "-b=2", "--enable_benchmark=True"
    )
    assert len(flat(batches)) == 7
    text = "\n".join(lines)
    assert "Perf info" in text and " data_num: 4\n" in text and " batch_size: 2\n" in text
    assert float(lines[-1].partition("throughput(images/s): ")[2]) > 0


def test_a_program_without_a_card_is_fed_as_in_peleenet_paddle(capfd, exported, image_folder, tmp_path):
    for name in ("model.json", "model.pdiparams"):
        shutil.copy(exported / name, tmp_path)
    flags = [f"--model_file={tmp_path}/model.json", f"--params_file={tmp_path}/model.pdiparams"]
    infer.main([*flags, f"--input_file={image_folder}/b.jpg", "--train_interpolation=bilinear"])
    out, err = capfd.readouterr()
    assert "has no card.yaml: images are fed as Preprocess(input_size=224, resize_size=256" in err
    assert "interpolation='bilinear'" in err
    assert "'class 0'" in out, "four classes are not those of ImageNet"


def test_a_pdmodel_without_a_card_runs_only_if_trusted(capfd, exported, image_folder, tmp_path):
    for name in ("model.pdmodel", "model.pdiparams"):
        shutil.copy(exported / name, tmp_path)
    flags = [f"--model_file={tmp_path}/model.pdmodel", f"--params_file={tmp_path}/model.pdiparams"]
    flags.append(f"--input_file={image_folder}/b.jpg")
    with pytest.raises(ExportedModelError, match=r"model.pdmodel: no card.yaml beside it.* --trust_program True; or"):
        infer.main(flags)
    [[[prediction]], _] = run(capfd, *flags, "--trust_program=True")
    assert len(prediction["class_ids"]) == 4


def test_foreign_operators_run_only_if_trusted(capfd, exported, image_folder, tmp_path):
    shutil.copy(exported / "model.pdiparams", tmp_path)
    program = (exported / "model.json").read_text(encoding="utf-8")
    (tmp_path / "model.json").write_text(program.replace("1.relu", "1.sigmoid"), encoding="utf-8")
    flags = [f"--model_file={tmp_path}/model.json", f"--params_file={tmp_path}/model.pdiparams"]
    flags.append(f"--input_file={image_folder}/b.jpg")
    with pytest.raises(ExportedModelError, match=r"holds '1.sigmoid', which our exporter never writes") as error:
        infer.main(flags)
    assert error.value.exit_code == 4
    assert len(run(capfd, *flags, "--trust_program=True")[0]) == 1


def test_a_label_list_replaces_the_class_names_of_the_card(capfd, exported, image_folder, tmp_path):
    labels = tmp_path / "names.txt"
    labels.write_text("0 un\n1 deux\n2 trois\n3 quatre\n")
    flags = [f"--model_file={exported}", f"--input_file={image_folder}/b.jpg", f"--label_list={labels}"]
    [[[prediction]], _] = run(capfd, *flags)
    assert set(prediction["label_names"]) == {"un", "deux", "trois", "quatre"}
    labels.write_text("0 un\n1 deux\n")
    with pytest.raises(DataError, match=r"names.txt: expected the names of 4 classes, got 2"):
        infer.main(flags)


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        ([], UsageError, "--model_file is missing"),
        (["--model_file={model}"], UsageError, "--input_file is missing"),
        (["--model_file={model}", "--input_file={empty}"], DataError, "no image in this folder"),
        (["--model_file={model}", "--input_file={empty}/a.jpg"], DataError, "no such file or folder"),
        (["--model_file={empty}/model.json", "--input_file={images}"], ExportedModelError, "no such file"),
        (["--model_file={empty}", "--input_file={images}"], ExportedModelError, "no card.yaml in it"),
        (["--model_file={model}/other.json", "--input_file={images}"], ExportedModelError, "does not list it"),
        (
            ["--model_file={model}/model.json", "--params_file=x.pdiparams", "--input_file={images}"],
            ExportedModelError,
            "the weights of model.json are in model.pdiparams; leave",
        ),
        (["--model_file={model}", "--input_file={images}", "--precision=fp8"], UsageError, "unknown value 'fp8'"),
    ],
)
def test_wrong_inputs(exported, image_folder, tmp_path, flags, error, message):
    places = {"model": exported, "images": image_folder, "empty": tmp_path}
    with pytest.raises(error, match=message):
        infer.main([flag.format(**places) for flag in flags])


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("main", "--epochs"),
        ("eval", "--on_bad_image"),
        ("predict", "--infer_imgs"),
        ("export_model", "--format"),
        ("infer", "--sort_into"),
    ],
)
def test_help_does_not_import_paddle(name, flag):
    """A flag in the output proves that the help was printed."""
    script = (
        "import importlib, sys\n"
        "try: importlib.import_module(sys.argv[1]).main(['--help'])\n"
        "finally: print('imported:', *sorted({'paddle', 'torch', 'onnxruntime', 'openvino'} & set(sys.modules)))"
    )
    result = python("-c", script, name)
    assert flag in result.stdout
    assert result.stdout.splitlines()[-1] == "imported:"


@pytest.mark.deploy
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_without_paddle(exported_onnx, image_folder, engine):
    """`import paddle` raises ImportError in the process of infer.py."""
    script = "import sys; sys.modules['paddle'] = None; import infer; infer.main(sys.argv[1:])"
    flags = [f"--engine={engine}", f"--model_file={exported_onnx}", f"--input_file={image_folder}", "-b=3"]
    result = subprocess.run(
        [sys.executable, "-c", script, *flags], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.count("'file_name'") == 7
    assert "engine: O" in result.stderr


@pytest.mark.deploy
def test_all_engines_print_the_same_predictions(capfd, exported_onnx, image_folder):
    def predictions(engine):
        batches, _ = run(capfd, f"--engine={engine}", f"--model_file={exported_onnx}", f"--input_file={image_folder}")
        return flat(batches)

    expected = predictions("paddle")
    for engine in ("auto", "onnxruntime", "openvino"):
        for one, other in zip(expected, predictions(engine), strict=True):
            assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)
            assert {**one, "scores": None} == {**other, "scores": None}
