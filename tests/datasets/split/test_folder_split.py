"""The split of a folder: files that can be read again, what is left out, and a changed folder that is named."""

import json
import os
import shutil

import pytest

from common.errors import DataError, DiskError, UsageError
from datasets.class_names import read_class_names
from datasets.manifest import read_manifest
from datasets.reading.image_list import read_image_list
from datasets.split.__main__ import main
from datasets.split.assign import Shares
from datasets.split.folder_split import key_of, read_split, refuse_changed_folder, split_folder, write_split
from datasets.split.plain_folder import find_plain_folder
from tests.datasets.fake_images import fake_image
from tests.messy_folder import NOT_READABLE, write_messy_folder


@pytest.fixture
def folder(tmp_path):
    """Two classes with six and four pictures."""
    for seed, name in enumerate([*(f"cats/{i}.png" for i in range(6)), *(f"dogs/{i}.jpg" for i in range(4))]):
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fake_image(seed=seed).save(path)
    return tmp_path / "own"


@pytest.fixture
def files(folder, tmp_path):
    """The files of its split."""
    write_split(split_folder(find_plain_folder(folder), Shares()), tmp_path / "split")
    return read_split(tmp_path / "split")


def test_the_messy_folder_is_split_and_everything_is_said(tmp_path):
    root = write_messy_folder(tmp_path / "own", share=0.1)
    split = split_folder(find_plain_folder(root), Shares())
    used = {split.pictures.paths[i] for part in split.parts.values() for i in part.tolist()}
    assert not used & {*NOT_READABLE, "石头/line\nbreak.jpg"}
    assert used == {*split.folder.paths} - {*NOT_READABLE, "石头/line\nbreak.jpg"}
    remarks = "\n".join(split.remarks)
    for text in (
        "3 pictures are left out, because they cannot be used: трава/cut.jpg: damaged: image file is truncated",
        "石头/empty.png: 0 bytes",
        "石头/line\\nbreak.jpg: its name cannot stand in a list; rename it",
        "one of the labels is wrong: water, still/DSC_0001.jpg and трава/grass 000.jpg",
        "5 copies or near-copies are kept on the side of their picture",
    ):
        assert text in remarks
    sides = {split.pictures.paths[i]: part for part, indices in split.parts.items() for i in indices}
    bricks = "Brick walls (old & new)/brick"
    for name, copy in (("000", "000 (copy)"), ("006", "006 small")):
        assert sides[f"{bricks} {name}.jpg"] == sides[f"{bricks} {copy}.jpg"]
    assert sides["water, still/DSC_0001.jpg"] == sides["трава/grass 000.jpg"] == "train"


def test_a_class_of_which_nothing_can_be_decoded_is_an_error(folder):
    for path in (folder / "dogs").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"no picture of class dogs can be used; dogs/0.jpg: not an image"):
        split_folder(find_plain_folder(folder), Shares())


def test_a_folder_of_copies_alone_has_nothing_to_validate(folder):
    for name in ("cats", "dogs"):
        for path in (folder / name).iterdir():
            fake_image(seed=len(name + str(name == "cats"))).save(path)
    with pytest.raises(DataError, match="none is left for validation"):
        split_folder(find_plain_folder(folder), Shares())


def test_the_files_are_lists_that_every_reader_takes(folder, files):
    assert read_class_names(files.folder / "label_list.txt", 2) == ["cats", "dogs"] == list(files.names)
    train, val = (read_image_list(files.folder / f"{part}_list.txt", folder, 2) for part in ("train", "val"))
    paths = [images.path(i) for images in (train, val) for i in range(len(images))]
    assert len(set(paths)) == 10 and all(map(os.path.isfile, paths))
    assert sorted(val.labels.tolist()) == [0, 1]
    assert files.images("val", folder).class_names == ("cats", "dogs")
    assert files.images("val", folder).fingerprint() == val.fingerprint()
    assert read_manifest(files.folder / "manifest.txt").keys() == {os.path.relpath(path, folder) for path in paths}


def test_a_folder_that_is_not_changed_passes_also_as_a_copy(folder, files, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)  # other times
    refuse_changed_folder(files, find_plain_folder(copy))
    monkeypatch.setattr("datasets.split.folder_split.checksums_of", lambda *_: pytest.fail("the times are the same"))
    refuse_changed_folder(files, find_plain_folder(folder))


def test_a_changed_folder_is_refused_with_the_difference(folder, files):
    shutil.copy(folder / "cats/0.png", folder / "dogs/new.png")
    os.rename(folder / "cats/1.png", folder / "cats/10.png")
    fake_image(seed=99).save(folder / "cats/2.png")
    message = "2 new: cats/10.png, dogs/new.png; 1 missing: cats/1.png; 1 changed: cats/2.png"
    with pytest.raises(DataError, match=message) as caught:
        refuse_changed_folder(files, find_plain_folder(folder))
    assert "--finetune" in str(caught.value)


