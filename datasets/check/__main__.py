"""Check a data set: what is wrong with its images, labels and classes, how severe that is, and what to do about it.

python -m datasets.check "My Pictures"
python -m datasets.check ILSVRC2012 --lists ILSVRC2012/train_list.txt ILSVRC2012/val_list.txt
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "rich")

import argparse
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.cli import did_you_mean_path, home_path, non_negative_int, positive_int, run
from common.cpus import usable_cpus
from common.errors import DataError
from common.files import disk_errors, write_with_checksum
from common.printable import print_safely

from ..manifest import changed_files, read_manifest, write_manifest
from ..reading.image_folder import FolderScan, join_classes, list_classes
from ..reading.image_list import ImageList, JoinedPaths, split_line, write_image_list
from ..reading.shards import ShardedImages, is_member, is_sharded
from ..reading.text_lines import read_lines
from ..split.plain_folder import find_plain_folder, is_inside, is_plain_folder
from .examine import examine_all
from .findings import MAX_EXAMPLES, Finding, Split, find_all
from .report import draw_report, print_report, write_json

SPLITS = ("train", "val")
ALL = "all"  # name of the one split of a plain folder


def open_leniently(root: str, name: str, list_file: str | None, num_classes: int) -> tuple[ImageList, list[Finding]]:
    """Open the images of a split, also where a training would refuse its list or folder.

    Args:
        root: root of the data.
        name: name of the split.
        list_file: list file of the split; None takes the folder `root`/`name`.
        num_classes: labels from this number on are out of range.

    Returns:
        The images that can be read, and what is wrong with the list or the folder.

    Raises:
        DataError: the list or the folder cannot be read at all.
    """
    if list_file:
        return _read_list(root, name, list_file, num_classes)
    if name == ALL:
        return _open_plain_folder(root)
    folder = os.path.join(root, name)
    scan = FolderScan()
    classes = {} if is_sharded(folder) else list_classes(folder, scan)
    empty = [os.path.join(folder, label) for label, paths in classes.items() if not paths]
    images = ShardedImages(folder) if is_sharded(folder) else join_classes(folder, classes)
    images.remarks = tuple(f"{folder}: {remark}" for remark in scan.remarks)
    out_of_range = np.flatnonzero(images.labels >= num_classes).tolist()
    examples = [f"{images.path(i)}: label {images.label(i)}" for i in out_of_range[:MAX_EXAMPLES]]
    return images, [
        Finding("empty_class", len(empty), empty[:MAX_EXAMPLES], name),
        Finding("label_range", len(out_of_range), examples, name, dropped=out_of_range),
    ]


def _open_plain_folder(root: str) -> tuple[ImageList, list[Finding]]:
    folder = find_plain_folder(root)
    images = ImageList(root, map(os.fsencode, folder.paths), folder.labels, class_names=folder.names)
    images.remarks = folder.remarks
    unlistable = set(folder.unlistable)
    indices = [index for index, path in enumerate(folder.paths) if path in unlistable]
    examples = [images.path(index) for index in indices[:MAX_EXAMPLES]]
    return images, [Finding("unlistable", len(indices), examples, ALL, dropped=indices)]


def _read_list(root: str, name: str, list_file: str, num_classes: int) -> tuple[ImageList, list[Finding]]:
    paths, labels, line_numbers = JoinedPaths(), array("q"), array("i")
    faulty, out_of_range = [], []
    for number, line in read_lines(list_file):
        entry = split_line(line)
        if not entry and line.startswith(b"#"):
            continue  # a comment, as in read_image_list
        if not entry:
            faulty.append(f"{list_file}:{number}: {line.decode()!r}")
        elif not 0 <= entry[1] < num_classes:
            out_of_range.append(f"{list_file}:{number}: label {entry[1]}")
        else:
            paths.append(entry[0])
            labels.append(entry[1])
            line_numbers.append(number)
    images = ImageList(root, paths, labels, list_file=list_file, line_numbers=line_numbers)
    return images, [
        Finding("faulty_line", len(faulty), faulty[:MAX_EXAMPLES], name),
        Finding("label_range", len(out_of_range), out_of_range[:MAX_EXAMPLES], name),
    ]


def examine_splits(root: str, lists: Sequence[str], num_classes: int, num_workers: int) -> list[Split]:
    """Open and examine the splits train and val.

    Args:
        root: root of the data.
        lists: list files of train and val, or of train alone; without any, the folders that exist, or else the class
            folders of `root` itself.
        num_classes: labels from this number on are out of range.
        num_workers: number of processes that decode.

    Raises:
        DataError: there is neither a list nor a folder, or a list cannot be read.
    """
    if lists:
        sources = list(zip(SPLITS, lists, strict=False))
    else:
        sources = [(name, None) for name in SPLITS if os.path.isdir(os.path.join(root, name))]
    if not sources and is_plain_folder(root):
        sources = [(ALL, None)]
    if not sources:
        near = did_you_mean_path(root) or "; name one with a folder per class, or with train/ and val/"
        raise DataError(f"{root}: no such folder{near}")
    splits = []
    for name, list_file in sources:
        images, early = open_leniently(root, name, list_file, num_classes)
        early.append(Finding("no_image", int(not len(images)), [list_file or images.root], name))
        facts, reasons = examine_all(images, num_workers=num_workers, title=name)
        splits.append(Split(name, images, facts, reasons, early))
    return splits


def compare_with_manifest(splits: Sequence[Split], root: str, manifest: dict[str, str]) -> None:
    """Add the differences from the manifest to the findings of each split, and missing files to those of the first."""
    for split in splits:
        changed = changed_files(manifest, root, split.images, split.facts)
        split.early.append(split.finding("changed", np.array(sorted(changed), np.int64), because=changed))
    gone = [name for name in manifest if not is_member(name) and not os.path.lexists(os.path.join(root, name))]
    names = " and ".join(split.name for split in splits)
    splits[0].early.append(Finding("gone", len(gone), gone[:MAX_EXAMPLES], names))


def write_clean_lists(splits: Sequence[Split], findings: Sequence[Finding], root: str, folder: Path) -> None:
    """Write <split>_list.txt without the images that the findings drop, and label_list.txt; paths begin at `root`.

    Args:
        splits: the examined splits.
        findings: what is wrong with them.
        root: root of the data.
        folder: folder of the lists.

    Raises:
        DataError: a split is packed into shards, which have no list, or no image of a split is left.
        DiskError: a list cannot be written.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        if isinstance(split.images, ShardedImages):
            raise DataError(f"{split.images.root}: shards have no list; check and pack the original files again")
        dropped = {index for finding in findings if finding.split == split.name for index in finding.dropped}
        kept = [index for index in range(len(split.images)) if index not in dropped]
        if not kept:
            raise DataError(f"{split.name}: no image is left for a clean list")
        entries = ((os.path.relpath(split.images.path(i), root), split.images.label(i)) for i in kept)
        path = folder / f"{split.name}_list.txt"
        write_image_list(path, entries)
        print_safely(f"{path}: {len(kept)} of {len(split.images)} images")
    if names := splits[0].images.class_names:
        path = folder / "label_list.txt"
        with disk_errors(path):
            write_with_checksum(path, "".join(f"{label} {name}\n" for label, name in enumerate(names)))
        print_safely(f"{path}: the names of the {len(names)} class folders; give it to main.py as --label_list")


