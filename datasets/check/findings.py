"""Findings: what can be wrong with a data set, how severe it is, and what to do; a table, and a rule for each kind."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..near_copies import find_near_copies
from ..reading.image_list import ImageList
from ..reading.shards import is_member

MAX_EXAMPLES = 5  # of one finding in the report
TINY = 32  # pixels; a smaller short side is mostly interpolated
LONG = 4.0  # long side / short side; a crop of a longer image shows little of it
IMBALANCE = 10.0  # images of the largest class / images of a class
FEW = 5  # images of a class; with fewer than that neither training nor a split of them says anything

ORDINARY_MODES = (b"RGB", b"L")
EXTENSIONS = {
    b"JPEG": (b"jpg", b"jpeg", b"jpe", b"jfif", b"jfi"),
    b"MPO": (b"jpg", b"jpeg", b"jpe", b"jfif", b"jfi"),
    b"PNG": (b"png",),
    b"GIF": (b"gif",),
    b"BMP": (b"bmp",),
    b"WEBP": (b"webp",),
    b"TIFF": (b"tif", b"tiff"),
    b"PPM": (b"ppm", b"pgm"),
}


class Kind(NamedTuple):
    """A kind of finding: an "error" ends a training or makes its numbers wrong, a "warning" makes them worse."""

    severity: str
    what: str
    fix: str


CLEAN = "--write_clean_lists leaves them out"

KINDS = {
    "faulty_line": Kind("error", "lines of a list that are not '<relative path> <label>'", f"correct them; {CLEAN}"),
    "label_range": Kind("error", "labels out of range", f"correct them or --nb_classes; {CLEAN}"),
    "missing": Kind("error", "files that are missing or cannot be opened", f"the reason is behind each path; {CLEAN}"),
    "empty": Kind("error", "files of 0 bytes", f"download them again; {CLEAN}"),
    "unreadable": Kind("error", "files that cannot be decoded", f"download them again; {CLEAN}"),
    "changed": Kind("error", "files that differ from the manifest", "restore the files, or write the manifest again"),
    "gone": Kind("error", "files of the manifest that are missing", "restore the files, or write the manifest again"),
    "two_labels": Kind("error", "copies of one image with different labels", f"find the right label; {CLEAN}"),
    "train_in_val": Kind(
        "error", "validation images that are also trained on", f"{CLEAN} of train; scores on these images are too good"
    ),
    "near_in_val": Kind(
        "warning", "validation images with a near-copy in train", "view them; scores on these images are too good"
    ),
    "near_two_labels": Kind("warning", "near-copies with different labels", "view them; find the right label"),
    "near_copies": Kind("warning", "near-copies: other size or compression", "keep one of each"),
    "untrained_class": Kind("error", "classes of val without an image in train", "add images, or drop them from val"),
    "unscored_class": Kind("warning", "classes of train without an image in val", "move some images to val"),
    "empty_class": Kind("error", "class folders without an image", "remove the folders, or add images"),
    "unlistable": Kind("warning", "files whose names no line of a list can hold", f"rename them; {CLEAN}"),
    "no_image": Kind("error", "splits without an image", "docs/data.md says how train and val may be laid out"),
    "suspect": Kind("warning", "JPEGs that a decoder reports as faulty", "view them; download them again"),
    "listed_twice": Kind("warning", "lines that name a file a second time", f"remove them; {CLEAN}"),
    "copies": Kind("warning", "further copies of an image in the same split", "keep one of each"),
    "imbalance": Kind("warning", "classes with too few images", "collect more; the accuracy hardly depends on them"),
    "few": Kind("warning", f"classes of fewer than {FEW} images", "collect more; begin with 100 of each"),
    "tiny": Kind("warning", f"images whose short side is below {TINY} pixels", "check whether they are thumbnails"),
    "ribbon": Kind("warning", f"images longer than {LONG:.0f} times their width", "view them; crop them"),
    "blank": Kind("warning", "images of a single colour", "view them; they may replace missing ones"),
    "turned": Kind("warning", "photographs that EXIF rotates", "--exif_orientation apply; the recipe has it"),
    "odd_mode": Kind("warning", "images with alpha, palette, CMYK or 16 bits", "docs/data.md says how each is decoded"),
    "animated": Kind("warning", "animations, of which the first frame is used", "store the wanted frame"),
    "extension": Kind("warning", "files with the extension of another format", "harmless here; rename them for others"),
}  # fmt: skip


@dataclass
class Finding:
    """Something that is wrong: its kind, the number of places, some of the places, and what a clean list leaves out."""

    kind: str
    count: int
    examples: list[str]
    split: str = ""
    dropped: list[int] = field(default_factory=list)  # indices in the split

    @property
    def severity(self) -> str:
        """Severity of the kind: "error" or "warning"."""
        return KINDS[self.kind].severity


@dataclass
class Split:
    """An examined split: its images, their facts, why some cannot be decoded, and findings of its list or folder."""

    name: str
    images: ImageList
    facts: np.ndarray
    reasons: dict[int, str]
    early: list[Finding] = field(default_factory=list)

    def finding(self, kind: str, indices: np.ndarray, *, drop: bool = False, because: dict | None = None) -> Finding:
        """Create a finding.

        Args:
            kind: key of KINDS.
            indices: images of this split.
            drop: whether a clean list leaves these images out.
            because: by index, a text behind the path of an example.
        """
        indices = np.asarray(indices).tolist()
        examples = [self.describe(i) + (f": {because[i]}" if because else "") for i in indices[:MAX_EXAMPLES]]
        return Finding(kind, len(indices), examples, self.name, indices if drop else [])

    def describe(self, index: int) -> str:
        """Path of image `index`, and the line or folder that names it."""
        return f"{self.images.path(index)} ({self.images.place(index)})"


def find_all(splits: list[Split]) -> list[Finding]:
    """All findings of the splits, alone and compared with each other; errors come first."""
    findings = [finding for split in splits for finding in (*split.early, *_of_files(split), *_of_classes(split))]
    findings += _of_copies(splits)
    findings += _of_near_copies(splits)
    if len(splits) == 2:
        findings += _between(*splits)
    order = list(KINDS)
    present = (finding for finding in findings if finding.count)
    return sorted(present, key=lambda finding: (finding.severity, order.index(finding.kind), finding.split))


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
        "ribbon": long > LONG * np.maximum(short, 1),
        "blank": facts["is_blank"] & (long > 1),
        "turned": facts["orientation"] > 1,
        "odd_mode": odd & ~facts["is_animated"],
        "animated": facts["is_animated"],
    }
    for kind, applies in rules.items():
        yield split.finding(kind, np.flatnonzero(applies & is_good))
    if is_good.any() and not is_member(split.images.path(0)):  # a file in a shard has no extension
        expected = [facts["extension"][i] in EXTENSIONS.get(facts["format"][i], ()) for i in np.flatnonzero(is_good)]
        yield split.finding("extension", np.flatnonzero(is_good)[~np.array(expected)])


def _of_classes(split: Split) -> Iterator[Finding]:
    labels, counts = np.unique(split.images.labels, return_counts=True)
    small = labels[counts * IMBALANCE < counts.max(initial=0)]
    count_of = dict(zip(labels.tolist(), counts.tolist(), strict=True))
    examples = [
        f"class {class_name(split, label)}: {count_of[label]} of up to {counts.max()}"
        for label in small[:MAX_EXAMPLES].tolist()
    ]
    yield Finding("imbalance", len(small), examples, split.name)
    if split.name != "val":  # which may be small
        few = np.setdiff1d(labels[counts < FEW], small)
        examples = [f"class {class_name(split, label)}: {count_of[label]}" for label in few[:MAX_EXAMPLES].tolist()]
        yield Finding("few", len(few), examples, split.name)


def class_name(split: Split, label: int) -> str:
    """Label and name of a class for the report."""
    names = split.images.class_names
    return f"{label} ({names[label]})" if names and label < len(names) else str(label)


def _of_copies(splits: list[Split]) -> Iterator[Finding]:
    """Images whose pixels are in the data more than once, in one split or in both."""
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
    others = [{} for _ in splits]  # by index, where another copy is
    for one in groups:
        for i, other in zip(one, np.roll(one, 1), strict=True):
            others[owner[i]][int(row[i])] = f"as {splits[owner[other]].images.path(int(row[other]))}"
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
        yield split.finding("two_labels", sorted(two_labels[at]), drop=True, because=others[at])
        yield split.finding("train_in_val", sorted(leaks[at]), drop=True, because=others[at])
        yield split.finding("listed_twice", sorted(twice[at]), drop=True)
        yield split.finding("copies", sorted(copies[at]), because=others[at])


def _of_near_copies(splits: list[Split]) -> Iterator[Finding]:
    """Images that differ by size, compression or a little light; exact copies have findings of their own."""
    facts = np.concatenate([split.facts for split in splits])
    labels = np.concatenate([split.images.labels for split in splits])
    owner = np.repeat(np.arange(len(splits)), [len(split.facts) for split in splits])
    row = np.concatenate([np.arange(len(split.facts)) for split in splits])
    is_usable = (facts["width"] > 0) & ~facts["is_blank"]
    is_first = np.zeros(len(facts), bool)
    is_first[np.unique(facts["pixels"], return_index=True)[1]] = True
    aspects = np.where(is_usable & is_first, facts["width"] / np.maximum(facts["height"], 1), 0)
    found = {kind: [{} for _ in splits] for kind in ("near_two_labels", "near_in_val", "near_copies")}
    for first, second in find_near_copies(facts["thumbnail"], aspects).tolist():
        if labels[first] != labels[second]:
            kind = "near_two_labels"
        else:
            kind = "near_in_val" if owner[first] != owner[second] else "near_copies"
        found[kind][owner[second]][int(row[second])] = f"like {splits[owner[first]].images.path(int(row[first]))}"
    for kind, by_split in found.items():
        for split, because in zip(splits, by_split, strict=True):
            yield split.finding(kind, np.array(sorted(because), np.int64), because=because)


def _between(train: Split, val: Split) -> Iterator[Finding]:
    for kind, here, there in (("untrained_class", val, train), ("unscored_class", train, val)):
        if here.images.class_names and there.images.class_names:
            alone = sorted(set(here.images.class_names) - set(there.images.class_names))
        else:
            missing = np.setdiff1d(here.images.labels, there.images.labels).tolist()
            alone = [class_name(here, label) for label in missing]
        yield Finding(kind, len(alone), [f"class {name}" for name in alone[:MAX_EXAMPLES]], here.name)