def test_the_key_depends_on_files_and_shares(folder):
    first = key_of(find_plain_folder(folder), Shares())
    assert key_of(find_plain_folder(folder), Shares(seed=1)) != first
    os.utime(folder / "cats/0.png", (0, 0))
    assert key_of(find_plain_folder(folder), Shares()) != first


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}', "\x00", "[" * 5000])
def test_a_damaged_record_is_an_error(files, content):
    (files.folder / "split.json").write_text(content)
    with pytest.raises(DataError, match=r"split.json: no"):
        read_split(files.folder)


def test_a_pipe_is_no_record(files):
    (files.folder / "split.json").unlink()
    os.mkfifo(files.folder / "split.json")
    with pytest.raises(DataError, match=r"split.json: no record of a split: .*is a named pipe"):
        read_split(files.folder)


def test_no_record_is_no_split(tmp_path):
    assert read_split(tmp_path) is None


def test_a_long_look_says_how_far_it_is(folder, capsys, monkeypatch):
    monkeypatch.setattr("datasets.split.examine.QUIET_SECONDS", -1.0)
    monkeypatch.setattr("datasets.split.examine.CHUNK", 4)
    split_folder(find_plain_folder(folder), Shares())
    assert "4 of 10 pictures read, 0 s to go" in capsys.readouterr().err


# --- python -m datasets.split ---------------------------------------------------------------------------------------


def test_the_program_writes_lists_and_folds(folder, tmp_path, capsys):
    flags = [str(folder), f"--output_dir={tmp_path / 'lists'}", "--val=0.25", "--test=0.1", "--k_fold=2", "--seed=3"]
    assert main(flags) == 0
    out = capsys.readouterr().out
    lists = {path.relative_to(tmp_path / "lists").as_posix() for path in (tmp_path / "lists").rglob("*_list.txt")}
    parts = [f"{part}_list.txt" for part in ("train", "val")]
    assert lists == {*parts, "test_list.txt", "label_list.txt", *(f"fold_{n}/{p}" for n in (1, 2) for p in parts)}
    assert "val_list.txt: 3 pictures of 2 classes" in out
    train_list = f"--cls_label_path_train {tmp_path}/lists/fold_1/train_list.txt"
    assert f"next: python main.py --data_path {folder} {train_list}" in out
    record = json.loads((tmp_path / "lists/split.json").read_text())
    assert (record["seed"], record["val"], record["test"]) == (3, 0.25, 0.1)
    folds = [set((tmp_path / f"lists/fold_{n}/val_list.txt").read_text().splitlines()) for n in (1, 2)]
    assert len(folds[0] & folds[1]) == 0 and len(folds[0] | folds[1]) == 8


def test_no_list_of_an_older_split_stays(folder, tmp_path):
    lists = tmp_path / "lists"
    main([str(folder), f"--output_dir={lists}", "--test=0.1", "--k_fold=3"])
    (lists / "fold_3/notes.txt").write_text("mine")
    (lists / "my_list.txt").write_text("cats/0.png 0")
    main([str(folder), f"--output_dir={lists}", "--k_fold=2", "--seed=1"])
    found = {path.relative_to(lists).as_posix() for path in lists.rglob("*") if path.is_file()}
    of_split = {f"{start}{part}_list.txt" for start in ("", "fold_1/", "fold_2/") for part in ("train", "val")}
    of_split |= {"label_list.txt"}
    own = {"fold_3/notes.txt", "my_list.txt"}
    assert found == of_split | {f"{name}.sha256" for name in of_split} | own | {"manifest.txt", "split.json"}


def test_lists_in_a_folder_without_a_split_stay(folder, tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/test_list.txt").write_text("cats/0.png 0")
    main([str(folder), f"--output_dir={tmp_path / 'lists'}"])
    assert (tmp_path / "lists/test_list.txt").read_text() == "cats/0.png 0"


def test_a_list_of_one_picture_is_counted_as_one(folder, tmp_path, capsys):
    for one in ("cats/5.png", "dogs/3.jpg", "dogs/2.jpg", "dogs/1.jpg"):
        (folder / one).unlink()
    assert main([str(folder), f"--output_dir={tmp_path / 'lists'}", "--val=0.2"]) == 0
    assert "val_list.txt: 1 picture of 1 class\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        (["{folder}/none"], DataError, "no such folder"),
        (["{folder}", "--val=0.7", "--test=0.3"], UsageError, "--val 0.7 --test 0.3: .* leave nothing"),
        (["{folder}", "--k_fold=1"], UsageError, "expected 2 or more"),
        (["{folder}", "--k_fold=11"], UsageError, "the 10 pictures, .* fill 10 folds only; take at most --k_fold 10"),
        (["{folder}/.."], DataError, "one class only, own"),
    ],
)
def test_wrong_flags_of_the_program(folder, tmp_path, flags, error, message):
    with pytest.raises(error, match=message):
        main([*(word.format(folder=folder) for word in flags), f"--output_dir={tmp_path / 'lists'}"])


def test_a_split_that_is_half_replaced_is_no_split(folder, files, monkeypatch):
    def full_disk(*_):
        raise DiskError("no space left")

    monkeypatch.setattr("datasets.split.folder_split.write_with_checksum", full_disk)  # after the lists
    with pytest.raises(DiskError):
        write_split(split_folder(find_plain_folder(folder), Shares(seed=1)), files.folder)
    assert read_split(files.folder) is None
