"""Holds class names to their ids, and every fault of their file to its line."""

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
        ("0 a\nb\n", None, r"l\.txt:2: expected '<id> <names>', got 'b'"),
        ("0 a\n-1 b\n", None, r"l\.txt:2: expected '<id> <names>'"),
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
