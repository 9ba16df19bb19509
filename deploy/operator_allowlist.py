"""The operators that a program may hold: those that our exporter writes, checked before a runtime opens the file."""

import json
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path

from common.errors import ExportedModelError
from common.regular_files import open_regular

from .card import EXPORT_AGAIN

MAX_JSON_BYTES = 1 << 24  # PeleeNet's model.json has 379 kB

# The values of the key "#" in Paddle 3's files, at any depth: operators, then attributes and types. 0 is the dialect
# "builtin", 1 is "pd_op", p is a parameter.
JSON_NAMES = frozenset(
    """
    p 0.combine 1.add 1.batch_norm_ 1.concat 1.conv2d 1.data 1.depthwise_conv2d 1.dropout 1.fetch 1.flatten 1.full
    1.full_int_array 1.hardsigmoid 1.hardswish 1.matmul 1.multiply 1.pool2d 1.relu 1.reshape 1.softmax
    0.a_array 0.a_bool 0.a_f32 0.a_f64 0.a_i32 0.a_i64 0.a_str 1.a_dtype 1.a_intarray 1.a_place
    0.t_dtensor 0.t_f32 0.t_i32 0.t_i64 0.t_ui8 0.t_vec block_0 region_0
    """.split()
)
PDMODEL_OPERATORS = frozenset(
    """
    batch_norm concat conv2d depthwise_conv2d dropout elementwise_add elementwise_mul feed fetch
    flatten_contiguous_range hard_sigmoid hard_swish matmul_v2 pool2d relu reshape2
    """.split()
)
ONNX_OPERATORS = frozenset(
    """
    Add AveragePool BatchNormalization Concat Constant Conv DequantizeLinear Gemm GlobalAveragePool HardSigmoid
    HardSwish Identity MatMul MaxPool Mul QuantizeLinear Relu Reshape Shape Slice
    """.split()
)
# By the extension of the program: name of the allowlist in this file, and the allowlist
ALLOWLISTS = {
    ".json": ("JSON_NAMES", JSON_NAMES),
    ".pdmodel": ("PDMODEL_OPERATORS", PDMODEL_OPERATORS),
    ".onnx": ("ONNX_OPERATORS", ONNX_OPERATORS | {""}),  # "" is the domain of ONNX itself
}

# Messages of Paddle's framework.proto and of onnx.proto3 as {field number: content}, with the fields that our exporter
# writes. A text describes a field that our exporter never writes, for the error message.
SKIP, NAME = None, "the name of an operator or of its domain"


def _skip(*numbers: int) -> dict:
    return dict.fromkeys(numbers, SKIP)


PDMODEL_OPERATOR = {3: NAME, **_skip(1, 2, 4)}
PDMODEL_BLOCK = {4: PDMODEL_OPERATOR, **_skip(1, 2, 3)}
PDMODEL = {1: PDMODEL_BLOCK, **_skip(4, 5)}

ONNX_TENSOR = {13: "weights in another file", **_skip(1, 2, 4, 5, 8, 9)}
ONNX_ATTRIBUTE = {5: ONNX_TENSOR, 6: "a graph inside a graph", **_skip(1, 2, 3, 4, 7, 8, 20)}
ONNX_NODE = {4: NAME, 5: ONNX_ATTRIBUTE, 7: NAME, **_skip(1, 2, 3, 6)}
ONNX_GRAPH = {1: ONNX_NODE, 5: ONNX_TENSOR, **_skip(2, 10, 11, 12, 13)}
ONNX = {7: ONNX_GRAPH, 25: "operators defined by the file", **_skip(1, 2, 3, 8, 14)}


def check_operators(path: Path) -> None:
    """Compare the operators of the program at `path` with those that our exporter writes.

    Raises:
        ExportedModelError: the program holds another operator, is damaged, or is not a program.
    """
    if foreign := foreign_names(path):
        raise ExportedModelError(
            f"{path}: holds {_quoted(foreign)}, which our exporter never writes, and operators can read and write "
            "files. If you trust the origin of the program: --trust_program True"
        )


def check_exported_operators(paths: Iterable[Path]) -> None:
    """Compare the operators of programs that were just exported with the allowlists.

    Raises:
        ExportedModelError: a program holds another operator; the message lists the lines to add to this file.
    """
    missing = {suffix: set() for suffix in ALLOWLISTS}
    for path in paths:
        missing[path.suffix].update(foreign_names(path))
    if any(missing.values()):
        lines = [
            f"    to {ALLOWLISTS[suffix][0]}: {' '.join(sorted(names))}" for suffix, names in missing.items() if names
        ]
        raise ExportedModelError(
            f"the model holds {_quoted(sorted(set().union(*missing.values())))}, which our exporter does not know; "
            "nothing was written. If the model is your own, add to deploy/operator_allowlist.py and export again:\n"
            + "\n".join(lines)
        )


def foreign_names(path: Path) -> list[str]:
    """Names in the program at `path` that are not in its allowlist, sorted.

    Raises:
        ExportedModelError: the file is damaged, or is not a program.
    """
    if path.suffix not in ALLOWLISTS:
        raise ExportedModelError(
            f"{path}: expected a program called {', '.join('*' + suffix for suffix in ALLOWLISTS)}"
        )
    try:
        return sorted(set(read_names(path)) - ALLOWLISTS[path.suffix][1])
    except (ValueError, RecursionError) as error:
        raise ExportedModelError(f"{path}: damaged, or not a program: {error}; {EXPORT_AGAIN}") from None


def _quoted(names: list[str]) -> str:
    return ", ".join(repr(name[:60]) for name in names[:5])


def read_names(path: Path) -> Iterator[str]:
    """Read the names of operators, attributes, types and domains out of a program, without the library of its form."""
    if path.suffix == ".json":
        return _json_names(path)
    with open_regular(path) as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return _protobuf_names(content, PDMODEL if path.suffix == ".pdmodel" else ONNX)


def _json_names(path: Path) -> Iterator[str]:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"more than {MAX_JSON_BYTES} bytes")
    names = set()

    def add_names(pairs: list[tuple[str, object]]) -> None:  # also of a key that is there twice, unlike in a dict
        names.update(str(value) for key, value in pairs if key == "#")

    json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=add_names)
    return iter(names)


def _protobuf_names(message: memoryview, fields: dict) -> Iterator[str]:
    position = 0
    while position < len(message):
        key, start = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == 2:
            length, start = _varint(message, start)
            position = start + length
        elif wire_type == 0:
            _, position = _varint(message, start)
        else:
            position = start + {1: 8, 5: 4}.get(wire_type, len(message))  # groups, 3 and 4, are never written
        if position > len(message):
            raise ValueError(f"field {number} ends {position - len(message)} bytes after its message")
        content = fields.get(number, f"field {number}")
        if isinstance(content, dict):
            yield from _protobuf_names(message[start:position], content)
        elif content is NAME:
            yield str(message[start:position], "utf-8", "replace")
        elif content is not SKIP:
            yield content


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Read the number at `position`, 7 bits per byte; return the number and the position behind it."""
    value = shift = 0
    while position < len(message) and shift < 64:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError(f"a number that does not end before byte {position} of its message")
