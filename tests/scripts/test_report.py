"""eval.py --output_dir: the files of a report, for lists and folders, with images that cannot be read."""

import csv
import json
import logging
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import eval as eval_script
from common.errors import DataError, DiskError, MissingDependencyError, UsageError
from configs.loader import parse
from configs.schema import EvalConfig
from datasets.reading.dataset import open_dataset
from engine.report import figures, intervals
from engine.report.write import FILES
from factory import read_trained, report
from tests.scripts.conftest import MODEL, run_ranks


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(intervals, "NUM_RESAMPLES", 5)
    monkeypatch.setattr(figures, "DPI", 40)


@pytest.fixture
def evaluate(data, trained, caplog):
    """Run eval.py in this process; returns the messages that it logged."""

    def run(*flags, root=None, lists=None) -> list[str]:
        caplog.clear()
        lists = data.val_flags if lists is None else ["--data_path", str(root), *lists]
        with caplog.at_level(logging.INFO):
            eval_script.main([*MODEL, *lists, "--resume", str(trained / "checkpoint-best.pd"), *map(str, flags)])
        return [record.getMessage() for record in caplog.records]

    return run


def rows(path: Path) -> list[dict]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_report_of_a_list(evaluate, data, tmp_path):
    lines = evaluate(
        "--output_dir", tmp_path / "report", "--cls_label_path_train", data.train_list, "--temperature", "fit"
    )
    folder = tmp_path / "report"
    assert {path.name for path in folder.iterdir()} == FILES.keys()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert any(f"* Acc@1 {100 * metrics['top1']['value']:.3f}" in line for line in lines)
    assert any(f"loss {metrics['log_loss']['value']:.3f}" in line for line in lines)
    assert metrics["num_images"] == 33 and metrics["num_classes"] == 4 and metrics["topk"]["k"] == 3
    assert metrics["temperature"] > 0
    assert lines[-1].startswith("Worst class: ") and lines[-2] == f"Report: {folder / 'report.html'}"
    assert any(line.startswith("Comparing 48 training images with their labels: about ") for line in lines)
    pictures = rows(folder / "predictions.csv")
    assert [row["picture"] for row in pictures[:2]] == [str(data.root / f"val/{i}/image {i}.png") for i in range(2)]
    assert sum(int(row["is_correct"]) for row in pictures) == metrics["num_correct"]
    assert {row["class"] for row in rows(folder / "per_class.csv")} == {"red", "green", "blue", "bright red, crimson"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") > 20 and "bright red, crimson" in page and "cls_label_path_val" in page


def test_without_an_output_dir_nothing_is_written_and_the_last_line_is_the_predecessors(
    evaluate, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    lines = evaluate()
    assert lines[-1].startswith("Accuracy of the network on the 33 test images: ")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def folders(data, tmp_path) -> Path:
    """Class folders whose names are of several scripts; one validation and one training image cannot be read."""
    root = tmp_path / "own"
    for split in ("train", "val"):
        for label, name in enumerate(("0 <b>", "1 кошка", "2 猫", "3 قطة")):
            shutil.copytree(data.root / split / str(label), root / split / name)
        next((root / split / "2 猫").iterdir()).write_bytes(b"no image")
    return root


def test_the_report_of_folders_with_images_that_cannot_be_read(evaluate, folders, tmp_path, trained):
    from factory import trained as factory_trained

    known = factory_trained.classes_of_weights

    def with_folders(info, number, label_list=""):
        names = ("0 <b>", "1 кошка", "2 猫", "3 قطة")
        return known({**info, "class_names": names, "class_folders": names}, number, label_list)

    patch = pytest.MonkeyPatch()
    patch.setattr(factory_trained, "classes_of_weights", with_folders)
    try:
        lines = evaluate("--output_dir", tmp_path / "r", "--on_bad_image", "skip", root=folders, lists=[])
    finally:
        patch.undo()
    metrics = json.loads((tmp_path / "r" / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["num_images"], metrics["num_unreadable"]) == (33, 1)
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "1 of 33 images could not be read" in page and "Training pictures that could not be read: 1." in page
    assert "0 &lt;b&gt;" in page and "0 <b>" not in page and "قطة" in page
    assert any("Comparing 48 training images" in line for line in lines)
    assert rows(tmp_path / "r" / "confusion_matrix.csv")[2]["(unreadable)"] == "1"


@pytest.fixture
def choose(data, trained):
    """Which training images eval.py compares with their labels: `_images_for_suspects` for flags."""

    def run(*flags, root=data.root):
        argv = [*MODEL, "--data_path", root, "--resume", trained / "checkpoint-best.pd", "--output_dir", "r", *flags]
        config = parse(EvalConfig, [*map(str, argv)], prog="eval.py")
        return report._images_for_suspects(config, read_trained(config.model, config.weights, config.preprocess))

    return run


def test_the_training_images_that_are_compared_with_their_labels(choose, data, monkeypatch):
    train_list = ("--cls_label_path_train", data.train_list)
    assert len(choose(*train_list)[0]) == 48
    images, reason = choose(*train_list, "--suspects", "never")
    assert images is None and "--suspects is never" in reason
    monkeypatch.setattr(report, "MAX_AUTO_SUSPECTS", 47)
    images, reason = choose(*train_list)
    assert images is None and "48 training pictures are many" in reason
    assert len(choose(*train_list, "--suspects", "always")[0]) == 48


def test_training_images_that_are_missing_or_of_other_classes(choose, data, tmp_path):
    """An error where a flag asks for them, else a sentence of the report."""
    images, reason = choose(root=tmp_path)
    assert images is None and "because they were not found" in reason
    with pytest.raises(DataError, match="name the training images by --cls_label_path_train"):
        choose("--suspects", "always", root=tmp_path)
    for name in ("a", "b"):
        shutil.copytree(data.root / "train" / "0", tmp_path / "train" / name)
    images, reason = choose(root=tmp_path)
    assert images is None and "2 class folders (a, b)" in reason
    with pytest.raises(DataError, match="2 class folders"):
        choose("--suspects", "always", root=tmp_path)


def test_wrong_flags_and_missing_packages_are_noticed_before_the_evaluation(evaluate, tmp_path, monkeypatch):
    monkeypatch.setattr("factory.read_trained", lambda *_: pytest.fail("too late"))
    with pytest.raises(UsageError, match="give the folder by --output_dir"):
        evaluate("--temperature", "fit")
    with pytest.raises(UsageError, match="averages no mirror images; leave out --tta"):
        evaluate("--temperature", "fit", "--output_dir", tmp_path, "--tta", "flip")
    with pytest.raises(UsageError, match=r"suspects\.csv; give its folder by --output_dir"):
        evaluate("--suspects", "always")
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="cannot write into --output_dir"):
        evaluate("--output_dir", tmp_path / "file")
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "jinja2" else find(name))
    with pytest.raises(MissingDependencyError, match=r"needs Jinja2: .* -r requirements-report\.txt"):
        evaluate("--output_dir", tmp_path)


def test_tta_averages_the_probabilities_of_both_images():
    import paddle
    from paddle import nn

    from engine.evaluate import FlipAveraged

    paddle.seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    images = np.random.default_rng(0).standard_normal((3, 3, 4, 4), np.float32)

    def probabilities(images):
        return nn.functional.softmax(model(paddle.to_tensor(images)), axis=1).numpy()

    averaged = FlipAveraged(model)(paddle.to_tensor(images)).exp().numpy()
    assert averaged == pytest.approx((probabilities(images) + probabilities(images[..., ::-1].copy())) / 2, rel=1e-5)


def test_tta_is_used_where_it_is_asked_for(evaluate, monkeypatch):
    made = []
    monkeypatch.setattr("engine.evaluate.FlipAveraged", lambda model: made.append(model) or model)
    evaluate()
    assert not made
    evaluate("--tta", "flip")
    assert len(made) == 1


@pytest.mark.slow
def test_under_the_launcher_rank_0_writes_the_same_report(evaluate, data, trained, tmp_path):
    evaluate("--output_dir", tmp_path / "one", "--batch_size", "8", "--cls_label_path_train", data.train_list)
    flags = [*MODEL, *data.val_flags, "--resume", trained / "checkpoint-best.pd", "--batch_size", "8"]
    flags += ["--cls_label_path_train", data.train_list, "--output_dir", tmp_path / "two"]
    done = run_ranks("eval", *flags)
    assert done.returncode == 0, done.stderr
    for name in ("predictions.csv", "per_class.csv", "confusion_matrix.csv", "suspects.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_thumbnail_is_small_and_rotated_as_the_model_sees_it(tmp_path):
    from datasets.reading.decode import read_thumbnail

    image = Image.new("RGB", (1600, 800), (250, 0, 0))
    image.save(tmp_path / "a.jpg", exif=(exif := Image.Exif()) or exif)
    exif[0x0112] = 6
    image.save(tmp_path / "b.jpg", exif=exif)
    assert read_thumbnail(tmp_path / "a.jpg", 100).size == (100, 50)
    assert read_thumbnail(tmp_path / "b.jpg", 100, "apply").size == (50, 100)
    assert read_thumbnail(tmp_path / "b.jpg", 100).size == (100, 50)


@pytest.mark.parametrize("store", ["as_is", "raw"])
def test_the_pictures_of_shards_are_shown_and_called_as_the_packed_files(data, tmp_path, store):
    from datasets.pack import main as pack

    pack([f"--data_path={data.root}", f"--output_dir={tmp_path}", "--split=val", "--num_workers=0", f"--store={store}"]
         + ["--short_side=40"] * (store == "raw"))  # fmt: skip
    images = open_dataset(tmp_path, "val", None)
    pictures = report.ReportPictures(images, "ignore")
    names = sorted(path.relative_to(data.root / "val").as_posix() for path in (data.root / "val").rglob("*.png"))
    assert sorted(pictures.path(index) for index in range(33)) == names
    assert {max(pictures.thumbnail(index, 16).size) for index in range(33)} == {16}
    (tmp_path / "val" / "list.txt").unlink()
    assert "@" in report.ReportPictures(open_dataset(tmp_path, "val", None, check_files=False), "ignore").path(0)


def test_the_next_command_of_a_training_is_this_evaluation(trained):
    line = next(line for line in (trained / "stdout.txt").read_text().splitlines() if "next: python eval.py" in line)
    argv = shlex.split(line.split("python eval.py ")[1])
    config = parse(EvalConfig, argv, prog="eval.py")
    assert config.report.output_dir == str(trained / "report")
    assert config.weights.resume == str(trained / "checkpoint-best.pd")
