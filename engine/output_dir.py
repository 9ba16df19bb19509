"""Lock of the output folder of a run, and removal of the files of an earlier run from it."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.errors import UsageError
from common.files import disk_errors

from .checkpoint import remove_leftovers

LOCK = ".lock"
RUN_FILES = (
    "checkpoint-*.pd",
    "log.txt",
    "config.yaml",
    "metrics.jsonl",
    "curves.png",
    "env.json",
    "split",
    "visualdl",
    "tensorboard",
)
MADE_OF_A_RUN = ("report.html", "card.yaml")  # in folders that eval.py and export_model.py write


@contextmanager
def locked_output_dir(folder: str | os.PathLike | None, rank: int = 0) -> Iterator[None]:
    """Create the folder and hold its lock inside the context, on rank 0; without a folder nothing happens.

    The operating system releases the lock of a process that dies. On a file system without locks no lock is held.

    Raises:
        UsageError: another training holds the lock.
        DiskError: the folder cannot be created or written.
    """
    if folder is None or rank != 0:
        yield
        return
    path = Path(folder)
    with disk_errors(f"into --output_dir {folder}"):
        path.mkdir(parents=True, exist_ok=True)
        file = open(path / LOCK, "a+b")  # noqa: SIM115 (closed below)
    with file:
        _lock(file, folder)
        yield


def _lock(file, folder: str | os.PathLike) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read(200).decode(errors="replace").strip() or "unknown"
        raise UsageError(
            f"--output_dir {folder}: another training writes into this folder ({holder}); "
            "wait for its end, or name another folder"
        ) from None
    except OSError:  # no locks on this file system
        return
    with suppress(OSError):  # a full disk does not end a training here
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        file.flush()


def clean_output_dir(folder: Path | None, rank: int = 0) -> None:
    """Remove what killed writers left in the output folder; rank 0 alone.

    Raises:
        DiskError: a file cannot be removed.
    """
    if folder and rank == 0:
        with disk_errors(f"into --output_dir {folder}"):
            remove_leftovers(folder)


def set_earlier_run_aside(folder: Path) -> Path | None:
    """Move the files of an earlier run in `folder` to `previous-<time>/`, so that the new run does not mix with them.

    Returns:
        The new folder, or None if there was nothing to move.

    Raises:
        DiskError: the files cannot be moved.
    """
    files = sorted(path for pattern in RUN_FILES for path in folder.glob(pattern))
    if not files:
        return None
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = (f"previous-{stamp}" + (f"-{number}" if number > 1 else "") for number in range(1, 1000))
    aside = next(folder / name for name in names if not (folder / name).exists())
    with disk_errors(f"into --output_dir {folder}"):
        aside.mkdir()
        for path in files:
            path.rename(aside / path.name)
    return aside


def reports_and_exports(folder: Path) -> list[Path]:
    """Find the folders directly in `folder` that hold a report or an exported model; a new run does not move them."""
    return sorted({path.parent for name in MADE_OF_A_RUN for path in folder.glob(f"*/{name}")})
