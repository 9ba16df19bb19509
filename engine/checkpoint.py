"""Checkpoint files: written whole or not at all, and verified to the last bit when they are read."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import CheckpointError, DiskError
from common.files import atomic_write, fsync_folder, temporary_path
from common.json_text import parse_json
from common.regular_files import open_regular

from .checkpoint_meta import check_meta
from .safetensors_io import decode, decode_header, encode
from .weights_format import BEFORE_CHECKSUM, FORMATS, read_bytes, recognise_format

CHECKSUM = slice(8 + len(BEFORE_CHECKSUM), 8 + len(BEFORE_CHECKSUM) + 64)  # place of the checksum in the file
UNKNOWN = "0" * 64  # in its place while the checksum is computed
# Temporary files that a killed writer of a file of the run leaves; the last pattern is that of earlier versions.
WRITTEN = ("checkpoint-*", "log.txt", "metrics.jsonl", "config.yaml", "run_state.json", "env.json", "curves.png")
LEFTOVERS = (*(f".{name}.*.tmp" for name in WRITTEN), "checkpoint-*.tmp")

LATEST, PREVIOUS = "checkpoint-latest.pd", "checkpoint-previous.pd"

Arrays = dict[str, np.ndarray]
logger = logging.getLogger(__name__)


class Mark(NamedTuple):
    """Which run wrote a checkpoint, and the number of the state in it: a clock may be wrong, a count is not.

    Attributes:
        run: drawn when the first checkpoint of a folder is written; a resumed run keeps it.
        count: one more than the largest of the folder.
    """

    run: str = ""
    count: int = 0


class _Header(NamedTuple):
    """What the header of a checkpoint says of its place among others; -1 for a file that cannot be read.

    Files of earlier versions have no mark, those from before 2026-11-21 no time.
    """

    mark: Mark = Mark()
    next_epoch: int = -1
    next_step: int = -1
    written: int = -1


class Checkpoint(NamedTuple):
    """Content of a verified checkpoint.

    Attributes:
        path: the file.
        tensors: arrays by name: `model/...`, `model_ema/...` and `optimizer/...`.
        meta: JSON values, see `TrainState.snapshot`.
    """

    path: Path
    tensors: Arrays
    meta: dict

    def section(self, name: str) -> Arrays:
        """The tensors named `name/...`, without that prefix."""
        return {key.removeprefix(f"{name}/"): a for key, a in self.tensors.items() if key.startswith(f"{name}/")}


# --- Writing --------------------------------------------------------------------------------------------------------


def write_checkpoint(
    path: str | Path, tensors: Arrays, meta: dict, *, keep_old_as: str | Path | None = None, mark: Mark | None = None
) -> None:
    """Write a checkpoint; a process that is killed at any point leaves the older or the whole new file under `path`.

    Args:
        path: the file; its folder must exist.
        tensors: arrays by name.
        meta: JSON values; `find_latest` needs `next_epoch` and `next_step`.
        keep_old_as: name that an older file `path` gets; None replaces it.
        mark: the run and the number of the state, by which `find_latest` orders the files of a folder.

    Raises:
        CheckpointError: `meta` is larger than the readers accept.
        DiskError: the file cannot be written; the temporary file is removed, and an older `path` is untouched.
    """
    path = Path(path)
    written = max(time.time_ns(), _read_header(path).written + 1)  # the clock of another machine may be behind
    texts = {"sha256": UNKNOWN, "written": str(written)}
    if mark:
        texts |= {"run": mark.run, "count": str(mark.count)}
    texts["meta"] = json.dumps(meta, allow_nan=False)
    try:
        header, *data = encode(tensors, texts)
    except ValueError as error:
        raise CheckpointError(f"cannot write {path}: {error}") from None
    header = header[: CHECKSUM.start] + _sha256([header, *data]).encode() + header[CHECKSUM.stop :]
    try:
        with atomic_write(path, replace=False) as file:
            file.writelines([header, *data])
        if keep_old_as:
            _link(path, Path(keep_old_as))
        os.replace(temporary_path(path), path)
        fsync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary_path(path).unlink(missing_ok=True)
        raise DiskError(
            f"cannot write {path}: {error.strerror or error}; an older file of that name is untouched, free some space"
        ) from error


def _link(path: Path, name: Path) -> None:
    """Give the file `path` the second name `name`; `path` exists at every moment."""
    link = temporary_path(name)
    with suppress(OSError):  # no older file, or a file system without links: then only the new file is kept
        link.unlink(missing_ok=True)
        os.link(path, link)
        os.replace(link, name)


def remove_leftovers(output_dir: str | Path) -> list[Path]:
    """Delete the temporary files of killed writers; one process may call it, before it writes. Returns the files."""
    leftovers = sorted(path for pattern in LEFTOVERS for path in Path(output_dir).glob(pattern))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers


def _sha256(parts: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


# --- Reading --------------------------------------------------------------------------------------------------------


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a file of `write_checkpoint`.

    Raises:
        CheckpointError: the file cannot be read, is no checkpoint, or any byte of it has changed.
    """
    path = Path(path)
    data = read_bytes(path)
    if (file_format := recognise_format(data)) != "checkpoint":
        raise CheckpointError(f"{path} {FORMATS[file_format]}; expected an undamaged checkpoint of this project")
    return verify_checkpoint(path, data)


