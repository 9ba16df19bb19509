"""Write the demonstration data: scikit-learn's 1,797 scanned digits as ImageNet-style folders with list files.

python -m datasets.digits FOLDER
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL")

import argparse
import os
from pathlib import Path

import numpy as np
from PIL import Image

from common.cli import home_path, run
from common.errors import MissingDependencyError
from common.files import disk_errors, write_with_checksum
from common.printable import print_safely

from .reading.image_list import write_image_list

SIDE = 32  # side of the written images in pixels; the scans have 8 x 8
VAL_EVERY = 5  # every fifth scan of a class is for validation
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def write_digits(folder: str | os.PathLike) -> Path:
    """Write train/<class>/*.png, val/<class>/*.png, train_list.txt, val_list.txt and label_list.txt to `folder`.

    The files are the same every time: 1,442 for training and 355 for validation. The scans come from the test set of
    NIST's digits (Alpaydin and Kaynak, 1998) and are part of scikit-learn, so nothing is downloaded.

    Raises:
        DiskError: a file cannot be written.
        MissingDependencyError: scikit-learn is not installed.
    """
    folder = Path(folder)
    scans, labels = _load_scans()
    entries = {"train": [], "val": []}
    with disk_errors(folder):
        for label in range(len(NAMES)):
            for i, scan in enumerate(scans[labels == label]):
                split = "val" if i % VAL_EVERY == VAL_EVERY - 1 else "train"
                name = f"{split}/{label}/{label}_{i:03d}.png"
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                _to_image(scan).save(path)
                entries[split].append((name, label))
        lines = (f"{label} {name}\n" for label, name in enumerate(NAMES))
        write_with_checksum(folder / "label_list.txt", "".join(lines))
    for split, named in entries.items():
        write_image_list(folder / f"{split}_list.txt", named)
    return folder


def _load_scans() -> tuple[np.ndarray, np.ndarray]:
    """Scans [1797, 8, 8] with values 0 to 16, and labels [1797]."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingDependencyError("the digits are part of scikit-learn: pip install scikit-learn") from None
    digits = load_digits()
    return digits.images, digits.target


def _to_image(scan: np.ndarray) -> Image.Image:
    small = Image.fromarray(np.round(scan * (255 / 16)).astype(np.uint8))
    return small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m datasets.digits", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=home_path, metavar="FOLDER", help="folder to write")
    print_safely(f"wrote {write_digits(parser.parse_args(argv).folder)}")
    return 0


if __name__ == "__main__":
    run(main)
