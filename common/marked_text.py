"""Replace the part of a page that a program writes, between two marks."""

import re

from .errors import DataError


def replaced(text: str, marks: tuple[str, str], new: str, page: str) -> str:
    """The text of a page with other lines between the marks.

    Args:
        text: of the page.
        marks: the lines before and after the part.
        new: the lines between them.
        page: name of the page, for the error.

    Raises:
        DataError: the page has not each mark once.
    """
    if any(text.count(mark) != 1 for mark in marks):
        raise DataError(f"{page}: expected the lines {' and '.join(marks)} once each")
    begin, end = map(re.escape, marks)
    return re.sub(f"{begin}.*{end}", lambda _: f"{marks[0]}\n{new}\n{marks[1]}", text, flags=re.DOTALL)
