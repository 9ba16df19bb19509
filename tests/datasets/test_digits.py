"""The demonstration data: the same files every time, in two separate splits, readable as folders and as lists."""

import hashlib
import sys

import pytest

from common.errors import MissingDependencyError
from datasets.class_names import read_class_names
from datasets.classes import compare_splits
from datasets.digits import main, write_digits
from datasets.reading.decode import read_image
from datasets.reading.image_folder import scan_image_folder
from datasets.reading.image_list import check_files_exist, read_image_list


def checksum(folder) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("digits"))


def test_lists_and_folders_agree(folder):
    for split, count in (("train", 1442), ("val", 355)):
        listed = read_image_list(folder / f"{split}_list.txt", folder, num_classes=10)
        scanned = scan_image_folder(folder / split)
        assert len(listed) == len(scanned) == count
        assert [listed.path(i) for i in range(count)] == [scanned.path(i) for i in range(count)]
        assert listed.labels.tolist() == scanned.labels.tolist()
        check_files_exist(listed)
    assert compare_splits(scan_image_folder(folder / "train"), scan_image_folder(folder / "val"), 10) == []
    assert read_class_names(folder / "label_list.txt", 10)[7] == "seven"


def test_every_class_is_in_both_splits_in_the_same_share(folder):
    for label in range(10):
        val = len(list((folder / "val" / str(label)).iterdir()))
        assert 0.19 < val / (val + len(list((folder / "train" / str(label)).iterdir()))) <= 0.2


def test_images(folder):
    image = read_image(folder / "train/0/0_000.png")
    assert image.size == (32, 32) and image.getextrema() == ((0, 247),) * 3


def test_writing_again_changes_nothing(folder):
    before = checksum(folder)
    assert main([str(folder)]) == 0
    assert checksum(folder) == before


def test_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingDependencyError, match="pip install scikit-learn") as caught:
        write_digits(tmp_path)
    assert caught.value.exit_code == 7


def test_usage(capsys):
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2 and "usage: python -m datasets.digits" in capsys.readouterr().err
