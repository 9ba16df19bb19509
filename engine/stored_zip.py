"""Reads the entries of a zip archive in memory; sizes and places are compared with the bytes of the archive.

Python's zipfile is not used: it builds an object for every entry that a directory of any size names, and it follows
entries that share their bytes.
"""

import struct
import zlib
from itertools import pairwise
from typing import NamedTuple

from common.errors import CheckpointError

MAX_ENTRIES = 100_000
MAX_INFLATED_BYTES = 16 << 20  # of all compressed entries; torch.save compresses nothing
END, END_64, LOCATOR_64, DIRECTORY, LOCAL = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02", b"PK\x03\x04"
STORED, DEFLATED = 0, 8
ENCRYPTED = 1


class Entry(NamedTuple):
    """Row of the directory of an archive.

    Attributes:
        start: place of the first byte of the content.
        packed_size: bytes in the file.
        size: bytes of the content.
    """

    start: int
    packed_size: int
    size: int
    crc: int
    method: int


class StoredZip:
    """Archive whose entries are read by name.

    Raises:
        CheckpointError: the archive is cut off, damaged, encrypted, or its entries overlap.
    """

    def __init__(self, data: bytes):
        self._data = data
        self._inflated_bytes = 0
        try:
            self.entries = self._read_directory()
        except struct.error:
            raise CheckpointError("a damaged zip archive: its directory is cut off") from None
        # torch.utils.serialization.config.save.compute_crc32 = False writes 0 for every entry.
        self._has_checksums = any(entry.crc for entry in self.entries.values())

    def read(self, name: str) -> memoryview:
        """Read the content of an entry, without a copy where the entry is not compressed.

        Raises:
            CheckpointError: there is no such entry, its checksum is wrong, or it inflates to too many bytes.
        """
        if (entry := self.entries.get(name)) is None:
            raise CheckpointError(f"the zip archive has no entry {name[:80]!r}")
        content = memoryview(self._data)[entry.start : entry.start + entry.packed_size]
        if entry.method == DEFLATED:
            content = memoryview(self._inflate(name, content, entry.size))
        if self._has_checksums and zlib.crc32(content) != entry.crc:
            raise CheckpointError(f"damaged: the entry {name[:80]!r} does not have the checksum written in the archive")
        return content

    def _inflate(self, name: str, packed: memoryview, size: int) -> bytes:
        self._inflated_bytes += size
        if self._inflated_bytes > MAX_INFLATED_BYTES:
            raise CheckpointError(
                f"the entry {name[:80]!r} is compressed, which torch.save never does, and is larger than "
                f"{MAX_INFLATED_BYTES >> 20} MB together with the others; unpack the archive and pack it with `zip -0`"
            )
        try:
            content = zlib.decompressobj(-15).decompress(packed, size + 1)
        except zlib.error as error:
            raise CheckpointError(f"damaged: the entry {name[:80]!r} cannot be inflated: {error}") from None
        if len(content) != size:
            raise CheckpointError(f"damaged: the entry {name[:80]!r} does not inflate to {size:,} bytes")
        return content

    def _read_directory(self) -> dict[str, Entry]:
        count, position, end = self._find_directory()
        if count > MAX_ENTRIES:
            raise CheckpointError(f"refused: a zip archive of {count:,} entries; at most {MAX_ENTRIES:,} are read")
        entries, extents = {}, []
        for _ in range(count):
            name, entry, extent, position = self._read_row(position, end)
            if name in entries:
                raise CheckpointError(f"refused: the zip archive has two entries {name[:80]!r}")
            entries[name] = entry
            extents.append(extent)
        extents.sort()
        if any(before[1] > after[0] for before, after in pairwise(extents)):
            raise CheckpointError("refused: entries of the zip archive overlap")
        return entries

    def _find_directory(self) -> tuple[int, int, int]:
        """(number of entries, place of the directory, place behind it)."""
        data = self._data
        at = data.rfind(END, max(0, len(data) - 65557))  # 22 bytes and a comment
        if at < 0:
            raise CheckpointError("a zip archive that is cut off or damaged: its directory is missing")
        count, size, start, comment_length = struct.unpack_from("<10xHIIH", data, at)
        if at + 22 + comment_length != len(data):
            raise CheckpointError("a zip archive that is cut off, or with foreign bytes behind its end")
        end = at
        if at >= 20 and data[at - 20 : at - 16] == LOCATOR_64:
            (at_64,) = struct.unpack_from("<8xQ", data, at - 20)
            if data[at_64 : at_64 + 4] != END_64:
                raise CheckpointError("a damaged zip archive: its directory is not where it is said to be")
            count, size, start = struct.unpack_from("<32xQQQ", data, at_64)
            end = at_64
        if start + size > end:
            raise CheckpointError("a damaged zip archive: its directory is larger than the file")
        return count, start, start + size

    def _read_row(self, position: int, end: int) -> tuple[str, Entry, tuple[int, int], int]:
        """(name, entry, extent of its bytes with the local header, place of the next row)."""
        data = self._data
        signature, flags, method, crc, packed_size, size, name_length, extra_length, comment_length, header = (
            struct.unpack_from("<4s4xHH4xIIIHHH8xI", data, position)
        )
        name_end = position + 46 + name_length
        following = name_end + extra_length + comment_length
        if signature != DIRECTORY or following > end:
            raise CheckpointError("a damaged zip archive: a row of its directory is cut off")
        raw_name = data[position + 46 : name_end]
        name = raw_name.decode("utf-8", "replace")
        if flags & ENCRYPTED or method not in (STORED, DEFLATED):
            raise CheckpointError(
                f"the entry {name[:80]!r} of the zip archive is encrypted or compressed by method {method}"
            )
        size, packed_size, header = _wide(data[name_end : name_end + extra_length], size, packed_size, header)
        if method == STORED and size != packed_size:
            raise CheckpointError(f"damaged: the entry {name[:80]!r} is stored, but announces two sizes")
        local, local_name, local_extra = struct.unpack_from("<4s22xHH", data, header)
        start = header + 30 + local_name + local_extra
        if local != LOCAL or data[header + 30 : header + 30 + local_name] != raw_name:
            raise CheckpointError(f"damaged: the entry {name[:80]!r} is not where the directory says")
        if start + packed_size > len(data):
            raise CheckpointError(f"the entry {name[:80]!r} is cut off: {packed_size:,} bytes are announced")
        return name, Entry(start, packed_size, size, crc, method), (header, start + packed_size), following


def _wide(extra: bytes, *numbers: int) -> list[int]:
    """The numbers, those of 0xFFFFFFFF exchanged for the 64-bit ones of the extra field of zip64."""
    wide = iter(())
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == 1:
            field = extra[position + 4 : position + 4 + length]
            wide = iter(struct.unpack_from(f"<{len(field) // 8}Q", field))
            break
        position += 4 + length
    try:
        return [next(wide) if number == 0xFFFFFFFF else number for number in numbers]
    except StopIteration:
        raise CheckpointError("a damaged zip archive: a size of 64 bits is missing") from None
