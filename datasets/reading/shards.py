"""Tar shards as a data set: an index of places and labels, which is mapped into memory, not read.

A file in a shard is named by its place: `train-00003.tar@1048576+40321` has 40,321 bytes from byte 1,048,576 on.
"""

import json
import mmap
import os
import re
import stat
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from common.errors import BadImage, DataError
from common.regular_files import read_regular

from .image_list import ImageList, fingerprint_of, read_image_list
from .limits import MAX_BYTES

SETTINGS_FILE = "settings.json"  # written first: a second run continues only with the same settings
MAX_SETTINGS_BYTES = 2**16
SHARDS_FILE = "shards.json"  # written last: a folder without it is not complete
INDEX_FILE = "index.npy"
LIST_FILE = "list.txt"  # the original path and label of every image, in order
ENTRY = np.dtype([("shard", "<i4"), ("offset", "<i8"), ("size", "<i8"), ("label", "<i8")])
MAX_OPEN = 256  # shards that a process keeps mapped; each costs one of the usual 1,024 file descriptors

_PLACE = re.compile(r"(.*\.tar)@(\d+)\+(\d+)", re.DOTALL)


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
            if not os.path.isfile(Path(folder) / INDEX_FILE):  # opening a FIFO would wait for ever
                raise ValueError(f"{INDEX_FILE} is no regular file")
            self._index = np.load(Path(folder) / INDEX_FILE, mmap_mode="r", allow_pickle=False)
            self._shards = [os.path.join(self.root, os.path.basename(shard["name"])) for shard in self._about["shards"]]
            names, num_images = self._about["class_names"], self._about["num_images"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}: its index cannot be read ({error}); pack it again") from None
        if self._index.dtype != ENTRY:
            raise DataError(f"{folder}/{INDEX_FILE}: expected entries of {ENTRY}, got {self._index.dtype}")
        shard = self._index["shard"]
        if len(shard) != num_images or shard.min(initial=0) < 0 or shard.max(initial=-1) >= len(self._shards):
            raise DataError(f"{folder}/{INDEX_FILE}: is damaged; remove it and pack again")
        for field in ("label", "offset", "size"):
            if self._index[field].min(initial=0) < 0:
                number = int(self._index[field].argmin())
                raise DataError(
                    f"{folder}/{INDEX_FILE}: {field} {self._index[field][number]} of image {number} is negative; "
                    "remove the folder and pack again"
                )
        self.exif_orientation = _stored_orientation(Path(folder) / SETTINGS_FILE)
        self.class_names = None if names is None else tuple(names)
        self.labels = np.array(self._index["label"])  # [N] int64
        self.remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self._index)

    def fingerprint(self) -> str:
        """SHA-256 of labels and checksums of the shards, 64 hexadecimal digits."""
        return fingerprint_of(self.labels, "".join(shard["sha256"] for shard in self._about["shards"]).encode())

    def files(self) -> dict[str, dict]:
        """By path, length ("bytes") and checksum ("sha256") of shards, index and list when they were packed."""
        # older folders describe neither the index nor the list
        packed = [*self._about["shards"], *self._about.get("index", []), *self._about.get("list", [])]
        return {os.path.join(self.root, facts["name"]): facts for facts in packed}

    def path(self, index: int) -> str:
        """Place of image `index` in its shard, which `datasets.reading.decode.read_bytes` reads."""
        shard, offset, size, _ = self._index[index].tolist()
        return member_place(self._shards[shard], offset, size)

    def original(self, index: int) -> str:
        """Path by which a person finds image `index`: that of the packed file below its root; else the place."""
        return self._originals.path(index) if self._originals else self.path(index)

    @cached_property
    def _originals(self) -> ImageList | None:
        try:
            images = read_image_list(os.path.join(self.root, LIST_FILE), "")
        except DataError:  # the list is for people; the shards do not need it
            return None
        return images if len(images) == len(self) else None

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


def _stored_orientation(path: Path) -> str | None:
    """What was done with EXIF when the images were packed: "ignore" or "apply"; None if the files are stored as is."""
    try:
        settings = json.loads(read_regular(path, MAX_SETTINGS_BYTES))
        return settings["exif_orientation"] if settings["store"] != "as_is" else None
    except (OSError, ValueError, KeyError, TypeError):  # the shards do not need it
        return None


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}; pack the folder again") from None


# ---------------------------------------------------------------------------------------------------- files in shards


def member_place(shard: str, offset: int, size: int) -> str:
    """The path by which `read_member` reads a file of a shard, from its first byte and its number of bytes."""
    return f"{shard}@{offset}+{size}"


def is_member(path: str) -> bool:
    """Whether `path` is the place of a file in a shard."""
    return _PLACE.fullmatch(path) is not None


def read_member(path: str) -> memoryview:
    """Read the file at a place of a shard, without a copy.

    Raises:
        BadImage: the file is longer than a picture may be, the shard is no regular file, or it ends before the file.
        OSError: the shard cannot be opened.
    """
    shard, offset, size = _PLACE.fullmatch(path).groups()
    start, end = int(offset), int(offset) + int(size)
    if end - start > MAX_BYTES:
        raise BadImage(path, f"{(end - start) >> 20} MB; the limit is {MAX_BYTES >> 20} MB")
    content = _mapped(shard)
    if end > len(content):
        raise BadImage(path, f"the shard ends at byte {len(content)}; pack it again")
    return memoryview(content)[start:end]


@lru_cache(MAX_OPEN)
def _mapped(shard: str) -> mmap.mmap:
    if not stat.S_ISREG(os.stat(shard).st_mode):  # opening a FIFO would wait for ever
        raise BadImage(shard, "the shard is not a regular file")
    with open(shard, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
