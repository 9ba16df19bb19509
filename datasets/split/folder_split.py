"""The split of a plain folder: made once, written as lists, read again, and compared with the folder."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.errors import DataError
from common.files import CHECKSUM_SUFFIX, disk_errors, write_atomically, write_with_checksum
from common.printable import printable
from common.regular_files import read_regular

from ..class_names import read_class_names
from ..manifest import manifest_lines, read_manifest
from ..reading.image_folder import shorten
from ..reading.image_list import ImageList, read_image_list, write_image_list
from .assign import Pictures, Shares, divide
from .examine import Examined, checksums_of, examine_pictures
from .plain_folder import PlainFolder

FORMAT = 1
RECORD, MANIFEST, LABEL_LIST = "split.json", "manifest.txt", "label_list.txt"
RECORD_ENTRIES = {
    "format": int,
    "data_path": str,
    "key": str,
    "state": str,
    "seed": int,
    "remarks": list,
    "unread": list,
}
# Lists that this module or `python -m datasets.split` writes.
LISTS = ("train_list.txt", "val_list.txt", "test_list.txt", "fold_*/train_list.txt", "fold_*/val_list.txt")
MAX_PAIRS_SHOWN = 5
MAX_RECORD_BYTES = 1 << 28  # a record names the files that cannot be opened


@dataclass(frozen=True)
class FolderSplit:
    """A plain folder with the parts it was divided into.

    Attributes:
        folder: the pictures.
        examined: what is known of them.
        pictures: those that can be used, which `parts` counts.
        usable: index in `folder` of each of `pictures`.
        parts: indices in `pictures` by name of the part: train, val, and test if asked for.
        shares: how it was divided.
        remarks: sentences on what is not used, on copies and on rare classes.
    """

    folder: PlainFolder
    examined: Examined
    pictures: Pictures
    usable: np.ndarray
    parts: dict[str, np.ndarray]
    shares: Shares
    remarks: tuple[str, ...]

    def images(self, part: str) -> ImageList:
        """The images of a part, without a file."""
        entries = [(self.pictures.paths[i], int(self.pictures.labels[i])) for i in self.parts[part].tolist()]
        paths, labels = [os.fsencode(path) for path, _ in entries], [label for _, label in entries]
        return ImageList(self.folder.root, paths, labels, class_names=self.folder.names)


def split_folder(folder: PlainFolder, shares: Shares) -> FolderSplit:
    """Examine the pictures of a plain folder and divide them; those that cannot be read are left out, and counted.

    Raises:
        DataError: no picture of a class can be read.
    """
    examined = examine_pictures(folder.root, folder.paths)
    unlistable = dict.fromkeys(folder.unlistable, "its name cannot stand in a list; rename it")
    left_out = {folder.paths[index]: reason for index, reason in examined.reasons.items()} | unlistable
    usable = np.array([i for i, path in enumerate(folder.paths) if path not in left_out], np.int64)
    labels = np.array(folder.labels, np.int64)[usable]
    for label in np.setdiff1d(np.arange(len(folder.names)), labels).tolist():
        path = folder.paths[folder.labels.index(label)]
        raise DataError(
            f"{folder.root}: no picture of class {folder.names[label]} can be used; {path}: {left_out[path]}; "
            "replace the files, or move the folder away"
        )
    pictures = Pictures([folder.paths[i] for i in usable], labels, examined.groups[usable], folder.names)
    parts, absent = divide(pictures, shares)
    if not len(parts["val"]):
        raise DataError(
            f"{folder.root}: no class has two pictures that are no copies of each other, so none is left for "
            "validation; add pictures"
        )
    remarks = [*folder.remarks, *_of_left_out(folder.root, left_out), *_of_copies(pictures), *absent]
    return FolderSplit(folder, examined, pictures, usable, parts, shares, tuple(remarks))


def _of_left_out(root: str, left_out: dict[str, str]) -> list[str]:
    if not left_out:
        return []
    shown = shorten([f"{printable(path)}: {reason}" for path, reason in left_out.items()])
    one = len(left_out) == 1
    which = "1 picture is left out, because it" if one else f"{len(left_out)} pictures are left out, because they"
    return [f"{root}: {which} cannot be used: {shown}"]


def _of_copies(pictures: Pictures) -> list[str]:
    remarks = []
    paths, labels = pictures.paths, pictures.labels
    shared = pictures.copies_in_two_classes()
    pairs = [f"{paths[one[0]]} and {paths[one[labels[one] != labels[one[0]]][0]]}" for one in shared]
    if pairs:
        shown = "; ".join(pairs[:MAX_PAIRS_SHOWN])
        more = f"; and {len(pairs) - MAX_PAIRS_SHOWN} more" if pairs[MAX_PAIRS_SHOWN:] else ""
        remarks.append(f"the same picture lies in two classes, and one of the labels is wrong: {shown}{more}")
    sets = [one for one in pictures.sets_of_copies() if len(one) > 1]
    if sets:
        example = f"{paths[sets[0][0]]} and {paths[sets[0][1]]}"
        number = sum(len(one) - 1 for one in sets)
        which = "1 copy or near-copy is kept on the side of its"
        if number > 1:
            which = f"{number} copies or near-copies are kept on the side of their"
        remarks.append(f"{which} picture, for example {example}")
    return remarks


# --- Files ----------------------------------------------------------------------------------------------------------


def state_of(folder: PlainFolder) -> str:
    """Checksum of the names, sizes and times of all files of a folder: equal if nothing was changed."""
    digest = hashlib.sha256()
    for path in folder.paths:
        try:
            status = os.stat(os.path.join(folder.root, path))
            facts = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            facts = "-"
        digest.update(os.fsencode(path) + b"\0" + facts.encode() + b"\0")
    return digest.hexdigest()


def key_of(folder: PlainFolder, shares: Shares) -> str:
    """Checksum of all that a split depends on: a split with the same key is the same."""
    text = f"{FORMAT} {shares.seed} {shares.val} {shares.test} {state_of(folder)}"
    return hashlib.sha256(text.encode()).hexdigest()


def write_split(split: FolderSplit, target: Path, *, extra: dict[str, Sequence[int]] | None = None) -> None:
    """Write `<part>_list.txt`, label_list.txt, manifest.txt and, as the last, split.json, each whole or not at all.

    The lists of an older split in the folder are removed: a list of it would have images that are trained on now.

    Args:
        split: the split.
        target: the folder, created if missing.
        extra: more lists by file name without `_list.txt`, as indices of `split.pictures`.

    Raises:
        DiskError: a file cannot be written.
    """
    with disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        if (target / RECORD).exists():
            _remove_lists(target)
        (target / RECORD).unlink(missing_ok=True)  # what is there is no split while it is replaced
    folder, pictures = split.folder, split.pictures
    for name, indices in {**split.parts, **(extra or {})}.items():
        path = target / f"{name}_list.txt"
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        if len(indices):
            write_image_list(path, ((pictures.paths[i], int(pictures.labels[i])) for i in indices))
    record = {
        "format": FORMAT,
        "data_path": os.path.abspath(folder.root),
        "key": key_of(folder, split.shares),
        "state": state_of(folder),
        "seed": split.shares.seed,
        "val": split.shares.val,
        "test": split.shares.test,
        "images": {name: len(indices) for name, indices in split.parts.items()},
        "unread": [path for path, checksum in zip(folder.paths, split.examined.sha256, strict=True) if not checksum],
        "remarks": split.remarks,
    }
    rows = zip(folder.paths, split.examined.sha256, strict=True)
    with disk_errors(target):
        names = "".join(f"{label} {name}\n" for label, name in enumerate(folder.names))
        write_with_checksum(target / LABEL_LIST, names)
        write_atomically(target / MANIFEST, (os.fsencode(line) for line in manifest_lines(rows)))
        write_atomically(target / RECORD, json.dumps(record, indent=1) + "\n")


def _remove_lists(target: Path) -> None:
    for path in [path for pattern in LISTS for path in target.glob(pattern)]:
        path.with_name(path.name + CHECKSUM_SUFFIX).unlink(missing_ok=True)
        path.unlink()
        if path.parent != target and not any(path.parent.iterdir()):
            path.parent.rmdir()


@dataclass(frozen=True)
class SplitFiles:
    """The files of a split.

    Attributes:
        folder: where they lie.
        record: content of split.json.
        names: the classes in the order of the labels.
    """

    folder: Path
    record: dict = field(repr=False)
    names: tuple[str, ...]

    def images(self, part: str, root: str | os.PathLike) -> ImageList:
        """The images of a part; their paths begin at `root`.

        Raises:
            DataError: the list cannot be read.
        """
        images = read_image_list(self.folder / f"{part}_list.txt", root, len(self.names))
        images.class_names = self.names
        return images


def read_split(folder: str | os.PathLike) -> SplitFiles | None:
    """Read the files of `write_split`; None if the folder has no split.json.

    Raises:
        DataError: a file of the split is damaged or missing.
    """
    path = Path(folder) / RECORD
    try:
        record = json.loads(read_regular(path, MAX_RECORD_BYTES))
        wrong = [name for name, kind in RECORD_ENTRIES.items() if not isinstance(record.get(name), kind)]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: no record of a split: {error}; restore the folder, or begin a new run") from None
    if wrong or record["format"] != FORMAT:
        raise DataError(f"{path}: not a record of this version: {', '.join(wrong) or 'format'}; begin a new run")
    return SplitFiles(Path(folder), record, tuple(read_class_names(Path(folder) / LABEL_LIST)))


def refuse_changed_folder(files: SplitFiles, folder: PlainFolder) -> None:
    """Compare a folder with the one that was split: first by names, sizes and times, then by checksums.

    Raises:
        DataError: files are new, missing or changed; the message names the first ones.
    """
    if state_of(folder) == files.record["state"]:
        return
    manifest = read_manifest(files.folder / MANIFEST)
    now, unread = set(folder.paths), set(files.record["unread"])
    known = manifest.keys() | unread
    common = sorted(now & manifest.keys())
    checksums = zip(common, checksums_of(folder.root, common), strict=True)
    differences = {
        "new": sorted(now - known),
        "missing": sorted(known - now),
        "changed": [path for path, checksum in checksums if checksum != manifest[path]],
    }
    found = [f"{len(paths)} {kind}: {shorten(paths)}" for kind, paths in differences.items() if paths]
    if found:
        raise DataError(
            f"{folder.root} is not as it was when {files.folder} was made: {'; '.join(found)}. The run would train on "
            "images that it was validated on; restore the files, or begin a new run in another --output_dir, from the "
            "weights of this one with --finetune if you like"
        )
