"""The embedded demonstration data: scikit-learn's 1,797 scanned digits as an ImageNet-style folder with list files.

python -m datasets.digits FOLDER
"""

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from common.cli import run
from common.errors import MissingDependencyError

from .reading.image_list import write_image_list

SIDE = 32  # of the images that are written; the scans are 8 x 8
VAL_EVERY = 5  # each fifth scan of a class is for validation
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def write_digits(folder: str | os.PathLike) -> Path:
    """Write train/<class>/*.png, val/<class>/*.png, train_list.txt, val_list.txt and label_list.txt to `folder`.

    The same files every time: 1,442 to train and 355 to validate. The scans come from the test set of NIST's digits
    (Alpaydin and Kaynak, 1998) and are in scikit-learn's package, so nothing is downloaded.
    """
    folder = Path(folder)
    scans, labels = _load_scans()
    entries = {"train": [], "val": []}
    for label in range(len(NAMES)):
        for i, scan in enumerate(scans[labels == label]):
            split = "val" if i % VAL_EVERY == VAL_EVERY - 1 else "train"
            name = f"{split}/{label}/{label}_{i:03d}.png"
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _picture(scan).save(path)
            entries[split].append((name, label))
    for split, named in entries.items():
        write_image_list(folder / f"{split}_list.txt", named)
    lines = (f"{label} {name}\n" for label, name in enumerate(NAMES))
    (folder / "label_list.txt").write_text("".join(lines), encoding="utf-8")
    return folder


def _load_scans() -> tuple[np.ndarray, np.ndarray]:
    """[1797, 8, 8] with values 0 to 16, and [1797] labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingDependencyError("the digits are part of scikit-learn: pip install scikit-learn") from None
    digits = load_digits()
    return digits.images, digits.target


def _picture(scan: np.ndarray) -> Image.Image:
    small = Image.fromarray(np.round(scan * (255 / 16)).astype(np.uint8))
    return small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m datasets.digits FOLDER", file=sys.stderr)
        return 2
    print(f"wrote {write_digits(arguments[0])}")
    return 0


if __name__ == "__main__":
    run(main)
