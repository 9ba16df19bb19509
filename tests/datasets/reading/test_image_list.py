"""Holds list files and image folders: what is accepted, and each fault with the place where it is."""

import os
from array import array

import numpy as np
import pytest

from common.errors import DataError
from datasets.reading.dataset import open_dataset
from datasets.reading.image_folder import FolderScan, find_images, scan_image_folder
from datasets.reading.image_list import JoinedPaths, check_files_exist, read_image_list, write_image_list
from tests.datasets.fake_images import fake_image, write_fake_images


def write(tmp_path, text) -> str:
    path = tmp_path / "l.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def entries(images):
    return [(images.path(i), images.label(i)) for i in range(len(images))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.jpg 0\nb/c.jpg 1\n", [("R/a.jpg", 0), ("R/b/c.jpg", 1)]),
        ("a.jpg 0", [("R/a.jpg", 0)]),
        ("\ufeffa.jpg 0\r\nb.jpg 1\r\n", [("R/a.jpg", 0), ("R/b.jpg", 1)]),
        ("\n  \n# note 5\n#\n#note\na.jpg 0\n", [("R/a.jpg", 0)]),
        ("#1.jpg 0\n##2.jpg 1\n", [("R/#1.jpg", 0), ("R/##2.jpg", 1)]),
        ("a.jpg 0\rb.jpg 1\r", [("R/a.jpg", 0), ("R/b.jpg", 1)]),
        ("my cat 2.jpg 7\n", [("R/my cat 2.jpg", 7)]),
        ("my\tcat.jpg 3\n", [("R/my\tcat.jpg", 3)]),
        ("a.jpg\t3\nb.jpg   4  \n", [("R/a.jpg", 3), ("R/b.jpg", 4)]),
        ("ünï.jpg 0\n", [("R/ünï.jpg", 0)]),
        ("/abs/a.jpg 0\n../b.jpg 1\n", [("/abs/a.jpg", 0), ("R/../b.jpg", 1)]),
        ("a.jpg 0\na.jpg 0\n", [("R/a.jpg", 0), ("R/a.jpg", 0)]),
        ("a.jpg 007\n", [("R/a.jpg", 7)]),
    ],
)
def test_accepted(tmp_path, text, expected):
    images = read_image_list(write(tmp_path, text), "R", num_classes=10)
    assert entries(images) == expected
    assert images.labels.dtype == np.int64 and images.labels.tolist() == [label for _, label in expected]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg 0\nb.jpg\n", r"l\.txt:2: expected '<relative path> <label>', got 'b.jpg' alone"),
        ("5\n", r"l\.txt:1: expected .*, got '5' alone"),
        ("a.jpg -1\n", r"l\.txt:1: expected a label from 0 to 9, got -1"),
        ("a.jpg -100\n", r"l\.txt:1: expected a label from 0 to 9, got -100"),
        ("a.jpg 10\n", r"l\.txt:1: expected a label from 0 to 9, got 10"),
        ("a.jpg 99999999999999999999\n", r"l\.txt:1: expected a label from 0 to 9"),
        ("a.jpg 1.0\n", r"l\.txt:1: expected .* whole number as label, got '1.0'"),
        ("a.jpg 1_0\n", r"l\.txt:1: expected .* got '1_0'"),
        ("a.jpg cat\n", r"l\.txt:1: expected .* got 'cat'"),
        ("a.jpg --5\n", r"l\.txt:1: expected .* got '--5'"),
        ("a.jpg " + "1" * 5000, r"l\.txt:1: expected .* got '1{100}'"),
        ("0 a.jpg\n", r"l\.txt:1: expected .* got 'a.jpg'"),
        ("a.jpg ٣\n", r"l\.txt:1: expected .* got '٣'"),
        (b"a.jpg 0\nb\xe9.jpg 1\n", r"l\.txt:2: expected UTF-8 text, got byte 0xe9"),
        ("", r"l\.txt: expected .* got a list without images"),
        ("# only\n\n", r"l\.txt: expected .* got a list without images"),
        ("a\nb\n\nc\nd\ne\n", r"(?s)l\.txt:1: .*l\.txt:2: .*l\.txt:4: .*\(and 2 more lines\)"),
    ],
)
def test_faults(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read_image_list(write(tmp_path, text), "R", num_classes=10)
    assert caught.value.exit_code == 3 and str(caught.value).count("\n") <= 2


def test_labels_without_a_limit(tmp_path):
    assert read_image_list(write(tmp_path, "a 123456\n"), "R").label(0) == 123456
    with pytest.raises(DataError, match="expected a label from 0 above, got 2147483648"):
        read_image_list(write(tmp_path, "a 2147483648\n"), "R")


def test_missing_list():
    with pytest.raises(DataError, match=r"no/such\.txt: No such file"):
        read_image_list("no/such.txt", "R")


def test_write_and_read_back(tmp_path):
    given = [("a b.jpg", 3), ("ünï/c.jpg", 0), ("#1.jpg", 2)]
    write_image_list(tmp_path / "w.txt", given)
    assert entries(read_image_list(tmp_path / "w.txt", "")) == given
    for name in ("a\nb.jpg", " a.jpg", "# a.jpg", "a\rb.jpg", "", os.fsdecode(b"caf\xe9.jpg")):
        with pytest.raises(DataError, match="cannot hold the path"):
            write_image_list(tmp_path / "w.txt", [(name, 0)])


def test_no_python_object_for_each_image(tmp_path):
    images = read_image_list(write(tmp_path, "".join(f"{i}.jpg {i % 9}\n" for i in range(2000))), "R")
    held = [*vars(images).values(), *vars(images._paths).values()]
    assert {type(value) for value in held} <= {np.ndarray, JoinedPaths, bytearray, array, str, tuple, type(None)}
    assert images.path(1999) == "R/1999.jpg" and images.place(1999).endswith("l.txt:2000")


def test_check_files_exist(tmp_path):
    images = write_fake_images(tmp_path, 9)
    check_files_exist(images)
    (tmp_path / "4.png").unlink()
    with pytest.raises(DataError, match=r"l\.txt:5: no such file: .*4\.png \(1 of 9 checked files are missing"):
        check_files_exist(images)
    check_files_exist(images, limit=2)


@pytest.mark.parametrize("missing", [0, 4, 8])
def test_check_files_spreads_its_limit_over_the_whole_list(tmp_path, missing):
    """The first and the last image are among the checked ones: a list may be sorted by class."""
    images = write_fake_images(tmp_path, 9)
    (tmp_path / f"{missing}.png").unlink()
    with pytest.raises(DataError, match=rf"l\.txt:{missing + 1}: no such file: .* \(1 of 3 checked files are missing"):
        check_files_exist(images, limit=3)


# ---------------------------------------------------------------------------------------------------- folders


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
    found = [(os.path.relpath(path, tmp_path), label) for path, label in entries(images)]
    assert found == [("a/4.webp", 0), ("a/x/3.Png", 0), ("b/1.jpg", 1), ("b/2.JPEG", 1)]


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
    assert "1 .cr2 file is not read: convert them to JPEG or PNG" in scan.remarks[0]
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
    """1,500 folders, each in the one before; pytest cannot remove them, because it calls itself for each."""
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


def test_pictures_of_tests_differ():
    assert fake_image(seed=1).tobytes() != fake_image(seed=2).tobytes()
