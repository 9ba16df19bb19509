"""Read class names from a file: one `<id> <name>` per line, or one name per line."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from common.errors import DataError

from .reading.text_lines import read_lines, refuse

IMAGENET_LABEL_LIST = Path(__file__).parent / "imagenet1k_label_list.txt"
IMAGENET_SYNSETS = Path(__file__).parent / "imagenet1k_synsets.txt"  # the class folders, in the order of the labels
MAX_CLASSES, MAX_BYTES = 200_000, 16 << 20
ENTRY = re.compile(r"(\d{1,9})\s+(\S.*)", re.ASCII)  # a line `<id> <name>`


def read_class_names(path: str | os.PathLike, num_classes: int | None = None) -> list[str]:
    """Read class names in the order of the labels.

    Either every line is `<id> <name>`, separated by blanks or a tab, with the ids 0, 1, 2, ... without gap in any order
    of lines; or every line is a name, and the first line is label 0.

    Args:
        path: the file.
        num_classes: the number of names that is wanted; None takes any.

    Raises:
        DataError: names the line that is wrong, the id that is missing, or the count that is not `num_classes`.
    """
    lines = []
    for number, line in read_lines(path, MAX_BYTES):
        lines.append((number, line.decode("utf-8")))
        if len(lines) > MAX_CLASSES:
            raise DataError(f"{path}: more than {MAX_CLASSES:,} lines, so not a list of class names")
    names = _names_by_id(path, lines) if any(ENTRY.match(line) for _, line in lines) else [line for _, line in lines]
    if not names:
        raise DataError(f"{path}: class 0 has no name")
    if len(set(names)) < len(names) and not any(ENTRY.match(line) for _, line in lines):
        twice = Counter(names).most_common(1)[0][0]
        raise DataError(f"{path}: two lines name the class {twice!r}; write each class once, or `<id> <name>` lines")
    if num_classes is not None and len(names) != num_classes:
        raise DataError(f"{path}: expected the names of {num_classes} classes, got {len(names)}")
    return names


@cache
def imagenet_labels() -> dict[str, int]:
    """Label of each of the 1000 class folders of ImageNet, `n01440764` for example."""
    return {folder: label for label, folder in enumerate(IMAGENET_SYNSETS.read_text(encoding="ascii").split())}


def refuse_other_order(names: Sequence[str], known: Sequence[str], path: str | os.PathLike) -> None:
    """Refuse names of a file that are known names of other labels; other names, a translation for example, are taken.

    Args:
        names: names of the file in the order of the labels.
        known: names that the classes have already, in the order of the labels.
        path: the file, for messages.

    Raises:
        DataError: a name belongs to another label.
    """
    for label, name in enumerate(names):
        if known and known[label] != name and name in known:  # two classes may have one name: ImageNet has two cranes
            raise DataError(
                f"{path}: names the classes in another order than the model: class {label} is {name} in the file, "
                f"{known[label]} in the model; leave out --label_list, or correct the file"
            )


def _names_by_id(path: str | os.PathLike, lines: list[tuple[int, str]]) -> list[str]:
    names: dict[int, str] = {}
    faults = []
    for number, line in lines:
        match = ENTRY.match(line)
        if not match:
            faults.append((number, f"expected '<id> <name>', as in the other lines, got {line!r}"))
        elif int(match[1]) in names:
            faults.append((number, f"class {int(match[1])} is named a second time"))
        else:
            names[int(match[1])] = match[2]
    refuse(path, faults)
    missing = [label for label in range(len(names)) if label not in names]
    if missing:
        raise DataError(f"{path}: class {missing[0]} has no name; the ids are 0, 1, 2, ... without gap")
    return [names[label] for label in range(len(names))]
