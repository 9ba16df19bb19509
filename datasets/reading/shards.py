"""A folder of tar shards as a data set: an index of places and labels, which is mapped into memory, not read."""

import json
import os
from pathlib import Path

import numpy as np

from common.errors import DataError

from .image_list import fingerprint_of
from .tar_members import member_place

SHARDS_FILE = "shards.json"  # written last: a folder without it is not complete
INDEX_FILE = "index.npy"
LIST_FILE = "list.txt"  # the original path and label of every image, in order
ENTRY = np.dtype([("shard", "<i4"), ("offset", "<i8"), ("size", "<i8"), ("label", "<i8")])


def is_sharded(folder: str | os.PathLike) -> bool:
    """Whether `datasets.pack` has written `folder`."""
    return os.path.isfile(os.path.join(folder, SHARDS_FILE))


class ShardedImages:
    """Images of shards in the order in which they were packed; has the methods of `ImageList`.

    Args:
        folder: a folder that `datasets.pack` has written.

    Raises:
        DataError: the index of the folder is missing or damaged.
    """

    def __init__(self, folder: str | os.PathLike):
        self.root = os.fspath(folder)
        self._about = _read_json(Path(folder) / SHARDS_FILE)
        try:
            self._index = np.load(Path(folder) / INDEX_FILE, mmap_mode="r", allow_pickle=False)
            self._shards = [os.path.join(self.root, shard["name"]) for shard in self._about["shards"]]
            names, num_images = self._about["class_names"], self._about["num_images"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}: its index cannot be read ({error}); pack it again") from None
        if self._index.dtype != ENTRY:
            raise DataError(f"{folder}/{INDEX_FILE}: expected entries of {ENTRY}, got {self._index.dtype}")
        shard = self._index["shard"]
        if len(shard) != num_images or shard.min(initial=0) < 0 or shard.max(initial=-1) >= len(self._shards):
            raise DataError(f"{folder}/{INDEX_FILE}: is damaged; remove it and pack again")
        self.class_names = None if names is None else tuple(names)
        self.labels = np.array(self._index["label"])  # [N] int64
        self.remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self._index)

    def fingerprint(self) -> str:
        """SHA-256 of labels and checksums of the shards, 64 hexadecimal digits."""
        return fingerprint_of(self.labels, "".join(shard["sha256"] for shard in self._about["shards"]).encode())

    def files(self) -> dict[str, dict]:
        """By path, length ("bytes") and checksum ("sha256") of the shards and of the index when they were packed."""
        packed = [*self._about["shards"], *self._about.get("index", [])]  # older folders do not describe the index
        return {os.path.join(self.root, facts["name"]): facts for facts in packed}

    def path(self, index: int) -> str:
        """Place of image `index` in its shard, which `datasets.reading.decode.read_bytes` reads."""
        shard, offset, size, _ = self._index[index].tolist()
        return member_place(self._shards[shard], offset, size)

    def label(self, index: int) -> int:
        """The class of image `index`."""
        return int(self.labels[index])

    def place(self, index: int) -> str:
        """The line of list.txt that names the original of image `index`."""
        return f"{os.path.join(self.root, LIST_FILE)}:{index + 1}"


def open_shards(
    folder: str | os.PathLike, num_classes: int | None = None, *, check_files: bool = True
) -> ShardedImages:
    """Open the images that `datasets.pack` wrote to `folder`; `check_files` compares the length of every shard.

    Raises:
        DataError: a shard is missing or cut short, or a label is not below `num_classes`.
    """
    images = ShardedImages(folder)
    if num_classes is not None and len(images) and images.labels.max() >= num_classes:
        index = int(images.labels.argmax())
        raise DataError(f"{images.place(index)}: label {images.label(index)}, but --nb_classes is {num_classes}")
    for path, facts in images.files().items() if check_files else ():
        num_bytes = os.path.getsize(path) if os.path.isfile(path) else "none"
        if num_bytes != facts["bytes"]:
            raise DataError(f"{path}: expected {facts['bytes']} bytes, got {num_bytes}; run datasets.pack again")
    return images


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}; pack the folder again") from None