def create_parser() -> argparse.ArgumentParser:
    """The flags of the program."""
    parser = argparse.ArgumentParser(prog="python -m datasets.check", description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder",
        nargs="?",
        type=os.path.expanduser,
        help="root of the data: one folder per class, or train and val with one each, or any with --lists",
    )
    parser.add_argument("--data_path", type=os.path.expanduser, metavar="FOLDER", help="the same, as of main.py")
    parser.add_argument(
        "--lists",
        nargs="+",
        default=[],
        type=os.path.expanduser,
        metavar=("TRAIN", "VAL"),
        help="list files of the splits",
    )
    parser.add_argument(
        "--nb_classes", type=positive_int, default=2**31, help="labels from this number on are out of range"
    )
    parser.add_argument("--output_dir", type=home_path, help="folder of check.json and check.png")
    parser.add_argument(
        "--write_clean_lists", type=home_path, metavar="FOLDER", help="write lists without what is wrong"
    )
    parser.add_argument(
        "--write_manifest", type=os.path.expanduser, metavar="FILE", help="write the checksum of every file"
    )
    parser.add_argument(
        "--manifest",
        type=os.path.expanduser,
        metavar="FILE",
        help="compare all files with the checksums of --write_manifest",
    )
    parser.add_argument("--num_workers", type=non_negative_int, default=usable_cpus(), help="processes (%(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = create_parser()
    flags = parser.parse_args(argv)
    if len(flags.lists) > len(SPLITS):
        parser.error("--lists takes a training and a validation list")
    if bool(flags.folder) == bool(flags.data_path):
        parser.error("name one folder, for example: python -m datasets.check 'My Pictures'")
    root = flags.folder or flags.data_path
    clean = flags.write_clean_lists
    if clean and clean.resolve() in [Path(one).resolve().parent for one in flags.lists]:
        parser.error("--write_clean_lists could replace --lists; name another folder")
    if flags.output_dir and not flags.lists and is_inside(flags.output_dir, root) and is_plain_folder(root):
        parser.error(
            f"--output_dir {flags.output_dir} lies in {root}, where each folder is a class; name another folder"
        )
    manifest = read_manifest(flags.manifest) if flags.manifest else None  # before an hour of decoding
    splits = examine_splits(root, flags.lists, flags.nb_classes, flags.num_workers)
    if manifest is not None:
        compare_with_manifest(splits, root, manifest)
    findings = find_all(splits)
    print_report(splits, findings, str(root))
    for split in splits:
        for remark in split.images.remarks:
            print_safely(f"note: {remark}")
    if flags.output_dir:
        with disk_errors(flags.output_dir):
            flags.output_dir.mkdir(parents=True, exist_ok=True)
            write_json(splits, findings, flags.output_dir / "check.json")
            draw_report(splits, flags.output_dir / "check.png")
    if flags.write_manifest:
        rows = [(split.images, split.facts) for split in splits]
        print_safely(f"{flags.write_manifest}: {write_manifest(flags.write_manifest, root, rows)} checksums")
    if clean:
        write_clean_lists(splits, findings, root, clean)
    return 3 if any(finding.severity == "error" for finding in findings) else 0


if __name__ == "__main__":
    run(main)