def verify_checkpoint(path: Path, data: bytes) -> Checkpoint:
    """Verify the checksum of the bytes of a checkpoint, and decode them.

    Raises:
        CheckpointError: a byte has changed, or the content is not that of a checkpoint.
    """
    view = memoryview(data)
    checksum = _sha256([view[: CHECKSUM.start], UNKNOWN.encode(), view[CHECKSUM.stop :]])
    if checksum.encode() != data[CHECKSUM]:
        raise CheckpointError(
            f"{path} is damaged: its {len(data):,} bytes do not give the checksum written in it; use another checkpoint"
        )
    try:
        tensors, texts = decode(data)
        return Checkpoint(path, tensors, check_meta(parse_json(texts["meta"])))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} was not written by this project: {error}") from error


def is_checkpoint(path: str | Path) -> bool:
    """Whether the file begins as a checkpoint of this project; its content is not verified.

    Raises:
        CheckpointError: the file cannot be read.
    """
    return recognise_format(read_bytes(Path(path), CHECKSUM.start)) == "checkpoint"


def find_latest(output_dir: str | Path) -> Path | None:
    """Find the undamaged checkpoint with which a run came furthest; a warning names each file that is passed over.

    The files of one run are ordered by the number of their state. That is not always the order of the epochs: a run may
    have been continued from an older checkpoint. The run is that of `checkpoint-latest.pd`, which each run writes;
    files of another run, which somebody has copied into the folder, come last. Files of earlier versions, which have no
    number, are ordered by epoch and step, then by the time at which they were written.

    Returns:
        The file, or None if the folder has no checkpoint.

    Raises:
        CheckpointError: all checkpoints are damaged; a start from nothing would overwrite what can perhaps be saved.
    """
    headers = _read_headers(output_dir)
    run = _run_of(headers)

    def place(path: Path) -> tuple:
        header = headers[path]
        is_own, is_foreign = header.mark.run == run, header.mark.run not in (run, "")
        is_latest = bool(header.mark.run) and path.name == LATEST  # written after it, whatever the clock says
        at = (header.next_epoch, header.next_step)
        return at > (-1, -1), not is_foreign, is_own, header.mark.count, at, is_latest, header.written

    for path in sorted(headers, key=place, reverse=True):
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            logger.warning(f"passed over: {error}")
            continue
        foreign = [other.name for other in headers if headers[other].mark.run not in (headers[path].mark.run, "")]
        if foreign and headers[path].mark.run:
            logger.warning(f"passed over, because another run wrote them than {path}: {', '.join(foreign)}")
        return path
    if headers:
        raise CheckpointError(
            f"none of the {len(headers)} checkpoints in {output_dir} is good; move them away to start from the "
            "beginning"
        )
    return None


def last_mark(output_dir: str | Path) -> Mark:
    """The run whose checkpoints are in a folder, or a new one, and the largest number of a state in the folder."""
    headers = _read_headers(output_dir)
    run = _run_of(headers) or os.urandom(8).hex()
    return Mark(run, max((header.mark.count for header in headers.values()), default=0))


def _run_of(headers: dict[Path, _Header]) -> str:
    """The run that wrote last into a folder: that of the latest checkpoint, else of the largest number; or ""."""
    by_name = {path.name: header.mark.run for path, header in headers.items()}
    largest = max(headers.values(), key=lambda header: (header.mark.count, header.written), default=_Header())
    return by_name.get(LATEST) or by_name.get(PREVIOUS) or largest.mark.run


def _read_headers(output_dir: str | Path) -> dict[Path, _Header]:
    return {path: _read_header(path) for path in sorted(Path(output_dir).glob("checkpoint-*.pd"))}


def _read_header(path: Path) -> _Header:
    """Read the header alone; the content is verified later.

    The time is in the file, because the files of a copied folder have the time of copying.
    """
    try:
        with open_regular(path) as file:
            start = file.read(8)
            header = decode_header(start + file.read(min(int.from_bytes(start, "little"), path.stat().st_size)))
        texts = header["__metadata__"]
        meta = parse_json(texts["meta"])
        mark = Mark(str(texts.get("run", "")), int(texts.get("count", 0)))
        return _Header(mark, int(meta["next_epoch"]), int(meta["next_step"]), int(texts.get("written", 0)))
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
        return _Header()
