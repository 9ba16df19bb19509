"""Recognition of the format of a file of weights by its content, since names and extensions are often wrong."""

import os
from pathlib import Path

from common.cli import did_you_mean_path
from common.errors import CheckpointError
from common.regular_files import open_regular

# The checksum is the first text in a checkpoint, so that its place is known. It covers every other byte of the file.
BEFORE_CHECKSUM = b'{"__metadata__":{"sha256":"'
TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # a pickled number, with which torch.save began before version 1.6

START_BYTES = 64  # of a file, from which its format is known
FORMATS = {
    "checkpoint": "is a checkpoint of this project",
    "safetensors": "is a plain safetensors file: weights, but not a state of training",
    "pickle": "is a pickle, as Paddle writes it: weights can be read from it, but not a state of training",
    "pytorch": "is a file of torch.save: weights can be read from it, but not a state of training",
    "empty": "is empty (0 bytes)",
    "lfs": "is a pointer of Git LFS, not the file of weights itself: `git lfs pull` in its repository, or a download, "
    "gets the file",
    "html": "is a web page, not a file of weights: the download was answered by a page; download the file again",
    "unknown": "is not a file of weights, or damaged in its first bytes; name a .pd, .pdparams, .safetensors or .pth "
    "file, or copy or download it again",
}


def recognise_format(data: bytes) -> str:
    """Name the format of a file, a key of FORMATS, by its first bytes."""
    if not data:
        return "empty"
    if data[8 : 8 + len(BEFORE_CHECKSUM)] == BEFORE_CHECKSUM:
        return "checkpoint"
    if data[8:9] == b"{":
        return "safetensors"
    # torch.save writes a zip archive since version 1.6; in a pickle of protocol 4 a frame comes before the number.
    if data.startswith(b"PK\x03\x04") or TORCH_MAGIC in data[:32]:
        return "pytorch"
    if data.startswith(b"version https://git-lfs"):
        return "lfs"
    if data[:64].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "html"
    return "pickle" if data[:1] == b"\x80" else "unknown"


def read_bytes(path: Path, size: int = -1) -> bytes:
    """Read the first `size` bytes of a file, or with -1 the whole file.

    Raises:
        CheckpointError: the file cannot be read or has no known format; for a folder the message names the checkpoints
            in it.
    """
    try:
        with open_regular(path) as file:
            data = file.read(size if size >= 0 else START_BYTES)
            if size >= 0 or len(data) < START_BYTES:
                return data
            _check_size(path, data, os.fstat(file.fileno()).st_size)
            file.seek(0)
            return file.read()
    except IsADirectoryError:
        names = sorted(file.name for file in path.glob("checkpoint-*.pd"))
        inside = f"; name a file in it: {', '.join(names)}" if names else " without checkpoints"
        raise CheckpointError(f"cannot read {path}: it is a folder{inside}") from None
    except OSError as error:
        near = did_you_mean_path(path) if isinstance(error, FileNotFoundError) else ""
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}{near}") from error
    except MemoryError:
        raise CheckpointError(f"cannot read {path}: the memory does not suffice for its bytes") from None


def _check_size(path: Path, start: bytes, size: int) -> None:
    """Refuse a file by its first bytes and its size, before all of it is read: a file with holes can have any size."""
    file_format = recognise_format(start)
    if file_format not in ("checkpoint", "safetensors", "pickle", "pytorch"):
        raise CheckpointError(f"{path} {FORMATS[file_format]}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else size
    if size > memory:
        raise CheckpointError(f"cannot read {path}: it has {size >> 20:,} MB, more than the memory of this machine")
