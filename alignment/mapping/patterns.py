"""Patterns of names: `*` stands for any text, `{*}` for a whole number, `{*+1}` and `{*-1}` for a shifted one."""

import re
from collections.abc import Iterable
from functools import cache

SHIFT = re.compile(r"\{\*([+-]\d+)?\}")
WILDCARD = re.compile(r"(\*|\{\*(?:[+-]\d+)?\})")


@cache
def _compiled(pattern: str) -> tuple[re.Pattern, tuple[int | None, ...]]:
    """The pattern as a regular expression, and the shift of each wildcard; None for `*`."""
    parts = WILDCARD.split(pattern)
    shifts = tuple(_shift(part) for part in parts[1::2])
    text = "".join(
        re.escape(part) if index % 2 == 0 else "(.+)" if part == "*" else r"(\d+)" for index, part in enumerate(parts)
    )
    return re.compile(text), shifts


def _shift(wildcard: str) -> int | None:
    found = SHIFT.fullmatch(wildcard)
    return int(found[1] or 0) if found else None


def match(pattern: str, name: str) -> tuple[str, ...] | None:
    """The texts that the wildcards of a pattern stand for in a name, or None if the name does not fit."""
    expression, shifts = _compiled(pattern)
    if not (found := expression.fullmatch(name)):
        return None
    texts = [
        text if shift is None else str(int(text) - shift) for text, shift in zip(found.groups(), shifts, strict=True)
    ]
    return (
        None if any(text.startswith("-") and shift for text, shift in zip(texts, shifts, strict=True)) else tuple(texts)
    )


def fill(pattern: str, texts: tuple[str, ...]) -> str:
    """The name that a pattern stands for with these texts."""
    parts = WILDCARD.split(pattern)
    values = iter(texts)
    filled = [part if index % 2 == 0 else _shifted(next(values, "*"), _shift(part)) for index, part in enumerate(parts)]
    return "".join(filled)


def _shifted(text: str, shift: int | None) -> str:
    return text if shift is None or not text.isdigit() else str(int(text) + shift)


def rename(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    """The name changed by the first pair that fits; each wildcard of the new pattern takes the text of the old one."""
    for old, new in pairs:
        if (texts := match(old, name)) is not None:
            return fill(new, texts)
    return name
