"""Write a data set of IDX files (MNIST, Fashion-MNIST, KMNIST, EMNIST) as ImageNet-style folders with list files.

python -m datasets.idx fashion-mnist --output_dir fashion
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL")

import argparse
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.cli import did_you_mean, did_you_mean_path, home_path, run
from common.errors import DataError, MissingDependencyError
from common.files import CHECKSUM_SUFFIX, disk_errors, write_atomically, write_with_checksum
from common.printable import print_safely
from common.regular_files import read_regular

from .class_names import read_class_names
from .idx_file import IdxFile
from .reading.image_list import write_image_list
from .reading.text_lines import read_lines, refuse

FASHION_MNIST = "fashion-mnist"  # as a source: the folder of the Debian package
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
NAMES = {
    "fashion-mnist": ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
                      "Ankle boot"),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "mnist": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
}  # fmt: skip
FILE = re.compile(
    r"(?:(?P<set>.+)-)?(?P<split>train|t10k|test)-(?P<kind>images|labels)[-.]idx[13]-ubyte(?P<gz>\.gz)?", re.ASCII
)
KINDS = ("images", "labels")
SETTINGS_FILE = "idx.json"  # written first: a second run writes the same files again, or is refused
MAX_SETTINGS_BYTES = 2**16
MAPPING = "mapping.txt"  # of EMNIST: one line `<label> <code point of a letter> ...` per class
MAX_CODE_POINT = 0x10FFFF


@dataclass(frozen=True)
class Source:
    """The four files of a data set, checked, and what its classes are called.

    Attributes:
        images: for "train" and "val".
        labels: class of each image, for "train" and "val", [N] int64, from 0 on.
        names: of the classes.
        is_transposed: whether rows and columns of the images are exchanged in the files.
        notes: sentences for the reader.
    """

    images: dict[str, IdxFile]
    labels: dict[str, np.ndarray]
    names: tuple[str, ...]
    is_transposed: bool
    notes: tuple[str, ...]


def open_source(
    source: str | os.PathLike, *, name_of_set: str = "", class_names: str = "", transpose: bool | None = None
) -> Source:
    """Find and check the four files of a data set.

    Args:
        source: the folder of the files, or "fashion-mnist" for the folder of the Debian package.
        name_of_set: what the file names begin with, where a folder holds several sets, as that of EMNIST does.
        class_names: key of NAMES, or a file of class names; "" takes what the source tells.
        transpose: whether rows and columns are exchanged; None: in files of EMNIST.

    Raises:
        DataError: a file is missing, damaged, or does not fit the others.
        MissingDependencyError: the Debian package is not installed.
    """
    folder = _find_folder(source)
    name_of_set, paths = _choose_set(folder, name_of_set)
    images = {split: IdxFile.of_images(paths[split, "images"]) for split in ("train", "val")}
    labels = {}
    for split, pictures in images.items():
        file = IdxFile.of_labels(paths[split, "labels"])
        if len(file) != len(pictures):
            raise DataError(
                f"{file.path}: {len(file):,} labels, but {pictures.path} has {len(pictures):,} images; the two files "
                "are not of one data set"
            )
        labels[split] = file.read_all().astype(np.int64)
        pictures.check()  # before anything is written
    mapping = folder / f"{name_of_set}-{MAPPING}" if name_of_set else folder / MAPPING
    first, names, note = _first_label_and_names(labels["train"], mapping, _names_of(source, class_names))
    notes = [note] if note else []
    is_transposed = name_of_set.startswith("emnist") if transpose is None else transpose
    if is_transposed and transpose is None:
        notes.append("files of EMNIST exchange rows and columns, which is undone; --no_transpose leaves them")
    labels = {split: array - first for split, array in labels.items()}
    for split, array in labels.items():
        _check_range(array, len(names), paths[split, "labels"], first)
    return Source(images, labels, names, is_transposed, tuple(notes))


def _find_folder(source: str | os.PathLike) -> Path:
    folder = Path(source)
    if os.fspath(source) == FASHION_MNIST and not folder.exists():
        if not DEBIAN_FOLDER.is_dir():
            raise MissingDependencyError(
                f"{DEBIAN_FOLDER}: no such folder; apt-get install dataset-fashion-mnist, or give the folder of the "
                "four files"
            )
        return DEBIAN_FOLDER
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder{did_you_mean_path(folder)}")
    return folder


def _choose_set(folder: Path, wanted: str) -> tuple[str, dict[tuple[str, str], Path]]:
    """The name of the set, and {(split, kind): path} of its files; an unpacked file is taken before its archive."""
    sets: dict[str, dict[tuple[str, str], Path]] = {}
    for path in sorted(folder.iterdir(), reverse=True):  # `x.gz` before `x`
        if match := FILE.fullmatch(path.name):
            split = "train" if match["split"] == "train" else "val"
            sets.setdefault(match["set"] or "", {})[split, match["kind"]] = path
    if not sets:
        raise DataError(
            f"{folder}: no IDX files; expected train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, "
            "t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz, or the same without .gz"
        )
    if not wanted and len(sets) > 1:
        raise DataError(f"{folder}: holds {len(sets)} data sets; choose one by --set: {', '.join(sorted(sets))}")
    name = wanted or next(iter(sets))
    if name not in sets:
        raise DataError(
            f"{folder}: no files of --set {name}{did_you_mean(name, sets)}; known: {', '.join(sorted(sets))}"
        )
    for split, stem in (("train", "train"), ("val", "t10k or test")):
        for kind in KINDS:
            if (split, kind) not in sets[name]:
                raise DataError(f"{folder}: the file of the {kind} of {stem} is missing")
    return name, sets[name]


def _names_of(source: str | os.PathLike, class_names: str) -> tuple[str, ...]:
    if not class_names and os.fspath(source) == FASHION_MNIST:
        return NAMES[FASHION_MNIST]
    if class_names in NAMES or not class_names:
        return NAMES.get(class_names, ())
    if not os.path.exists(class_names):
        raise DataError(
            f"--class_names {class_names}: no such file{did_you_mean(class_names, NAMES)}; known data sets: "
            f"{', '.join(NAMES)}"
        )
    return tuple(read_class_names(class_names))


def _first_label_and_names(labels: np.ndarray, mapping: Path, given: Sequence[str]) -> tuple[int, tuple[str, ...], str]:
    """The label of the first class, the names of all classes, and a note; `labels` are those of training.

    EMNIST's letters have the labels 1 to 26. A mapping file says so; without it the smallest label does.
    """
    by_label = _read_mapping(mapping) if mapping.exists() else {}
    first = min(by_label) if by_label else int(labels.min() == 1 and len(given) in (0, int(labels.max())))
    number = len(by_label) or len(given) or int(labels.max()) - first + 1
    note = f"the labels of the files begin at {first}; here the first class is 0" if first else ""
    if given and len(given) != number:
        raise DataError(f"{len(given)} class names for {number} classes; correct --class_names")
    if given:
        return first, tuple(given), note
    if by_label:
        return first, tuple(by_label[label] for label in sorted(by_label)), note
    width = len(str(number - 1))
    numbers = tuple(f"{label:0{width}d}" for label in range(number))
    advice = f"the classes are called by their numbers; --class_names {', '.join(NAMES)} or a file names them"
    return first, numbers, f"{note}; {advice}" if note else advice


def _read_mapping(path: Path) -> dict[int, str]:
    """{label: the letters of its class} of EMNIST, whose labels follow each other without gap."""
    names: dict[int, str] = {}
    faults = []
    for number, line in read_lines(path, MAX_SETTINGS_BYTES):
        words = line.split()
        if len(words) < 2 or not all(word.isdigit() and len(word) < 8 for word in words):
            faults.append((number, f"expected '<label> <code point> ...', got {line.decode()!r}"))
            continue
        label, *codes = map(int, words)
        letters = "".join(chr(code) if code <= MAX_CODE_POINT else " " for code in codes)
        if label in names or not letters.isprintable() or letters != letters.strip():
            faults.append((number, f"label {label} a second time, or letters that cannot be shown"))
        names[label] = letters
    refuse(path, faults)
    if not names or sorted(names) != list(range(min(names), min(names) + len(names))) or min(names) > 1:
        raise DataError(f"{path}: expected the labels 0, 1, 2, ... or 1, 2, 3, ... without gap")
    if len(set(names.values())) < len(names):
        raise DataError(f"{path}: two labels have the same letters")
    return names


def _check_range(labels: np.ndarray, number: int, path: Path, first: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= number))
    if len(wrong):
        raise DataError(
            f"{path}: label {labels[wrong[0]] + first} of image {wrong[0]}, but the {number} classes have the labels "
            f"{first} to {first + number - 1}"
        )


def write_source(source: Source, folder: str | os.PathLike) -> Path:
    """Write train/<class>/*.png, val/<class>/*.png, train_list.txt, val_list.txt and label_list.txt to `folder`.

    A picture keeps its pixels; its name is its number in the file. The lists, which say that all is there, are removed
    first and written last, so a run that was stopped is repeated by the same command and leaves the same files.

    Raises:
        DataError: the folder holds other images; or a file changed while it was read.
        DiskError: a file cannot be written.
    """
    folder = Path(folder)
    _claim(folder, _settings(source))
    width = len(str(len(source.names) - 1))
    entries: dict[str, list[tuple[str, int]]] = {}
    with disk_errors(folder):
        for name in ("train_list.txt", "val_list.txt", "label_list.txt"):
            for path in (folder / f"{name}{CHECKSUM_SUFFIX}", folder / name):
                path.unlink(missing_ok=True)
        for split, images in source.images.items():
            for label in range(len(source.names)):
                (folder / split / f"{label:0{width}d}").mkdir(parents=True, exist_ok=True)
            entries[split] = sorted(_write_images(images, source, folder, split, width))
        if hasattr(os, "sync"):
            os.sync()  # once: to flush 70,000 files one by one takes minutes on a disk that rotates
        lines = (f"{label} {name}\n" for label, name in enumerate(source.names))
        write_with_checksum(folder / "label_list.txt", "".join(lines))
    for split, named in entries.items():
        write_image_list(folder / f"{split}_list.txt", named)
    return folder


def _write_images(images: IdxFile, source: Source, folder: Path, split: str, width: int) -> Iterable[tuple[str, int]]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    rows = track(images.rows(), f"{split}:", len(images), console=console, disable=not console.is_terminal)
    digits = len(str(len(images) - 1))
    for number, (pixels, label) in enumerate(zip(rows, source.labels[split].tolist(), strict=True)):
        name = f"{split}/{label:0{width}d}/{number:0{digits}d}.png"
        Image.fromarray(pixels.T if source.is_transposed else pixels).save(folder / name)
        yield name, label


def _settings(source: Source) -> dict:
    labels = {split: hashlib.sha256(array.tobytes()).hexdigest() for split, array in source.labels.items()}
    images = {split: file.check() for split, file in source.images.items()}
    return {"images": images, "labels": labels, "is_transposed": source.is_transposed}


def _claim(folder: Path, settings: dict) -> None:
    """Write what the folder will hold; a folder that holds something else is refused."""
    path, text = folder / SETTINGS_FILE, json.dumps(settings, indent=1)
    with disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and read_regular(path, MAX_SETTINGS_BYTES) == text.encode():
            return
        if any(folder.iterdir()):
            raise DataError(f"{folder}: holds other files; choose another --output_dir, or remove it")
        write_atomically(path, text)


def create_parser() -> argparse.ArgumentParser:
    """The flags of the program."""
    parser = argparse.ArgumentParser(prog="python -m datasets.idx", description=__doc__.splitlines()[0])
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="folder of the four files, gz or plain; fashion-mnist: that of Debian's package",
    )
    parser.add_argument("--output_dir", type=home_path, required=True, help="folder to write: the later --data_path")
    parser.add_argument("--set", default="", help="data set of a folder that holds several, for example emnist-letters")
    parser.add_argument(
        "--class_names", default="", type=os.path.expanduser, help=f"{', '.join(NAMES)}, or a file of class names"
    )
    for word, value, text in (("transpose", True, "exchange"), ("no_transpose", False, "do not exchange")):
        parser.add_argument(
            f"--{word}", dest="transpose", action="store_const", const=value,
            help=f"{text} rows and columns; default: exchange them in files of EMNIST",
        )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    flags = create_parser().parse_args(argv)
    path = os.path.expanduser(flags.source)
    source = open_source(path, name_of_set=flags.set, class_names=flags.class_names, transpose=flags.transpose)
    for note in source.notes:
        print_safely(f"note: {note}")
    folder = write_source(source, flags.output_dir)
    counts = ", ".join(f"{len(images):,} images in {split}/" for split, images in source.images.items())
    height, width = source.images["train"].shape[1:]
    print_safely(f"{folder}: {counts}, {len(source.names)} classes, {width} x {height} pixels")
    return 0


if __name__ == "__main__":
    run(main)
