"""--sort_into: copies in one folder per class, never over a file, never outside the folder."""

import os

import pytest

from common.errors import DiskError, UsageError
from deploy.predictions import failed_prediction
from deploy.results.sorted_folders import SortedFolders

NAMES = ["../x", "cat"]


def prediction(path, *labels):
    return {"class_ids": list(labels), "scores": [0.5] * len(labels), "file_name": str(path), "label_names": []}


def files_below(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def photos(tmp_path):
    """Two folders with a file of the same name, and other content."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(name.encode())
    os.utime(tmp_path / "one" / "a.jpg", (1_000_000, 1_000_000))
    return tmp_path


def test_pictures_are_copied_into_the_folder_of_their_class(photos):
    out = photos / "in" / "out"
    sorted_folders = SortedFolders(out, NAMES, 2)
    sorted_folders.write([prediction(photos / "one/a.jpg", 1, 0), failed_prediction("bad.jpg", "damaged")])
    sorted_folders.write([prediction(photos / "two/a.jpg", 1), prediction(photos / "two/a.jpg", 0)])
    sorted_folders.write([prediction(photos / "two/a.jpg")])
    assert files_below(out) == {
        "cat/a.jpg": b"one",
        "cat/a (2).jpg": b"two",
        "_x/a.jpg": b"two",
        "no class/a.jpg": b"two",
    }
    assert not (photos / "x").exists() and not (photos / "in" / "x").exists()
    assert sorted_folders.summary() == f"pictures copied into {out}, one folder per class: 4"
    assert (out / "cat" / "a.jpg").stat().st_mtime == 1_000_000
    assert files_below(photos / "one") == {"a.jpg": b"one"}, "copied, not moved"


def test_a_second_run_copies_only_what_is_new(photos):
    out = photos / "out"
    for _ in range(2):
        again = SortedFolders(out, NAMES, 2)
        again.write([prediction(photos / "one/a.jpg", 1), prediction(photos / "two/a.jpg", 1)])
    assert files_below(out) == {"cat/a.jpg": b"one", "cat/a (2).jpg": b"two"}
    assert again.summary().endswith("class: 0, and already there: 2")


def test_no_file_is_overwritten_and_no_link_followed(photos):
    out = photos / "out"
    (out / "cat").mkdir(parents=True)
    victim = photos / "victim"
    victim.write_text("kept")
    (out / "cat" / "a.jpg").symlink_to(victim)
    (out / "cat" / "a (2).jpg").symlink_to(photos / "nothing yet")
    SortedFolders(out, NAMES, 2).write([prediction(photos / "one/a.jpg", 1)])
    assert victim.read_text() == "kept" and not (photos / "nothing yet").exists()
    assert (out / "cat" / "a (3).jpg").read_bytes() == b"one"


def test_a_class_folder_that_is_a_link_is_refused(photos):
    (photos / "out").mkdir()
    (photos / "elsewhere").mkdir()
    (photos / "out" / "cat").symlink_to(photos / "elsewhere")
    with pytest.raises(DiskError, match="is a link"):
        SortedFolders(photos / "out", NAMES, 2).write([prediction(photos / "one/a.jpg", 1)])
    assert not list((photos / "elsewhere").iterdir())


def test_a_full_disk_leaves_no_part_of_a_file(photos, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deploy.results.sorted_folders.write_atomically", full)
    with pytest.raises(DiskError, match="No space left"):
        SortedFolders(photos / "out", NAMES, 2).write([prediction(photos / "one/a.jpg", 1)])
    assert files_below(photos / "out") == {}


def test_long_names_and_classes_without_names(photos):
    long = photos / "one" / f"{'猫' * 80}.jpg"
    long.write_bytes(b"long")
    SortedFolders(photos / "out", None, 2).write([prediction(long, 1)])
    [name] = files_below(photos / "out")
    assert name.startswith("class 1/猫") and name.endswith(".jpg")


def test_a_file_in_place_of_the_folder_is_refused(photos):
    with pytest.raises(UsageError, match="there is a file of this name"):
        SortedFolders(photos / "one" / "a.jpg", NAMES, 2)
