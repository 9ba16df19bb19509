"""Read one IDX file, the format of MNIST: a header of four bytes, the sizes, then unsigned bytes; plain or gzip."""

import hashlib
import io
import math
import os
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np

from common.cli import did_you_mean_path
from common.errors import DataError
from common.regular_files import open_regular

UNSIGNED_BYTE = 8
TYPES = {8: "unsigned bytes", 9: "signed bytes", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
GZIP = b"\x1f\x8b"
BLOCK_BYTES = 2**18
MAX_BYTES = 2**30  # of the pixels; the largest set of EMNIST has 0.55 GB
MAX_SIDE = 1024  # pixels
MAX_IMAGES = 2_000_000


class IdxFile:
    """An IDX file of unsigned bytes whose header fits its kind; the content is read in blocks, never whole.

    A header is believed only as far as the limits above, and no more is decompressed than it promises: a small file
    that promises or holds gigabytes is refused.

    Args:
        path: the file.
        num_dimensions: 3 for images [N, H, W], 1 for labels [N].

    Raises:
        DataError: the file cannot be read, or is no such file.
    """

    def __init__(self, path: str | os.PathLike, num_dimensions: int):
        self.path = os.fspath(path)
        self._num_dimensions = num_dimensions
        with self._open() as file:
            self.shape = self._read_header(file)

    @classmethod
    def of_images(cls, path: str | os.PathLike) -> "IdxFile":
        """Open a file of images [N, H, W]."""
        return cls(path, 3)

    @classmethod
    def of_labels(cls, path: str | os.PathLike) -> "IdxFile":
        """Open a file of labels [N]."""
        return cls(path, 1)

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self) -> Iterator[np.ndarray]:
        """Yield the elements of the first dimension one by one: images [H, W] uint8, or labels [] uint8.

        Raises:
            DataError: the file is damaged, shorter or longer than its header says.
        """
        size = math.prod(self.shape[1:])
        with self._open() as file:
            self._read_header(file)
            for number in range(len(self)):
                row = self._read(file, size, f"item {number} of {len(self):,}")
                yield np.frombuffer(row, np.uint8).reshape(self.shape[1:])
            if self._read_some(file, 1):
                raise DataError(f"{self.path}: has bytes behind the {len(self):,} items of its header; {ADVICE}")

    def read_all(self) -> np.ndarray:
        """Read the whole content, `shape` uint8.

        Raises:
            DataError: as of `rows`.
        """
        return np.stack(list(self.rows()))

    def check(self) -> str:
        """Read the whole file, and return the SHA-256 of its content, of which the sizes are a part.

        Raises:
            DataError: as of `rows`.
        """
        digest = hashlib.sha256(repr(self.shape).encode())
        for row in self.rows():
            digest.update(row)
        return digest.hexdigest()

    def _read_header(self, file: IO[bytes]) -> tuple[int, ...]:
        magic = self._read(file, 4, "the header")
        if magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= 8:
            raise DataError(f"{self.path}: is no IDX file: it begins with {magic.hex(' ')}; {ADVICE}")
        if magic[2] != UNSIGNED_BYTE:
            raise DataError(f"{self.path}: holds {TYPES[magic[2]]}; only IDX files of unsigned bytes are read")
        kind = "images, which have 3" if self._num_dimensions == 3 else "labels, which have 1"
        if magic[3] != self._num_dimensions:
            raise DataError(
                f"{self.path}: has {magic[3]} dimensions; expected a file of {kind}; are two files exchanged?"
            )
        header = self._read(file, 4 * magic[3], "the header")
        shape = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(0, len(header), 4))
        text = " x ".join(f"{size:,}" for size in shape)
        if 0 in shape:
            raise DataError(f"{self.path}: promises {text} values, so nothing; {ADVICE}")
        if shape[0] > MAX_IMAGES or max(shape[1:], default=0) > MAX_SIDE or math.prod(shape) > MAX_BYTES:
            limits = (
                f"{MAX_IMAGES:,} images of at most {MAX_SIDE:,} pixels a side and {MAX_BYTES / 2**30:.0f} GB in all"
            )
            raise DataError(f"{self.path}: promises {text} values; the limit is {limits}")
        return shape

    def _open(self) -> IO[bytes]:
        try:
            file = open_regular(self.path)
        except FileNotFoundError:
            raise DataError(f"{self.path}: no such file{did_you_mean_path(self.path)}") from None
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror or error}") from None
        is_packed = file.read(2) == GZIP
        file.seek(0)
        return io.BufferedReader(_Inflated(file), BLOCK_BYTES) if is_packed else file

    def _read(self, file: IO[bytes], size: int, what: str) -> bytes:
        data = self._read_some(file, size)
        if len(data) < size:
            raise DataError(f"{self.path}: ends inside {what}; {ADVICE}")
        return data

    def _read_some(self, file: IO[bytes], size: int) -> bytes:
        try:
            return file.read(size)
        except (OSError, zlib.error) as error:
            raise DataError(f"{self.path}: damaged gzip data ({error}); {ADVICE}") from None


ADVICE = "copy or download the file again"


class _Inflated(io.RawIOBase):
    """The content of an open gzip file of one member, decompressed block by block by zlib.

    Python's own reader goes through a name in the header byte by byte, which takes minutes for a long one.
    """

    def __init__(self, file: IO[bytes]):
        self._file, self._inflate, self._left = file, zlib.decompressobj(31), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self._inflate.eof:
            packed = self._left or self._file.read(BLOCK_BYTES)
            if not packed:
                raise OSError("the file is cut short")
            data = self._inflate.decompress(packed, len(buffer))
            self._left = self._inflate.unconsumed_tail
            if data:
                buffer[: len(data)] = data
                return len(data)
        if self._inflate.unused_data or self._file.read(1):
            raise OSError("bytes behind the end of the data")
        return 0

    def close(self) -> None:
        self._file.close()
        super().close()
