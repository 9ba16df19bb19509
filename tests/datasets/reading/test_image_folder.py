"""Folders of images: classes, links, hidden files, and errors that name the folder."""

import os

import pytest

from common.errors import DataError
from datasets.reading.dataset import open_dataset
from datasets.reading.image_folder import FolderScan, find_images, scan_image_folder
from datasets.reading.image_list import check_files_exist


def entries_of(images):
    return [(images.path(i), images.label(i)) for i in range(len(images))]


def make_tree(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_folder_of_classes(tmp_path):
    make_tree(tmp_path, "b/2.JPEG", "b/1.jpg", "a/x/3.Png", "a/4.webp", "b/notes.txt", "readme.txt")
    images = scan_image_folder(tmp_path)
    assert images.class_names == ("a", "b")
    entries = [(os.path.relpath(path, tmp_path), label) for path, label in entries_of(images)]
    assert entries == [("a/4.webp", 0), ("a/x/3.Png", 0), ("b/1.jpg", 1), ("b/2.JPEG", 1)]


def test_folder_link_loops_add_nothing(tmp_path):
    make_tree(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/self").symlink_to("../a")
    (tmp_path / "a/root").symlink_to("..")
    assert len(scan_image_folder(tmp_path)) == 2
    assert len(find_images(tmp_path / "b")) == 1


def test_folder_links_are_followed_and_broken_ones_are_named_when_read(tmp_path):
    make_tree(tmp_path, "else/where/1.jpg", "data/b/2.jpg")
    (tmp_path / "data/a").symlink_to("../else/where")
    (tmp_path / "data/b/gone.jpg").symlink_to("nowhere")
    (tmp_path / "data/b/loop.jpg").symlink_to("loop.jpg")
    images = scan_image_folder(tmp_path / "data")
    assert images.class_names == ("a", "b") and len(images) == 4
    with pytest.raises(DataError, match=r"gone\.jpg\n.*loop\.jpg \(2 of 4"):
        check_files_exist(images)


def test_hidden_and_system_files_are_skipped_and_counted(tmp_path):
    names = (
        "cat/1.jpg",
        "cat/._1.jpg",
        "cat/Thumbs.db",
        ".ipynb_checkpoints/a/1.jpg",
        "__MACOSX/cat/1.jpg",
        "dog/2.jfif",
    )
    images = scan_image_folder(make_tree(tmp_path, *names))
    assert images.class_names == ("cat", "dog") and len(images) == 2
    assert len(images.remarks) == 1
    for part in ("1 ._*", "1 Thumbs.db", "1 .ipynb_checkpoints", "1 __MACOSX"):
        assert part in images.remarks[0]


def test_images_of_other_types_are_counted_and_named(tmp_path):
    scan = FolderScan()
    find_images(make_tree(tmp_path, "1.jpg", "2.HEIC", "3.heic", "4.cr2", "5.txt"), scan)
    assert len(scan.remarks) == 2
    assert "1 .cr2 file is not read: convert it to JPEG or PNG" in scan.remarks[0]
    assert "2 .heic files are not read" in scan.remarks[1] and "*.heic" in scan.remarks[1]
    with pytest.raises(DataError, match=r"no image in this folder or below; .*; 1 \.avif file is not read"):
        find_images(make_tree(tmp_path / "only", "1.avif"))


def test_folders_that_link_to_each_other_are_visited_once(tmp_path):
    names = [f"f{number}" for number in range(11)]
    make_tree(tmp_path, *(f"{name}/{name}.jpg" for name in names))
    for name in names:
        for other in names:
            if name != other:
                (tmp_path / name / f"to-{other}").symlink_to(f"../{other}")
    assert len(find_images(tmp_path)) == 11


@pytest.fixture
def deep_folder(tmp_path):
    """1,500 folders, each inside the one before; pytest cannot remove them, because its function is recursive."""
    top, spare = tmp_path / "d", tmp_path / "spare"  # short, because a path has at most 4,096 bytes
    for _ in range(1500):
        spare.mkdir()
        if top.exists():
            top.rename(spare / "d")
        spare.rename(top)
    yield top
    while (top / "d").exists():
        (top / "d").rename(spare)
        top.rmdir()
        spare.rename(top)


def test_deep_folders(deep_folder):
    (deep_folder.parent / "1.jpg").touch()
    assert len(find_images(deep_folder.parent)) == 1


def test_empty_class_would_shift_labels(tmp_path):
    make_tree(tmp_path, "a/1.jpg", "b/readme.txt", "c/2.jpg")
    with pytest.raises(DataError, match=r"no image in class b; looked for \.jpg"):
        scan_image_folder(tmp_path)


def test_folder_without_classes(tmp_path):
    make_tree(tmp_path, "1.jpg")
    with pytest.raises(DataError, match="expected one folder per class, got none"):
        scan_image_folder(tmp_path)
    with pytest.raises(DataError, match="No such file"):
        scan_image_folder(tmp_path / "no")


@pytest.mark.parametrize(("root", "split"), [("data", "val"), ("data/train", "train")])
def test_folders_that_are_elsewhere(tmp_path, root, split):
    make_tree(tmp_path, "data/train/a/1.jpg")
    with pytest.raises(DataError, match=rf"{root}/{split}: no such folder; expected train/ and val/ below --data_path"):
        open_dataset(tmp_path / root, split, None, 1)


@pytest.mark.parametrize("name", ["valid", "Validation", "VAL"])
def test_other_names_of_a_split_are_asked_to_be_renamed(tmp_path, name):
    make_tree(tmp_path, "train/a/1.jpg", f"{name}/a/1.jpg")
    with pytest.raises(DataError, match=rf"val: no such folder, but .*/{name} is one; rename it to val"):
        open_dataset(tmp_path, "val", None)


def test_train_without_val_is_offered_to_be_split(tmp_path):
    make_tree(tmp_path, "train/a/1.jpg")
    with pytest.raises(DataError, match=rf"or let main.py split that folder: --data_path {tmp_path}/train"):
        open_dataset(tmp_path, "val", None)


def test_find_images(tmp_path):
    make_tree(tmp_path, "f/b.JPG", "f/x/a.tiff", "f/no.txt", "odd.name", "empty/no.txt")
    names = [os.path.relpath(path, tmp_path) for path in find_images([tmp_path / "odd.name", str(tmp_path / "f")])]
    assert names == ["odd.name", "f/b.JPG", "f/x/a.tiff"]
    assert find_images(tmp_path / "odd.name") == [str(tmp_path / "odd.name")]
    with pytest.raises(DataError, match=r"empty: no image in this folder or below; looked for \.jpg \.jpeg"):
        find_images(tmp_path / "empty")
    with pytest.raises(DataError, match="nothing: no such file or folder"):
        find_images([tmp_path / "nothing"])
    with pytest.raises(DataError, match="no images named"):
        find_images([])


def test_files_beside_the_classes_and_classes_of_nearly_the_same_name_are_said(tmp_path):
    images = scan_image_folder(make_tree(tmp_path, "Cat/1.jpg", "cat/2.jpg", "stray.jpg", "notes.txt"))
    assert len(images) == 2
    beside, alike = images.remarks
    assert beside == f"{tmp_path}: 2 files beside the class folders are not used: notes.txt, stray.jpg"
    assert alike == f"{tmp_path}: the classes 'Cat' and 'cat' look alike; are they one class?"
