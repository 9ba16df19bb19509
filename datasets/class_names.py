"""Class names: a file with a line `<id> <names>` for each class."""

import os
from pathlib import Path

from common.errors import DataError

from .reading.text_lines import read_lines, refuse

IMAGENET_LABEL_LIST = Path(__file__).parent / "imagenet1k_label_list.txt"


def read_class_names(path: str | os.PathLike, num_classes: int | None = None) -> list[str]:
    """The names in the order of their ids, which must be 0, 1, 2, ... without gap, in any order of lines.

    Raises:
        DataError: naming the line that is wrong, the id that is missing, or the count that is not `num_classes`.
    """
    names: dict[int, str] = {}
    faults = []
    for number, line in read_lines(path):
        label, _, name = line.decode("utf-8").partition(" ")
        if not label.isdecimal() or not name.strip():
            faults.append((number, f"expected '<id> <names>', got {line.decode('utf-8')!r}"))
        elif int(label) in names:
            faults.append((number, f"class {int(label)} is named a second time"))
        else:
            names[int(label)] = name.strip()
    refuse(path, faults)
    if num_classes is not None and len(names) != num_classes:
        raise DataError(f"{path}: expected the names of {num_classes} classes, got {len(names)}")
    missing = [label for label in range(len(names)) if label not in names]
    if missing or not names:
        raise DataError(f"{path}: class {missing[0] if missing else 0} has no name")
    return [names[label] for label in range(len(names))]
