"""Files of class names: names by id or by line, and an error that names each wrong line."""

from pathlib import Path

import pytest

from common.errors import DataError
from datasets.class_names import read_class_names

SHIPPED = Path(__file__).parents[2] / "demo" / "imagenet1k_label_list.txt"


def test_reads_the_shipped_list():
    names = read_class_names(SHIPPED, 1000)
    assert len(names) == 1000 and names[8] == "hen" and names[0] == "tench, Tinca tinca"


def test_any_order_bom_crlf_blank_and_comment_lines(tmp_path):
    path = tmp_path / "l.txt"
    path.write_bytes("\ufeff1 b c\r\n\r\n# note\r\n0 ä".encode())
    assert read_class_names(path) == ["ä", "b c"]


@pytest.mark.parametrize(
    ("text", "num_classes", "message"),
    [
        ("0 a\nb\n", None, r"l\.txt:2: expected '<id> <name>', as in the other lines, got 'b'"),
        ("0 a\n-1 b\n", None, r"l\.txt:2: expected '<id> <name>', as in the other lines"),
        ("0 a\n1\n", None, r"l\.txt:2: expected"),
        ("0 a\n0 b\n", None, r"l\.txt:2: class 0 is named a second time"),
        ("0 a\n2 b\n", None, r"l\.txt: class 1 has no name"),
        ("0 a\n1 b\n", 3, r"l\.txt: expected the names of 3 classes, got 2"),
        ("\n", None, r"l\.txt: class 0 has no name"),
    ],
)
def test_faults(tmp_path, text, num_classes, message):
    path = tmp_path / "l.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_class_names(path, num_classes)


def test_missing_file():
    with pytest.raises(DataError, match="no/such: No such file"):
        read_class_names("no/such")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat\ndog\n", ["cat", "dog"]),
        ("0\tcat\n1\tdog fox\n", ["cat", "dog fox"]),
        ("1  dog\r0 cat\r", ["cat", "dog"]),
        ("0\n1\n2\n", ["0", "1", "2"]),
        ("#1 fan\nother\n", ["#1 fan", "other"]),
    ],
)
def test_other_forms_of_label_lists(tmp_path, text, expected):
    path = tmp_path / "l.txt"
    path.write_bytes(text.encode())
    assert read_class_names(path) == expected


def test_a_name_that_stands_twice_in_a_list_of_names(tmp_path):
    path = tmp_path / "l.txt"
    path.write_text("cat\ncat\n")
    with pytest.raises(DataError, match="two lines name the class 'cat'"):
        read_class_names(path)
