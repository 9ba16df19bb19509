"""Split a plain folder of classes into lists of training and validation images, stratified, with copies on one side.

python -m datasets.split "My Pictures" --output_dir lists
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "rich")

import argparse
import os
import shlex
from collections.abc import Sequence

import numpy as np

from common.cli import did_you_mean_path, home_path, non_negative_float, non_negative_int, positive_int, run
from common.errors import DataError, UsageError
from common.printable import print_safely

from .assign import Shares, divide_into_folds
from .folder_split import LABEL_LIST, FolderSplit, split_folder, write_split
from .plain_folder import find_plain_folder, is_plain_folder


def create_parser() -> argparse.ArgumentParser:
    """The flags of the program."""
    parser = argparse.ArgumentParser(prog="python -m datasets.split", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=os.path.expanduser, help="folder with one folder of pictures per class")
    parser.add_argument("--output_dir", type=home_path, required=True, help="folder of the lists")
    parser.add_argument("--val", type=non_negative_float, default=Shares.val, help="share for validation (%(default)s)")
    parser.add_argument(
        "--test", type=non_negative_float, default=Shares.test, help="share that is kept for a last test (%(default)s)"
    )
    parser.add_argument(
        "--k_fold",
        type=positive_int,
        metavar="K",
        help="also write fold_1/ to fold_K/: each picture but those of --test validates in one of them",
    )
    parser.add_argument("--seed", type=non_negative_int, default=Shares.seed, help="seed of the split (%(default)s)")
    return parser


def fold_lists(split: FolderSplit, num_folds: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Lists of K-fold cross-validation: `fold_1/train`, `fold_1/val`, ..., and what is to be said of rare classes.

    Raises:
        UsageError: there are more folds than pictures that are no copies of each other.
    """
    pictures = split.pictures
    rest = np.sort(np.concatenate([split.parts["train"], split.parts["val"]]))
    lists, remarks = {}, []
    folds = divide_into_folds(pictures, rest, num_folds, split.shares.seed)
    num_filled = sum(len(val) > 0 for val in folds)
    if num_filled < num_folds:
        raise UsageError(
            f"--k_fold {num_folds}: the {len(rest)} pictures, copies kept together, fill {num_filled} folds only; take "
            f"at most --k_fold {num_filled}"
        )
    for number, val in enumerate(folds, start=1):
        lists[f"fold_{number}/train"], lists[f"fold_{number}/val"] = np.setdiff1d(rest, val), val
        for part in ("train", "val"):
            absent = np.setdiff1d(pictures.labels[rest], pictures.labels[lists[f"fold_{number}/{part}"]])
            if names := [pictures.names[label] for label in absent]:
                remarks.append(f"fold_{number}/{part}_list.txt has no picture of class {', '.join(names)}")
    return lists, remarks


def _count(number: int, noun: str) -> str:
    plural = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{plural * (number != 1)}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = create_parser()
    flags = parser.parse_args(argv)
    if flags.k_fold == 1:
        raise UsageError("--k_fold 1: expected 2 or more")
    if not os.path.isdir(flags.folder):
        raise DataError(f"{flags.folder}: no such folder{did_you_mean_path(flags.folder)}")
    if not is_plain_folder(flags.folder):
        raise DataError(f"{flags.folder}: holds train/ or val/ already; name a folder with one folder per class")
    try:
        shares = Shares(flags.seed, flags.val, flags.test)
    except DataError as error:
        raise UsageError(f"--val {flags.val:g} --test {flags.test:g}: {error}") from None
    split = split_folder(find_plain_folder(flags.folder), shares)
    lists, remarks = fold_lists(split, flags.k_fold) if flags.k_fold else ({}, [])
    write_split(split, flags.output_dir, extra=lists)
    for remark in (*split.remarks, *remarks):
        print_safely(f"note: {remark}")
    for name, indices in {**split.parts, **lists}.items():
        num_classes = len(np.unique(split.pictures.labels[indices]))
        print_safely(
            f"{flags.output_dir / name}_list.txt: {_count(len(indices), 'picture')} of {_count(num_classes, 'class')}"
        )
    path = flags.output_dir / LABEL_LIST
    print_safely(f"{path}: the names of the {len(split.folder.names):,} classes")
    where = flags.output_dir / "fold_1" if flags.k_fold else flags.output_dir
    print_safely(
        f"next: python main.py --data_path {shlex.quote(flags.folder)} --cls_label_path_train "
        f"{shlex.quote(f'{where}/train_list.txt')} --cls_label_path_val {shlex.quote(f'{where}/val_list.txt')} "
        f"--label_list {shlex.quote(str(path))}"
    )
    return 0


if __name__ == "__main__":
    run(main)
