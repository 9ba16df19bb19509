"""A plain folder of classes as --data_path: split once, kept beside the checkpoints, read again by later runs."""

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import DataError, UsageError
from common.files import disk_errors, write_atomically
from configs.schema import TrainConfig
from datasets.split.assign import Shares
from datasets.split.folder_split import (
    SplitFiles,
    key_of,
    read_split,
    refuse_changed_folder,
    split_folder,
    write_split,
)
from datasets.split.plain_folder import PlainFolder, find_plain_folder, is_inside, is_plain_folder

SPLIT = "split"  # folder of the lists, beside the checkpoints
PENDING = ".split"  # the same before it is certain that the run begins
WAIT_SECONDS = 6 * 3600.0  # for rank 0 to look at all pictures
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class RunSplit:
    """The images of a run whose --data_path is a plain folder.

    Attributes:
        train_set: training images.
        val_set: validation images.
        where: how the folder was split, and where the lists lie.
        remarks: what is to be said of the pictures.
        source: where the lists lie; None if the run saves nothing.
    """

    train_set: object
    val_set: object
    where: str
    remarks: tuple[str, ...]
    source: Path | None


def uses_plain_folder(config: TrainConfig) -> bool:
    """Whether main.py splits --data_path itself: no list files, and no train/ or val/ in the folder.

    Raises:
        DataError: --data_path is the train/ or val/ of a data set, or holds a split under other names.
    """
    data = config.data
    return not data.cls_label_path_train and not data.cls_label_path_val and is_plain_folder(data.data_path)


def open_plain_folder(config: TrainConfig, rank: int) -> RunSplit:
    """Read the split of the run that is continued, or split the folder; rank 0 splits, and the others wait for it.

    Args:
        config: the flags of main.py.
        rank: number of this process.

    Raises:
        DataError: the folder cannot be split, was changed since, or the split is missing or damaged.
        UsageError: --output_dir lies in the folder.
        DiskError: the lists cannot be written.
    """
    root, output_dir = config.data.data_path, config.output.output_dir
    if output_dir and is_inside(output_dir, root):
        raise UsageError(
            f"--output_dir {output_dir} lies in --data_path {root}, where each folder is a class; name another folder"
        )
    folder, shares = find_plain_folder(root), Shares(seed=config.run.seed)
    if continued := _continued_split(config):
        refuse_changed_folder(continued, folder)
        return _read(continued, root, f"the split of the continued run, {continued.folder}")
    split = _open_new_split(folder, shares, output_dir, rank)
    if config.resume.resume in ("", "auto"):
        return split
    path = config.resume.resume
    remark = (
        f"{Path(path).parent} has no {SPLIT}/, so the folder is split anew: if {path} was trained on these images, the "
        f"accuracies are too good; copy the folder {SPLIT} of its training beside it"
    )
    return replace(split, remarks=(*split.remarks, remark))


def _open_new_split(folder: PlainFolder, shares: Shares, output_dir: str, rank: int) -> RunSplit:
    """Split the folder on rank 0, and read the lists; the other ranks wait for them."""
    root = folder.root
    if not output_dir:
        split = split_folder(folder, shares)
        where = f"split by --seed {shares.seed}, which is not kept without --output_dir"
        return RunSplit(split.images("train"), split.images("val"), where, split.remarks, None)
    pending = Path(output_dir) / PENDING
    files = _same_split(pending, folder, shares)
    if files is None and rank == 0:
        write_split(split_folder(folder, shares), pending)
        files = read_split(pending)
    elif files is None:
        files = _wait_for_split(pending, folder, shares)
    where = f"split by --seed {shares.seed}; the lists are in {Path(output_dir) / SPLIT}"
    return _read(files, root, f"{where}, and python -m datasets.split makes others")


def _continued_split(config: TrainConfig) -> SplitFiles | None:
    """The split beside the checkpoint that --resume names; None for a run that begins.

    Raises:
        DataError: --resume auto finds checkpoints without a split.
    """
    resume, output_dir = config.resume.resume, Path(config.output.output_dir)
    if not resume:
        return None
    if resume != "auto":
        return read_split(Path(resume).parent / SPLIT)
    if not any(output_dir.glob("checkpoint-*.pd")):
        return None
    files = read_split(output_dir / SPLIT)
    if files is None:
        raise DataError(
            f"{output_dir} has checkpoints and no {SPLIT}/, which says what was validated: restore that folder, name "
            "the lists of that run, or begin a new run in another --output_dir"
        )
    return files


def _same_split(source: Path, folder: PlainFolder, shares: Shares) -> SplitFiles | None:
    """The split in `source` if it is of the same files and shares."""
    try:
        files = read_split(source)
    except DataError:  # of a process that was killed, or of another version: it is made again
        return None
    return files if files and files.record["key"] == key_of(folder, shares) else None


def _wait_for_split(source: Path, folder: PlainFolder, shares: Shares) -> SplitFiles:
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if files := _same_split(source, folder, shares):
            return files
        time.sleep(POLL_SECONDS)
    raise DataError(
        f"{source}: rank 0 has written no split of {folder.root} in {WAIT_SECONDS / 3600:.0f} hours; is --output_dir a "
        "folder that all nodes share, and --data_path the same on all? python -m datasets.split makes lists for all"
    )


def _read(files: SplitFiles, root: str, where: str) -> RunSplit:
    train_set, val_set = files.images("train", root), files.images("val", root)
    return RunSplit(train_set, val_set, where, tuple(map(str, files.record["remarks"])), files.folder)


def keep_split(source: Path | None, output_dir: Path) -> None:
    """Put the split of a run that begins into its output folder, after the files of an earlier run were moved away.

    Raises:
        DiskError: a file cannot be written.
    """
    target = output_dir / SPLIT
    if source is None or source == target:
        return
    with disk_errors(target):
        shutil.rmtree(target, ignore_errors=True)
        if source == output_dir / PENDING:
            source.rename(target)
            return
        target.mkdir(parents=True)
        for path in sorted(source.iterdir(), key=lambda path: path.suffix == ".json"):  # split.json, the record, last
            if path.is_file():
                write_atomically(target / path.name, path.read_bytes())
