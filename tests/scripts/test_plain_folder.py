"""A plain folder as --data_path: split once, read again by later runs and by eval.py, refused when it changed."""

import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

import export_model
import factory
from common.errors import DataError, UsageError
from configs.loader import parse
from configs.schema import EvalDataConfig, ExportConfig, TrainConfig
from datasets.classes import Classes
from datasets.preprocess import Preprocess
from datasets.reading.image_folder import FolderScan
from datasets.split.folder_split import read_split
from tests.datasets.fake_images import fake_image
from tests.forked_python import run_python
from tests.scripts.conftest import ENVIRONMENT, ROOT


@pytest.fixture
def folder(tmp_path):
    """Three classes with ten, six and one pictures."""
    names = [*(f"cats/{i}.png" for i in range(10)), *(f"dogs/{i}.png" for i in range(6)), "rare/0.png"]
    for seed, name in enumerate(names):
        path = tmp_path / "My Pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fake_image(40, 40, seed=seed).save(path)
    return tmp_path / "My Pictures"


def config_of(folder: Path, output_dir: Path | str = "", *flags: str) -> TrainConfig:
    return parse(TrainConfig, [f"--data_path={folder}", f"--output_dir={output_dir}", *flags], prog="main.py")


def begin(folder: Path, output_dir: Path, *flags: str):
    """Open the images as main.py does, keep the split, and leave a file where a checkpoint would be."""
    config = config_of(folder, output_dir, *flags)
    data = factory.open_datasets(config)
    factory.keep_split(data.split_source, output_dir)
    (output_dir / "checkpoint-best.pd").touch()
    return config, data


def names_of(images) -> list[str]:
    return ["/".join(Path(images.path(i)).parts[-2:]) for i in range(len(images))]


def test_the_folder_is_split_once_and_a_resumed_run_reads_the_lists(folder, tmp_path):
    out = tmp_path / "out"
    _, first = begin(folder, out)
    assert first.classes.names == first.classes.folders == ("cats", "dogs", "rare")
    assert (len(first.train_set), len(first.val_set)) == (14, 3)
    assert "14 training and 3 validation images, split by --seed 0; the lists are in" in first.classes.source
    assert any("class rare (1) is in val: its accuracy cannot be measured" in remark for remark in first.remarks)
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint-best.pd", "split"]
    _, again = begin(folder, out, "--resume=auto", "--seed=5")
    assert names_of(again.val_set) == names_of(first.val_set)
    assert again.train_set.fingerprint() == first.train_set.fingerprint()
    assert f"the split of the continued run, {out}/split" in again.classes.source
    _, other = begin(folder, tmp_path / "other", "--seed=5")
    assert names_of(other.val_set) != names_of(first.val_set)


def test_a_changed_folder_is_refused_on_resume_and_split_anew_by_a_new_run(folder, tmp_path):
    begin(folder, tmp_path / "out")
    fake_image(40, 40, seed=90).save(folder / "rare/1.png")
    with pytest.raises(DataError, match=r"1 new: rare/1.png. .*begin a new run in another --output_dir"):
        factory.open_datasets(config_of(folder, tmp_path / "out", "--resume=auto"))
    _, new = begin(folder, tmp_path / "out")
    assert sorted({name.split("/")[0] for name in names_of(new.val_set)}) == ["cats", "dogs", "rare"]
    assert read_split(tmp_path / "out/split").record["images"] == {"train": 14, "val": 4}


def test_a_checkpoint_of_another_folder_brings_its_split(folder, tmp_path):
    _, first = begin(folder, tmp_path / "first")
    _, second = begin(folder, tmp_path / "second", f"--resume={tmp_path}/first/checkpoint-best.pd", "--seed=5")
    assert names_of(second.val_set) == names_of(first.val_set)
    assert read_split(tmp_path / "second/split").record == read_split(tmp_path / "first/split").record


def test_a_checkpoint_without_its_split_is_an_error(folder, tmp_path):
    begin(folder, tmp_path / "out")
    shutil.rmtree(tmp_path / "out/split")
    with pytest.raises(DataError, match="has checkpoints and no split/"):
        factory.open_datasets(config_of(folder, tmp_path / "out", "--resume=auto"))


