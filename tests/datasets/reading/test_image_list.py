"""List files: accepted lines, and an error that names the place of each faulty line."""

import os
from array import array

import numpy as np
import pytest

from common.errors import DataError
from datasets.reading import text_lines
from datasets.reading.image_list import JoinedPaths, check_files_exist, read_image_list, write_image_list
from tests.datasets.fake_images import write_fake_images


def write_list(tmp_path, text) -> str:
    path = tmp_path / "l.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def entries_of(images):
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
    images = read_image_list(write_list(tmp_path, text), "R", num_classes=10)
    assert entries_of(images) == expected
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
        read_image_list(write_list(tmp_path, text), "R", num_classes=10)
    assert caught.value.exit_code == 3 and str(caught.value).count("\n") <= 2


def test_labels_without_a_limit(tmp_path):
    assert read_image_list(write_list(tmp_path, "a 123456\n"), "R").label(0) == 123456
    with pytest.raises(DataError, match="expected a label from 0 to 2147483647, got 2147483648"):
        read_image_list(write_list(tmp_path, "a 2147483648\n"), "R")


def test_missing_list():
    with pytest.raises(DataError, match=r"no/such\.txt: No such file"):
        read_image_list("no/such.txt", "R")


def test_write_and_read_back(tmp_path):
    given = [("a b.jpg", 3), ("ünï/c.jpg", 0), ("#1.jpg", 2)]
    write_image_list(tmp_path / "w.txt", given)
    assert entries_of(read_image_list(tmp_path / "w.txt", "")) == given
    for name in ("a\nb.jpg", " a.jpg", "# a.jpg", "a\rb.jpg", "", os.fsdecode(b"caf\xe9.jpg")):
        with pytest.raises(DataError, match="cannot hold the path"):
            write_image_list(tmp_path / "w.txt", [(name, 0)])


def test_no_python_object_for_each_image(tmp_path):
    images = read_image_list(write_list(tmp_path, "".join(f"{i}.jpg {i % 9}\n" for i in range(2000))), "R")
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


def written_list(folder, num: int = 40):
    path = folder / "train_list.txt"
    write_image_list(path, [(f"class/{i:03}.jpg", i % 3) for i in range(num)])
    return path


@pytest.mark.parametrize("kept", [0, 16, 32, 20 * 16, 40 * 16 - 1])
def test_a_list_that_was_cut_short_is_refused(tmp_path, kept):
    path = written_list(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"train_list.txt: \d+ bytes, which do not have the checksum in .*.sha256"):
        read_image_list(path, tmp_path)


def test_a_list_with_a_flipped_bit_or_other_content_is_refused(tmp_path):
    path = written_list(tmp_path)
    path.write_bytes(path.read_bytes().replace(b" 2\n", b" 1\n", 1))
    with pytest.raises(DataError, match="damaged or edited"):
        read_image_list(path, tmp_path)


def test_a_list_without_a_checksum_beside_it_is_accepted_and_a_damaged_checksum_is_named(tmp_path):
    path = written_list(tmp_path)
    (tmp_path / "train_list.txt.sha256").write_bytes(b"")
    with pytest.raises(DataError, match=r"train_list.txt.sha256: expected .*; remove it if"):
        read_image_list(path, tmp_path)
    (tmp_path / "train_list.txt.sha256").unlink()
    assert len(read_image_list(path, tmp_path)) == 40


def test_a_list_that_is_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    path, calls = written_list(tmp_path), []
    before = text_lines.checksum_beside

    def replaced_in_between(path):
        checksum = before(path)
        calls.append(checksum)
        if len(calls) == 1:
            written_list(tmp_path, num=50)
        return checksum

    monkeypatch.setattr(text_lines, "checksum_beside", replaced_in_between)
    assert len(read_image_list(path, tmp_path)) == 50 and len(calls) == 2
