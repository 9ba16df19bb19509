"""Unusual lists and folders, and the result of reading each: samples, or an error."""

import os
from pathlib import Path
from typing import NamedTuple

from tests.datasets.corpus import PNG

from .readers import Source


class Link(NamedTuple):
    """Symbolic link."""

    to: str


FOLDER, FIFO = object(), object()


class Listing(NamedTuple):
    """Data set, and the result of reading it.

    Attributes:
        number: its number in the corpus of `python -m tests.faults D1`.
        tree: content below the root, by path: bytes, a Link, a FOLDER or a FIFO.
        entries: (path below the split, label) of the images that are read.
        error: pattern of type and message of the error that ends training and evaluation; "" without an error.
        text: content of the list; None takes the folders as classes.
        reasons: for predict and infer, by path below train: why an image has no prediction, or "".
        is_evaluated: whether evaluation gives the same result as training.
    """

    number: int
    tree: dict
    entries: list[tuple[str, int]] = ()
    error: str = ""
    text: bytes | None = None
    reasons: dict[str, str] | None = None
    is_evaluated: bool = True


A, B = {"train/a/1.png": PNG}, {"train/a/1.png": PNG, "train/b/2.png": PNG}
ONE, TWO = [("a/1.png", 0)], [("a/1.png", 0), ("b/2.png", 1)]
LINE = b"train/a/1.png 0\n"
LOOP, MISSING, IRREGULAR = "Too many levels of symbolic links", "No such file or directory", "not a regular file"
ALONE, GONE = "l.txt:1: expected .*, got 'train/a/1.png' alone", "l.txt:2: no such file: .*train/a/2.jpg"


def listed(number: int, text: bytes, outcome: list | str, tree: dict = A) -> Listing:
    """Create a list; `outcome` is its entries, or the pattern of the error message.

    Args:
        number: number in the corpus.
        text: content of the list.
        outcome: entries, or pattern of the message.
        tree: content below the root.
    """
    if isinstance(outcome, str):
        return Listing(number, tree, error=f"^DataError .*{outcome}", text=text)
    return Listing(number, tree, outcome, text=text)


def unreadable(number: int, content: object, reason: str) -> Listing:
    """Create a folder whose second image cannot be read."""
    reasons = {"a/1.png": "", "a/2.jpg": reason}
    return Listing(number, A | {"train/a/2.jpg": content}, error=f"^BadImage .*2.jpg: {reason}", reasons=reasons)


LISTINGS = {
    "a file that is a link to itself": unreadable(67, Link("2.jpg"), LOOP),
    "a link to nothing": unreadable(68, Link("gone.jpg"), MISSING),
    "2 images and folders that hold each other": Listing(
        69,
        B | {"train/a/self": Link("../a"), "train/b/root": Link(".."), "train/b/other": Link("../b")},
        TWO,
        reasons={"a/1.png": "", "b/2.png": ""},
    ),
    "a link to a folder outside": Listing(
        70,
        A | {"train/a/out": Link("../../../outside"), "../outside/2.png": PNG},
        [*ONE, ("a/out/2.png", 0)],
        reasons={"a/1.png": "", "a/out/2.png": ""},
    ),
    "a folder that is named as an image": Listing(71, A | {"train/a/2.jpg": FOLDER}, ONE, reasons={"a/1.png": ""}),
    "a folder in a list": listed(71, LINE + b"train/a/2.jpg 1\n", GONE, A | {"train/a/2.jpg": FOLDER}),
    "a FIFO": unreadable(72, FIFO, IRREGULAR),
    "a FIFO in a list": listed(72, LINE + b"train/a/2.jpg 1\n", GONE, A | {"train/a/2.jpg": FIFO}),
    "a missing file": listed(73, LINE + b"train/a/2.jpg 1\n", GONE),
    "label -1": listed(74, b"train/a/1.png -1\n", "l.txt:1: expected a label .*, got -1"),
    "label -100, which a loss may ignore": listed(75, LINE + b"train/a/1.png -100\n", "l.txt:2: .*, got -100"),
    "a label too many": listed(
        76, b"train/a/1.png 4\n", "l.txt:1: (expected a label from 0 to 3, got 4|label 4, but --nb_classes is 4)"
    ),
    "label 1.0": listed(77, b"train/a/1.png 1.0\n", "l.txt:1: .* a whole number as label, got '1.0'"),
    "an empty label": listed(78, b"train/a/1.png \n", ALONE),
    "no label": listed(78, b"train/a/1.png\n", ALONE),
    "the same line twice": listed(79, LINE * 2, ONE * 2),
    "one path with two labels": listed(80, LINE + b"train/a/1.png 1\n", [*ONE, ("a/1.png", 1)]),
    "blank lines": listed(81, b"\n  \n" + LINE + b"\t\n", ONE),
    "comments": listed(81, b"# train/a/2.png 1\n" + LINE, ONE),
    "CRLF": listed(82, b"train/a/1.png 0\r\n", ONE),
    "a byte order mark": listed(82, b"\xef\xbb\xbf" + LINE, ONE),
    "bytes of Latin-1": listed(83, LINE + b"\xe9.png 0\n", "l.txt:2: expected UTF-8 text, got byte 0xe9"),
    "a path with blanks": listed(84, b"train/a b/1  2.png 3\n", [("a b/1  2.png", 3)], {"train/a b/1  2.png": PNG}),
    "an absolute path": listed(84, b"{root}/train/a/1.png 0\n", ONE),
    "a path that leads outside": listed(
        84, b"../outside/2.png 2\n", [("../outside/2.png", 2)], A | {"../outside/2.png": PNG}
    ),
    "one line without its end": listed(85, LINE.strip(), ONE),
    "an empty list": listed(86, b"", "l.txt: expected .*, got a list without images"),
    "a class without a file": Listing(
        87, A | {"train/b": FOLDER}, error="^DataError .*: no image in class b", reasons={"a/1.png": ""}
    ),
    "a class that val has not": Listing(
        87,
        B | {"train/c/3.png": PNG, "val/a/1.png": PNG, "val/c/3.png": PNG},
        error="^DataError class b is in .*train but not in .*val",
        is_evaluated=False,
    ),
    "one class": Listing(88, A, ONE, reasons={"a/1.png": ""}),
    "a class of bad images": Listing(
        89,
        B | {"train/b/2.png": b"text", "train/c/3.png": PNG},
        error="^BadImage .*2.png: not an image",
        reasons={"a/1.png": "", "b/2.png": "not an image", "c/3.png": ""},
    ),
}


def build(listing: Listing, folder: Path) -> Source:
    """Write the data set into `folder`; a missing val is a link to train."""
    root = folder / "data"
    for name, content in listing.tree.items():
        path = Path(os.path.normpath(root / name))
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            path.symlink_to(content.to)
        elif content is FOLDER:
            path.mkdir()
        elif content is FIFO:
            os.mkfifo(path)
        else:
            path.write_bytes(content)
    if not (root / "val").exists():
        (root / "val").symlink_to("train")
    if listing.text is not None:
        (folder / "l.txt").write_bytes(listing.text.replace(b"{root}", os.fsencode(root)))
    return Source(root, folder / "l.txt" if listing.text is not None else None, root / "train")