def test_a_resumed_file_without_a_split_is_a_warning(folder, tmp_path):
    (tmp_path / "weights.pdparams").touch()
    _, data = begin(folder, tmp_path / "out", f"--resume={tmp_path}/weights.pdparams")
    assert any("has no split/, so the folder is split anew: if" in remark for remark in data.remarks)
    _, data = begin(folder, tmp_path / "other")
    assert not any("split anew" in remark for remark in data.remarks)


def test_without_an_output_folder_nothing_is_written(folder, tmp_path):
    data = factory.open_datasets(config_of(folder))
    _, kept = begin(folder, tmp_path / "out")
    assert (
        names_of(data.val_set) == names_of(kept.val_set)
        and data.train_set.fingerprint() == kept.train_set.fingerprint()
    )
    assert data.split_source is None and "which is not kept without --output_dir" in data.classes.source


def test_the_other_ranks_wait_for_rank_0_and_read_the_same(folder, tmp_path):
    config, waiting = config_of(folder, tmp_path / "out"), []
    thread = threading.Thread(target=lambda: waiting.append(factory.open_datasets(config, 1)), daemon=True)
    thread.start()
    thread.join(0.3)
    assert not waiting, "rank 1 has split the folder itself"
    mine = factory.open_datasets(config, 0)
    thread.join(20)
    assert waiting[0].train_set.fingerprint() == mine.train_set.fingerprint()
    assert names_of(waiting[0].val_set) == names_of(mine.val_set)


