"""Holds the shipped ImageNet class names to their format and, where a published list is at hand, to that list."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LABEL_LIST = ROOT / "demo" / "imagenet1k_label_list.txt"
PUBLISHED = ROOT.parent / "shared" / "data" / "imagenet1k_label_list.txt"


def test_thousand_classes_in_order():
    text = LABEL_LIST.read_bytes().decode("utf-8")
    assert text.endswith("\n") and "\r" not in text
    lines = text.splitlines()
    ids, names = zip(*(line.split(" ", 1) for line in lines), strict=True)
    assert ids == tuple(map(str, range(1000)))
    assert all(name and name == name.strip() for name in names)
    assert len(set(lines)) == 1000
    assert (names[0], names[8], names[999]) == (
        "tench, Tinca tinca",
        "hen",
        "toilet tissue, toilet paper, bathroom tissue",
    )


@pytest.mark.skipif(not PUBLISHED.exists(), reason="needs ../shared/data")
def test_equals_the_published_list():
    assert LABEL_LIST.read_text(encoding="utf-8").splitlines() == PUBLISHED.read_text(encoding="utf-8").splitlines()
