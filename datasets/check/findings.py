"""What can be wrong with a data set, how bad that is, and what to do: a table of kinds, and a rule for each."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..reading.image_list import ImageList
from ..reading.tar_members import is_member

SHOWN = 5  # examples of a finding in the report
TINY = 32  # pixels of the short side below which an image is mostly interpolation
RIBBON = 4.0  # long side by short side above which a crop shows little of an image
IMBALANCE = 10.0  # largest class by smallest

ORDINARY_MODES = (b"RGB", b"L")
EXTENSIONS = {
    b"JPEG": (b"jpg", b"jpeg"),
    b"MPO": (b"jpg", b"jpeg"),
    b"PNG": (b"png",),
    b"GIF": (b"gif",),
    b"BMP": (b"bmp",),
    b"WEBP": (b"webp",),
    b"TIFF": (b"tif", b"tiff"),
    b"PPM": (b"ppm", b"pgm"),
}


class Kind(NamedTuple):
    """A row of the table: "error" makes a training wrong or end, "warning" makes it worse than it could be."""

    severity: str
    what: str
    fix: str


CLEAN = "--write_clean_lists leaves them out"

KINDS = {
    "faulty_line": Kind("error", "lines of a list that are not '<relative path> <label>'", f"correct them; {CLEAN}"),
    "label_range": Kind("error", "labels out of range", f"correct them or --nb_classes; {CLEAN}"),
    "missing": Kind("error", "files that are not there, or not opened", f"see why, behind the path of each; {CLEAN}"),
    "empty": Kind("error", "files of 0 bytes", f"download them again; {CLEAN}"),
    "unreadable": Kind("error", "files that cannot be decoded", f"download them again; {CLEAN}"),
    "changed": Kind("error", "files that are not those of the manifest", "bring the old ones back, or write it anew"),
    "gone": Kind("error", "files of the manifest that are not there", "bring them back, or write it anew"),
    "two_labels": Kind("error", "copies of one picture with different labels", f"find the right label; {CLEAN}"),
    "train_in_val": Kind(
        "error", "validation images that are also trained on", f"{CLEAN} of train; scores on them are not to be trusted"
    ),
    "untrained_class": Kind("error", "classes of val without an image in train", "add images, or drop them from val"),
    "unscored_class": Kind("warning", "classes of train without an image in val", "move some images to val"),
    "empty_class": Kind("error", "class folders without an image", "remove the folders, or add images"),
    "no_image": Kind("error", "splits without an image", "docs/data.md says how train and val may be laid out"),
    "suspect": Kind("warning", "JPEGs that decode with complaints, perhaps wrong", "look at them; download again"),
    "listed_twice": Kind("warning", "lines that name a file a second time", f"remove them; {CLEAN}"),
    "copies": Kind("warning", "further copies of a picture in the same split", "keep one of each"),
    "imbalance": Kind("warning", "classes with too few images", "collect more, or mind that accuracy hides them"),
    "tiny": Kind("warning", f"images whose short side is below {TINY} pixels", "look whether these are thumbnails"),
    "ribbon": Kind("warning", f"images longer than {RIBBON:.0f} times their width", "look at them; cut them"),
    "blank": Kind("warning", "images of one colour all over", "look at them; they may stand for missing ones"),
    "turned": Kind("warning", "photographs that EXIF turns", "--exif_orientation apply, in training and evaluation"),
    "odd_mode": Kind("warning", "images with alpha, a palette, CMYK or 16 bits", "docs/data.md says what each becomes"),
    "animated": Kind("warning", "animations, of which the first frame is taken", "store the frame that is meant"),
    "extension": Kind("warning", "files whose name does not say their format", "harmless here; rename them for others"),
}  # fmt: skip


@dataclass
class Finding:
    """Something wrong: of which kind, in how many places, some of them, and what a clean list leaves out."""

    kind: str
    count: int
    examples: list[str]
    split: str = ""
    dropped: list[int] = field(default_factory=list)  # indices in the split

    @property
    def severity(self) -> str:
        return KINDS[self.kind].severity


@dataclass
class Split:
    """A split as it was read: its images, their facts, and what its list or folder was already found wrong in."""

    name: str
    images: ImageList
    facts: np.ndarray
    reasons: dict[int, str]
    early: list[Finding] = field(default_factory=list)

    def finding(self, kind: str, indices: np.ndarray, *, drop: bool = False, because: dict | None = None) -> Finding:
        """Of `kind` at `indices`; `because` tells more of some of them."""
        indices = np.asarray(indices).tolist()
        examples = [self.describe(i) + (f": {because[i]}" if because else "") for i in indices[:SHOWN]]
        return Finding(kind, len(indices), examples, self.name, indices if drop else [])

    def describe(self, index: int) -> str:
        return f"{self.images.path(index)} ({self.images.place(index)})"


def find_all(splits: list[Split]) -> list[Finding]:
    """Every finding of the splits alone and together, errors first."""
    found = [finding for split in splits for finding in (*split.early, *_of_files(split), *_of_classes(split))]
    found += _of_copies(splits)
    if len(splits) == 2:
        found += _between(*splits)
    order = list(KINDS)
    return sorted((one for one in found if one.count), key=lambda one: (one.severity, order.index(one.kind), one.split))


def _of_files(split: Split) -> Iterator[Finding]:
    facts, reasons = split.facts, split.reasons
    bad = np.array(sorted(reasons), np.int64)
    is_missing = facts["num_bytes"][bad] < 0
    is_empty = facts["num_bytes"][bad] == 0
    yield split.finding("missing", bad[is_missing], drop=True, because=reasons)
    yield split.finding("empty", bad[is_empty], drop=True)
    yield split.finding("unreadable", bad[~is_missing & ~is_empty], drop=True, because=reasons)

    is_good = np.ones(len(facts), bool)
    is_good[bad] = False
    short, long = np.minimum(facts["width"], facts["height"]), np.maximum(facts["width"], facts["height"])
    odd = ~np.isin(facts["mode"], ORDINARY_MODES)
    rules = {
        "suspect": facts["is_suspect"],
        "tiny": short < TINY,
        "ribbon": long > RIBBON * np.maximum(short, 1),
        "blank": facts["is_blank"] & (long > 1),
        "turned": facts["orientation"] > 1,
        "odd_mode": odd & ~facts["is_animated"],
        "animated": facts["is_animated"],
    }
    for kind, applies in rules.items():
        yield split.finding(kind, np.flatnonzero(applies & is_good))
    if is_good.any() and not is_member(split.images.path(0)):  # a place in a shard has no extension
        expected = [facts["extension"][i] in EXTENSIONS.get(facts["format"][i], ()) for i in np.flatnonzero(is_good)]
        yield split.finding("extension", np.flatnonzero(is_good)[~np.array(expected)])


def _of_classes(split: Split) -> Iterator[Finding]:
    labels, counts = np.unique(split.images.labels, return_counts=True)
    small = labels[counts * IMBALANCE < counts.max(initial=0)]
    of = dict(zip(labels.tolist(), counts.tolist(), strict=True))
    examples = [
        f"class {name_of(split, label)}: {of[label]} of up to {counts.max()}" for label in small[:SHOWN].tolist()
    ]
    yield Finding("imbalance", len(small), examples, split.name)


def name_of(split: Split, label: int) -> str:
    """What a report calls a class."""
    names = split.images.class_names
    return f"{label} ({names[label]})" if names and label < len(names) else str(label)


def _of_copies(splits: list[Split]) -> Iterator[Finding]:
    """Pictures that are there more than once, by their pixels, in one split or in both."""
    pixels = np.concatenate([split.facts["pixels"] for split in splits])
    labels = np.concatenate([split.images.labels for split in splits])
    owner = np.repeat(np.arange(len(splits)), [len(split.facts) for split in splits])
    row = np.concatenate([np.arange(len(split.facts)) for split in splits])
    can_repeat = (pixels != b"") & ~np.concatenate([split.facts["is_blank"] for split in splits])
    _, group, size = np.unique(pixels, return_inverse=True, return_counts=True)
    members = np.flatnonzero((size[group] > 1) & can_repeat)
    members = members[np.lexsort((members, group[members]))]
    groups = np.split(members, np.flatnonzero(np.diff(group[members])) + 1) if len(members) else []
    two_labels, leaks, copies, twice = ([[] for _ in splits] for _ in range(4))
    for one in groups:
        if len(np.unique(labels[one])) > 1:
            for i in one:
                two_labels[owner[i]].append(row[i])
            continue
        if len(np.unique(owner[one])) > 1:
            for i in one[owner[one] == 0]:
                leaks[0].append(row[i])
        for at, split in enumerate(splits):
            seen = set()
            for i in row[one[owner[one] == at]].tolist():
                path = split.images.path(i)
                if path in seen:
                    twice[at].append(i)
                elif seen:
                    copies[at].append(i)
                seen.add(path)
    for at, split in enumerate(splits):
        yield split.finding("two_labels", sorted(two_labels[at]), drop=True)
        yield split.finding("train_in_val", sorted(leaks[at]), drop=True)
        yield split.finding("listed_twice", sorted(twice[at]), drop=True)
        yield split.finding("copies", sorted(copies[at]))


def _between(train: Split, val: Split) -> Iterator[Finding]:
    for kind, here, there in (("untrained_class", val, train), ("unscored_class", train, val)):
        if here.images.class_names and there.images.class_names:
            alone = sorted(set(here.images.class_names) - set(there.images.class_names))
        else:
            missing = np.setdiff1d(here.images.labels, there.images.labels).tolist()
            alone = [name_of(here, label) for label in missing]
        yield Finding(kind, len(alone), [f"class {name}" for name in alone[:SHOWN]], here.name)
