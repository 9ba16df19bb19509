"""What a program file may hold: only what our exporter writes, which is checked before a runtime opens the file."""

import json
import mmap
from collections.abc import Iterator
from pathlib import Path

from common.errors import ExportedModelError

from .card import EXPORT_AGAIN

MAX_JSON_BYTES = 1 << 24  # PeleeNet's is 379 kB

# What stands beside "#" in Paddle 3's files, at any depth: operators, then attributes and types. 0 is the dialect
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
KNOWN = {".json": JSON_NAMES, ".pdmodel": PDMODEL_OPERATORS, ".onnx": ONNX_OPERATORS | {""}}  # "": ONNX's own domain

# Messages of Paddle's framework.proto and of onnx.proto3 as {field number: what is in it}, with the fields that our
# exporter writes. A text names what is never written, so that an error can say it.
SKIP, NAME = None, "the name of an operator, or of its domain"


def _skip(*numbers: int) -> dict:
    return dict.fromkeys(numbers, SKIP)


PDMODEL_OPERATOR = {3: NAME, **_skip(1, 2, 4)}
PDMODEL_BLOCK = {4: PDMODEL_OPERATOR, **_skip(1, 2, 3)}
PDMODEL = {1: PDMODEL_BLOCK, **_skip(4, 5)}

ONNX_TENSOR = {13: "weights in another file", **_skip(1, 2, 4, 5, 8, 9)}
ONNX_ATTRIBUTE = {5: ONNX_TENSOR, 6: "a graph in a graph", **_skip(1, 2, 3, 4, 7, 8, 20)}
ONNX_NODE = {4: NAME, 5: ONNX_ATTRIBUTE, 7: NAME, **_skip(1, 2, 3, 6)}
ONNX_GRAPH = {1: ONNX_NODE, 5: ONNX_TENSOR, **_skip(2, 10, 11, 12, 13)}
ONNX = {7: ONNX_GRAPH, 25: "operators defined by the file", **_skip(1, 2, 3, 8, 14)}


def check_program(path: Path) -> None:
    """Compare what the program at `path` holds with what our exporter writes.

    Raises:
        ExportedModelError: it holds something else, or is no program.
    """
    if path.suffix not in KNOWN:
        raise ExportedModelError(f"{path}: expected a program called {', '.join('*' + suffix for suffix in KNOWN)}")
    try:
        foreign = sorted(set(_names(path)) - KNOWN[path.suffix])
    except (ValueError, RecursionError) as error:
        raise ExportedModelError(f"{path}: damaged, or no program: {error}; {EXPORT_AGAIN}") from None
    if foreign:
        raise ExportedModelError(
            f"{path}: holds {', '.join(repr(name[:60]) for name in foreign[:5])}, which our exporter never writes, and "
            "operators can read and write files. If you know who made it: --trust_program True; if the model is your "
            "own: add its operators to deploy/operator_allowlist.py"
        )


def _names(path: Path) -> Iterator[str]:
    if path.suffix == ".json":
        return _json_names(path)
    with path.open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return _protobuf_names(content, PDMODEL if path.suffix == ".pdmodel" else ONNX)


def _json_names(path: Path) -> Iterator[str]:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"more than {MAX_JSON_BYTES} bytes")
    names = set()

    def note(pairs: list[tuple[str, object]]) -> None:  # sees a name that is there twice, unlike a dict
        names.update(str(value) for key, value in pairs if key == "#")

    json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=note)
    return iter(names)


def _protobuf_names(message: memoryview, fields: dict) -> Iterator[str]:
    place = 0
    while place < len(message):
        key, start = _varint(message, place)
        number, wire_type = key >> 3, key & 7
        if wire_type == 2:
            length, start = _varint(message, start)
            place = start + length
        elif wire_type == 0:
            _, place = _varint(message, start)
        else:
            place = start + {1: 8, 5: 4}.get(wire_type, len(message))  # groups, 3 and 4, are never written
        if place > len(message):
            raise ValueError(f"field {number} ends {place - len(message)} bytes after its message")
        meaning = fields.get(number, f"field {number}")
        if isinstance(meaning, dict):
            yield from _protobuf_names(message[start:place], meaning)
        elif meaning is NAME:
            yield str(message[start:place], "utf-8", "replace")
        elif meaning is not SKIP:
            yield meaning


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """The number at `place`, seven bits a byte, and the place after it."""
    value = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError(f"a number that does not end, before byte {place} of its message")