def test_the_other_ranks_do_not_wait_without_end(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("factory.plain_folder.WAIT_SECONDS", 0.0)
    with pytest.raises(DataError, match=r"rank 0 has written no split of .* all nodes share"):
        factory.open_datasets(config_of(folder, tmp_path / "out"), 1)


def test_an_output_folder_in_the_data_is_refused(folder):
    with pytest.raises(UsageError, match="where each folder is a class; name another folder"):
        factory.open_datasets(config_of(folder, folder / "output"))


# --- Evaluation -----------------------------------------------------------------------------------------------------


def trained_of(path: Path, data, config) -> SimpleNamespace:
    """What `factory.open_val_images` needs of weights that `begin` would have trained."""
    info = {"data": data.describe(config.data)}
    weights = SimpleNamespace(path=path / "checkpoint-best.pd", meta={"info": info})
    classes = Classes(3, data.classes.names, data.classes.folders)
    return SimpleNamespace(weights=weights, classes=classes, notes=[], preprocess=Preprocess(32))


def test_the_checkpoint_alone_finds_the_validation_images(folder, tmp_path):
    config, data = begin(folder, tmp_path / "out")
    images, remarks = factory.open_val_images(EvalDataConfig(), trained_of(tmp_path / "out", data, config))
    assert names_of(images) == names_of(data.val_set)
    assert f"validation images: the 3 of {tmp_path}/out/split/val_list.txt, which were not trained on" in remarks
    assert f"data of the checkpoint: --data_path {folder}" in remarks


def test_a_copied_output_folder_and_moved_pictures_are_found(folder, tmp_path):
    config, data = begin(folder, tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    shutil.rmtree(tmp_path / "out")
    folder.rename(tmp_path / "moved")
    trained = trained_of(tmp_path / "copy", data, config)
    images, _ = factory.open_val_images(EvalDataConfig(str(tmp_path / "moved")), trained)
    assert names_of(images) == names_of(data.val_set)
    with pytest.raises(DataError, match="My Pictures: no such folder; name the root of the data with --data_path"):
        factory.open_val_images(EvalDataConfig(), trained)


def test_a_missing_split_and_that_of_another_run_are_errors(folder, tmp_path):
    config, data = begin(folder, tmp_path / "out")
    begin(folder, tmp_path / "other", "--seed=5")
    with pytest.raises(DataError, match=r"not the split of .*other/checkpoint-best.pd"):
        factory.open_val_images(EvalDataConfig(), trained_of(tmp_path / "other", data, config))
    shutil.rmtree(tmp_path / "out/split")
    with pytest.raises(DataError, match="copy that folder of the training beside the checkpoint"):
        factory.open_val_images(EvalDataConfig(), trained_of(tmp_path / "out", data, config))


def test_the_images_of_the_split_calibrate_and_compare_int8(folder, tmp_path, monkeypatch):
    config, data = begin(folder, tmp_path / "out")
    trained = trained_of(tmp_path / "out", data, config)
    flags = [f"--resume={tmp_path}/out/checkpoint-best.pd", f"--output_dir={tmp_path}/out8", "--format=onnx-int8"]
    export = parse(ExportConfig, flags, prog="export_model.py")
    calibration, validation = export_model.quantization_data(export, trained)
    assert {"/".join(Path(path).parts[-2:]) for path in calibration.paths} == set(names_of(data.train_set))
    assert ["/".join(Path(path).parts[-2:]) for path in validation.paths] == names_of(data.val_set)
    monkeypatch.setattr("factory.open_train_images", lambda *_: pytest.fail("images are guessed"))
    for meta in ({"info": {}}, {}):  # of an earlier version, and of another project
        trained.weights.meta = meta
        with pytest.raises(UsageError, match="--format onnx-int8 needs --calibration_images"):
            export_model.quantization_data(export, trained)


def test_folders_and_lists_of_a_training_are_found_too(folder, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(folder, tmp_path / "laid out" / split)
    config = config_of(tmp_path / "laid out")
    trained = trained_of(tmp_path, factory.open_datasets(config), config)
    assert len(factory.open_val_images(EvalDataConfig(), trained)[0]) == 17
    (tmp_path / "few.txt").write_text("cats/0.png 0\ndogs/0.png 1\nrare/0.png 2\n")
    lists = [f"--cls_label_path_{split}={tmp_path / 'few.txt'}" for split in ("train", "val")]
    config = config_of(folder, "", *lists)
    trained = trained_of(tmp_path, factory.open_datasets(config), config)
    images, remarks = factory.open_val_images(EvalDataConfig(), trained)
    assert names_of(images) == ["cats/0.png", "dogs/0.png", "rare/0.png"]
    assert remarks[0] == f"data of the checkpoint: --data_path {folder} --cls_label_path_val {tmp_path}/few.txt"


def test_the_lists_of_the_split_may_be_named_for_eval_and_predict(folder, tmp_path, monkeypatch):
    config, data = begin(folder, tmp_path / "out")
    trained, listed = trained_of(tmp_path / "out", data, config), f"{tmp_path}/out/split/val_list.txt"
    monkeypatch.chdir(tmp_path)
    for flags in (EvalDataConfig(None, listed), EvalDataConfig(str(folder), listed)):
        images, _ = factory.open_val_images(flags, trained)
        assert names_of(images) == names_of(data.val_set)
    scan = FolderScan()
    paths, inputs = factory.find_images_and_lists([listed, str(folder / "rare")], trained, scan)
    expected = [data.val_set.path(i) for i in range(3)] + [str(folder / "rare/0.png")]
    assert paths == expected and inputs == (str(folder), str(folder / "rare"))
    trained.weights.meta.clear()
    with pytest.raises(DataError, match=r"out/split/(cats|dogs)/\d\.png"):
        factory.find_images_and_lists([listed], trained, scan)
    (folder / "list.TXT").write_bytes((tmp_path / "out/split/val_list.txt").read_bytes())
    assert factory.find_images_and_lists([f"{folder}/list.TXT"], trained, scan)[0] == expected[:3]
    with pytest.raises(DataError, match="no images named"):
        factory.find_images_and_lists([], trained, scan)


def test_main_and_eval_agree_on_the_split(folder, tmp_path):
    """By the scripts: a training, an evaluation with nothing but the checkpoint, and main.py --eval."""
    out = tmp_path / "out"
    small = ["--model=mobilenet_v3_small_x0_35", "--input_size=32", "--batch_size=4", "--num_workers=0", "--epochs=1"]
    resume = f"--resume={out}/checkpoint-best.pd"
    said = []
    for command in (
        ["main.py", f"--data_path={folder}", f"--output_dir={out}", *small],
        ["eval.py", resume, "--num_workers=0"],
        ["main.py", "--eval", resume, "--num_workers=0"],
    ):
        done = run_python(command, cwd=ROOT, env=ENVIRONMENT)
        assert done.returncode == 0, done.stdout + done.stderr
        said.append([line for line in done.stdout.splitlines() if "on the 3 test images" in line][-1].split("] ")[1])
        if command[0] == "eval.py":  # whose images these are is told, not guessed without a word
            assert f"validation images: the 3 of {out}/split/val_list.txt" in done.stdout
    assert said[0] == said[1] == said[2]
