"""Reader and writer of the safetensors format: named arrays and a few texts in one file that can run no code.

The format is 8 bytes of length, a JSON header, and the data (github.com/huggingface/safetensors). The safetensors
package is not used: it does not read arrays without elements, and it does not give the bytes in parts, which the
checksum of a checkpoint needs.
"""

import json
import math

import numpy as np

from common.json_text import check_json_size, parse_json

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
MAX_DIMENSIONS = 32
CODES = {dtype: code for code, dtype in DTYPES.items()}


def encode(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> list[bytes | memoryview]:
    """Encode a file in parts: the header with its length, then the arrays, the widest numbers first for alignment.

    Raises:
        ValueError: the header would be larger than the readers take.
    """
    entries, parts, offset = {"__metadata__": metadata}, [], 0
    for name in sorted(arrays, key=lambda name: (-arrays[name].itemsize, name)):
        array = np.ascontiguousarray(arrays[name]).reshape(arrays[name].shape)  # ascontiguousarray makes 0-d 1-d
        end = offset + array.nbytes
        entries[name] = {"dtype": CODES[array.dtype], "shape": list(array.shape), "data_offsets": [offset, end]}
        parts.append(array.reshape(-1).view(np.uint8).data)
        offset = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    check_json_size(header)
    header += b" " * (-len(header) % 8)
    return [len(header).to_bytes(8, "little") + header, *parts]


def decode(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Decode a file: the arrays, which are read-only views of `data`, and the metadata.

    Raises:
        ValueError: the bytes are not those of a consistent file.
    """
    entries, start = decode_header(data), 8 + int.from_bytes(data[:8], "little")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is not a table of texts")
    arrays, position = {}, 0
    for name, entry in sorted(entries.items(), key=lambda item: _offsets(*item)):
        begin, end = _offsets(name, entry)
        if begin != position or end > len(data) - start:
            raise ValueError(
                f"entry {name!r} has the bytes {begin} to {end}, which leave a gap, overlap or end too late"
            )
        arrays[name] = _array(name, entry, memoryview(data)[start + begin : start + end])
        position = end
    if position != len(data) - start:
        raise ValueError(f"{len(data) - start - position} bytes belong to no entry")
    return arrays, metadata


def decode_header(data: bytes) -> dict:
    """Decode the header, which names every entry; `data` needs no bytes behind it.

    Raises:
        ValueError: the header is cut off, too large, or no table.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise ValueError(f"the header should have {length:,} bytes, the file has {len(data):,}")
    entries = parse_json(data[8 : 8 + length])
    if not isinstance(entries, dict):
        raise ValueError("the header is not a table")
    return entries


def _offsets(name: str, entry: object) -> tuple[int, int]:
    match entry:
        case {"dtype": str(), "shape": [*shape], "data_offsets": [int(begin), int(end)]} if (
            0 <= begin <= end
            and len(shape) <= MAX_DIMENSIONS
            and all(type(side) is int and 0 <= side < 1 << 48 for side in shape)
        ):
            return begin, end
    raise ValueError(f"entry {name!r} needs a dtype, a shape and data_offsets")


def _array(name: str, entry: dict, raw: memoryview) -> np.ndarray:
    code, shape = entry["dtype"], tuple(entry["shape"])
    dtype = np.dtype("<u2") if code == "BF16" else DTYPES.get(code)
    if dtype is None:
        raise ValueError(f"entry {name!r} has the unknown dtype {code}; known: {', '.join(DTYPES)}, BF16")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"entry {name!r} of shape {list(shape)} and dtype {code} cannot have {len(raw)} bytes")
    array = np.frombuffer(raw, dtype).reshape(shape)
    if code == "BF16":  # numpy has no bfloat16: its 16 bits are the upper half of a float32
        array = (array.astype("<u4") << 16).view("<f4")
    return array
