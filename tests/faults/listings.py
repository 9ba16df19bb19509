"""Lists and folders with something odd in them, and what becomes of each: which samples, or which error."""

import os
from pathlib import Path
from typing import NamedTuple

from tests.datasets.corpus import PNG

from .ways import Source


class Link(NamedTuple):
    to: str


FOLDER, FIFO = object(), object()


class Listing(NamedTuple):
    """A data set; `tree` has what is below its root, by path: bytes, a Link, a FOLDER or a FIFO."""

    number: int  # of the corpus that `python -m tests.faults D1` goes through
    tree: dict
    entries: list[tuple[str, int]] = ()  # path from the split, and label: what is read where nothing ends it
    error: str = ""  # or what ends training and evaluation: type and message match this
    text: bytes | None = None  # of a list; without one the folders are the classes
    answers: dict[str, str] | None = None  # of predict and infer, of the folder train: why not, or ""
    is_evaluated: bool = True


A, B = {"train/a/1.png": PNG}, {"train/a/1.png": PNG, "train/b/2.png": PNG}
ONE, TWO = [("a/1.png", 0)], [("a/1.png", 0), ("b/2.png", 1)]
LINE = b"train/a/1.png 0\n"
LOOP, MISSING, IRREGULAR = "Too many levels of symbolic links", "No such file or directory", "not a regular file"
ALONE, GONE = "l.txt:1: expected .*, got 'train/a/1.png' alone", "l.txt:2: no such file: .*train/a/2.jpg"


def listed(number: int, text: bytes, outcome: list | str, tree: dict = A) -> Listing:
    """A list: `outcome` is what it holds, or how the message of its refusal goes."""
    if isinstance(outcome, str):
        return Listing(number, tree, error=f"^DataError .*{outcome}", text=text)
    return Listing(number, tree, outcome, text=text)


def odd(number: int, thing: object, reason: str) -> Listing:
    """A folder with something that only looks like a second image: by reading it shows."""
    answers = {"a/1.png": "", "a/2.jpg": reason}
    return Listing(number, A | {"train/a/2.jpg": thing}, error=f"^BadImage .*2.jpg: {reason}", answers=answers)


LISTINGS = {
    "a file that is a link to itself": odd(67, Link("2.jpg"), LOOP),
    "a link to nothing": odd(68, Link("gone.jpg"), MISSING),
    "2 images and folders that hold each other": Listing(
        69,
        B | {"train/a/self": Link("../a"), "train/b/root": Link(".."), "train/b/other": Link("../b")},
        TWO,
        answers={"a/1.png": "", "b/2.png": ""},
    ),
    "a link to a folder outside": Listing(
        70,
        A | {"train/a/out": Link("../../../outside"), "../outside/2.png": PNG},
        [*ONE, ("a/out/2.png", 0)],
        answers={"a/1.png": "", "a/out/2.png": ""},
    ),
    "a folder that is named as an image": Listing(71, A | {"train/a/2.jpg": FOLDER}, ONE, answers={"a/1.png": ""}),
    "a folder in a list": listed(71, LINE + b"train/a/2.jpg 1\n", GONE, A | {"train/a/2.jpg": FOLDER}),
    "a FIFO": odd(72, FIFO, IRREGULAR),
    "a FIFO in a list": listed(72, LINE + b"train/a/2.jpg 1\n", GONE, A | {"train/a/2.jpg": FIFO}),
    "a missing file": listed(73, LINE + b"train/a/2.jpg 1\n", GONE),
    "label -1": listed(74, b"train/a/1.png -1\n", "l.txt:1: expected a label from 0 to 3, got -1"),
    "label -100, which a loss may ignore": listed(75, LINE + b"train/a/1.png -100\n", "l.txt:2: .*, got -100"),
    "a label too many": listed(76, b"train/a/1.png 4\n", "l.txt:1: expected a label from 0 to 3, got 4"),
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
        87, A | {"train/b": FOLDER}, error="^DataError .*: no image in class b", answers={"a/1.png": ""}
    ),
    "a class that val has not": Listing(
        87,
        B | {"train/c/3.png": PNG, "val/a/1.png": PNG, "val/c/3.png": PNG},
        error="^DataError class b is in .*train but not in .*val",
        is_evaluated=False,
    ),
    "one class": Listing(88, A, ONE, answers={"a/1.png": ""}),
    "a class of bad images": Listing(
        89,
        B | {"train/b/2.png": b"text", "train/c/3.png": PNG},
        error="^BadImage .*2.png: not an image",
        answers={"a/1.png": "", "b/2.png": "not an image", "c/3.png": ""},
    ),
}


def build(listing: Listing, folder: Path) -> Source:
    """The data set in `folder`; where it has no val of its own, that is train."""
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
