"""Replace an export by another in one step, and read one of the two whole while that happens.

An export is made in a folder `.export-<number>` inside the exported folder. The one step is the rename of its card to
`card.yaml`: from then on the card's files are read from the folder in which the card lies, too, until each of them has
its place beside `card.yaml`. A process that is killed before the rename leaves the old export, after it the new one.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from common.errors import ExportedModelError, ProjectError
from common.files import disk_errors, fsync_file, fsync_folder, try_lock, wait_for_lock

from .card import CARD_NAME, EXPORT_PREFIX, card_bytes, exported_folder, folder_of_files, read_card

MAX_ATTEMPTS = 5  # to read an export while another one replaces it
OLDER_CARD = ".older-card.yaml"  # in the folder of a new export: the card that it replaces, whose files may be removed
SCRATCH = ".moved"  # in the same folder: a file on its way

Opened = TypeVar("Opened")


class _Identity(NamedTuple):
    """What tells two exports in the same folder apart; the time of a card counts microseconds."""

    card: bytes | None
    inode: int
    time_ns: int
    source: Path


def read_whole(model_path: str | Path, read: Callable[[], Opened]) -> Opened:
    """Call `read`, which opens several files of the export at `model_path`, again if the export is replaced meanwhile.

    Args:
        model_path: an exported folder, or a program in one.
        read: opens all files, of which it finds the folder by `folder_of_files`.

    Returns:
        What `read` returned, with all files of one export.

    Raises:
        ExportedModelError: the export was replaced during each of MAX_ATTEMPTS calls.
        ProjectError, OSError: those of `read`, for an export that was not replaced.
    """
    folder = exported_folder(model_path)
    for _ in range(MAX_ATTEMPTS):
        before = _identity(folder)
        try:
            opened = read()
        except (ProjectError, OSError):
            if _identity(folder) == before:
                raise
            continue
        if _identity(folder) == before:
            return opened
    raise ExportedModelError(
        f"{folder}: was replaced by another export during each of {MAX_ATTEMPTS} attempts to read it; try again"
    )


def _identity(folder: Path) -> _Identity:
    try:
        status = os.stat(folder / CARD_NAME)
    except OSError:
        return _Identity(None, 0, 0, folder)
    return _Identity(card_bytes(folder), status.st_ino, status.st_mtime_ns, folder_of_files(folder))


@contextmanager
def new_export(folder: Path) -> Iterator[Path]:
    """Create a folder for a new export inside `folder`, which `exchange` then takes; remove what killed exports left.

    Raises:
        DiskError: the folder cannot be made.
    """
    with disk_errors(f"into {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        work = folder / f"{EXPORT_PREFIX}{os.urandom(4).hex()}"
        work.mkdir()
        descriptor = os.open(work, os.O_RDONLY) if os.name == "posix" else None
    try:
        if descriptor is not None:
            try_lock(descriptor)  # while it is held, no other export takes `work` for a leftover
        with disk_errors(f"into {folder}"), _locked(folder):
            _finish(folder)
            _remove_leftovers(folder)
        yield work
    finally:
        if folder_of_files(folder) != work:
            shutil.rmtree(work, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def exchange(work: Path, folder: Path) -> None:
    """Replace the export in `folder` by that in `work`, a folder of `new_export` that has a card and all of its files.

    Raises:
        DiskError: a file cannot be written. Before the exchange the old export answers, after it the new one.
    """
    with disk_errors(f"into {folder}"), _locked(folder):
        names = list(read_card(work, verify=False).files)
        for name in (*names, CARD_NAME):
            fsync_file(work / name)
        _finish(folder)
        if (folder / CARD_NAME).exists():
            _link(folder / CARD_NAME, work / OLDER_CARD)
        fsync_folder(work)
        fsync_folder(folder)
        _place(work, CARD_NAME, folder)  # the one step
        fsync_folder(folder)
        _place_files(work, folder)


def _finish(folder: Path) -> None:
    """Move the files of an exchange that was killed to their places; incomplete ones stay, and are leftovers."""
    if (work := folder_of_files(folder)) != folder:
        with suppress(ExportedModelError):
            read_card(work)
            _place_files(work, folder)


def _place_files(work: Path, folder: Path) -> None:
    """Move the files beside their card, remove those that only the older card lists, and then `work`."""
    names = read_card(work, verify=False).files
    for name in names:
        _place(work, name, folder)
    for name in _names_of_older_card(work) - set(names):
        (folder / name).unlink(missing_ok=True)
    fsync_folder(folder)
    (work / CARD_NAME).unlink()  # first: without a card `work` is a leftover, also when the removal is killed
    shutil.rmtree(work, ignore_errors=True)


def _place(work: Path, name: str, folder: Path) -> None:
    """Give `work`/`name` the second name `folder`/`name` by a rename, in place of an older file."""
    target, scratch = folder / name, work / SCRATCH
    if not (
        target.exists() and os.path.samefile(work / name, target)
    ):  # a rename between two names of a file does nothing
        _link(work / name, scratch)
        os.replace(scratch, target)


def _link(path: Path, name: Path) -> None:
    """Give a file a second name; a copy on file systems without links."""
    name.unlink(missing_ok=True)
    try:
        os.link(path, name)
    except OSError:
        shutil.copyfile(path, name)
        fsync_file(name)


def _names_of_older_card(work: Path) -> set[str]:
    """The files that the replaced card lists; none if it was damaged: then its list cannot be trusted."""
    with suppress(ProjectError):
        return set(read_card(work, verify=False, name=OLDER_CARD).files)
    return set()


def _remove_leftovers(folder: Path) -> None:
    """Remove the folders of exports that were killed; those of running exports are locked."""
    for leftover in folder.glob(f"{EXPORT_PREFIX}*"):
        with suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY)
            try:
                if try_lock(descriptor):
                    shutil.rmtree(leftover)
            finally:
                os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait until no other process exchanges an export in `folder`, where the system has locks of folders."""
    if os.name != "posix":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        wait_for_lock(descriptor)
        yield
    finally:
        os.close(descriptor)
