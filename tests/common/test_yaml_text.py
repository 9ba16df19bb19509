"""YAML of any content is parsed to plain values, or refused before it can take time or memory."""

import pytest
import yaml

from common import yaml_text
from common.yaml_text import MAX_DEPTH, MAX_VALUES, parse_yaml

BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
REFUSED = {
    "aliases": (BOMB, "alias"),
    "digits": ("lr: " + "9" * 5000, "number of 5,000 characters"),
    "hexadecimal digits": ("lr: 0x" + "f" * 100_000, "number of"),
    "base 60, which Python multiplies for hours": ("lr: 1" + ":1" * 400_000, "number of"),
    "base 60 with a point": ("lr: 1" + ":1" * 400_000 + ".5", "number of"),
    "a number by its tag": ("lr: !!int '" + "1:" * 400_000 + "1'", "number of"),
    "values": ("[" + "a," * (MAX_VALUES + 1) + "]", "more than 100,000 values"),
    "blocks": ("- a\n" * (MAX_VALUES + 1), "more than 100,000 values"),
    "depth": ("[" * 900_000, "nest"),
    "depth of blocks": ("- " * 400_000, "nested more than"),
    "depth of keys": ("? " * 400_000, "nested more than"),
    "tags of Python": ("a: !!python/object/apply:os.system [true]", "tag"),
    "other tags": ("a: !!binary aaaa", "tag"),
    "a key twice": ("a: {b: 1, c: 2, b: 3}", "b stands there 2 times"),
    "a list as key": ("? [a]\n: 1", "unhashable"),
    "a date that is none": ("a: 2026-13-41", "month"),
    "two documents": ("a: 1\n---\nb: 2", "single document"),
    "control characters": ("a: \x01", "not allowed|special characters"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_crafted_texts_are_refused_at_once(name):
    text, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        parse_yaml(text)


def test_without_libyaml_the_same_is_refused(monkeypatch):
    monkeypatch.setattr(yaml_text, "Loader", yaml.SafeLoader)
    for name in ("aliases", "digits", "depth", "tags of Python", "a key twice"):
        text, message = REFUSED[name]
        with pytest.raises(ValueError, match=message):
            parse_yaml(text[:100_000])
    assert parse_yaml("a: [1, 2.5, x]") == {"a": [1, 2.5, "x"]}


def test_the_depth_has_a_limit():
    assert parse_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    with pytest.raises(ValueError, match=f"nested more than {MAX_DEPTH} times"):
        parse_yaml("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))


def test_plain_values_are_read():
    content = {"a": 1, "b": [1.5, "0x" + "f" * 200, "9" * 300, None, True], "c": {"类": "x\u202ey", "": "'"}}
    assert parse_yaml(yaml.safe_dump(content, allow_unicode=True)) == content
    assert parse_yaml("") is None and parse_yaml("lr: 1e-3\nbig: !!str 5") == {"lr": "1e-3", "big": "5"}
