"""Reads the files of torch.save, zip and legacy form, without PyTorch and without running anything of the file.

Known names become tensors or plain containers. Every other name becomes a Placeholder: optimizers, settings and numbers
of other packages stand beside the weights and are not needed. A tensor is checked and read when it is asked for.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import CheckpointError

from .restricted_pickle import Function, PickleMachine, Placeholder, shown
from .stored_zip import StoredZip

Arrays = dict[str, np.ndarray]

# Torch's name of an element type, and numpy's code of its bytes. numpy has no bfloat16: its 16 bits are the upper half
# of a float32. The quantized types are here for the size of their storages, which a file may have beside the weights.
BFLOAT16 = "bfloat16"
DTYPES = {
    "float64": "f8", "float32": "f4", "float16": "f2", BFLOAT16: "u2", "complex64": "c8", "complex128": "c16",
    "int64": "i8", "int32": "i4", "int16": "i2", "int8": "i1", "uint8": "u1", "bool": "u1",
    "uint16": "u2", "uint32": "u4", "uint64": "u8",
    "qint8": "i1", "quint8": "u1", "qint32": "i4", "quint4x2": "u1", "quint2x4": "u1",
}  # fmt: skip
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": BFLOAT16,
    "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8",
    "QInt8Storage": "qint8", "QUInt8Storage": "quint8", "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2", "QUInt2x4Storage": "quint2x4",
}  # fmt: skip
UNREADABLE = {  # functions that build tensors of another kind: what a message calls them
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_sparse_csr_tensor": "a sparse tensor",
    "_rebuild_qtensor": "a quantized tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor on the meta device, which has no numbers",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_wrapper_subclass": "a tensor of a subclass",
    "_rebuild_device_tensor_from_numpy": "a tensor of another device",
    "_rebuild_device_tensor_from_cpu_tensor": "a tensor of another device",
}
QUANTIZED = ("qint", "quint")
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
MAX_DIMENSIONS = 32
MAX_EXPANDED_ELEMENTS = 1 << 16  # that a view may have beyond the elements of its storage, as torch's expand makes


class Storage(NamedTuple):
    """Numbers in the file, which tensors are views of.

    Attributes:
        num_elements: of the whole storage.
        part: (first element, number of elements) where the file takes a part of the storage for one of its own.
    """

    key: str
    dtype: str
    num_elements: int
    on_meta: bool
    part: tuple[int, int]


class Tensor(NamedTuple):
    """Tensor as the file describes it, without any check."""

    storage: object
    offset: object
    size: object
    stride: object
    dtype: str
    metadata: object = None  # {"conj": True} or {"neg": True} where the numbers still wait for that


class Unreadable(NamedTuple):
    """Tensor without plain numbers, which is an error among the weights."""

    reason: str


class TorchFile(NamedTuple):
    """What torch.save was given, with the tensors not read yet.

    Attributes:
        content: dicts, lists, tuples, scalars, Tensor, Unreadable and Placeholder.
        read_arrays: returns the arrays of a table of tensors; CheckpointError names the one that cannot be read.
    """

    content: object
    read_arrays: Callable[[dict[str, Tensor | Unreadable]], Arrays]


def read_torch_file(data: bytes, path: Path) -> TorchFile:
    """Read a file of torch.save.

    Raises:
        CheckpointError: the file is damaged, crafted, or a TorchScript archive.
    """
    try:
        content, storages = _read_zip(data) if data.startswith(b"PK") else _read_legacy(data)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return TorchFile(content, ArrayReader(storages, len(data), path).read)


# --- The two forms of the file --------------------------------------------------------------------------------------


class Storages:
    """Bytes of the storages by key, and the byte order of their numbers."""

    def __init__(self, read: Callable[[str], memoryview], is_big_endian: bool):
        self.read, self.is_big_endian = read, is_big_endian


def _read_zip(data: bytes) -> tuple[object, Storages]:
    archive = StoredZip(data)
    names = archive.entries
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError("a zip archive, but not of torch.save: it has no entry data.pkl in one folder")
    prefix = pickles[0].removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in names or any(name.startswith(f"{prefix}code/") for name in names):
        raise CheckpointError(
            "a TorchScript archive, which holds a program; save the weights alone: torch.save(model.state_dict(), ...)"
        )
    order = bytes(archive.read(f"{prefix}byteorder")) if f"{prefix}byteorder" in names else b"little"
    if order not in (b"little", b"big"):
        raise CheckpointError(f"refused: the entry byteorder is {order[:20]!r}, neither little nor big")
    content, _ = PickleMachine(bytes(archive.read(pickles[0])), _resolve, _resolve_storage).load()
    return content, Storages(lambda key: archive.read(f"{prefix}data/{key}"), order == b"big")


def _read_legacy(data: bytes) -> tuple[object, Storages]:
    """A magic number, a version, a note of the machine, the content, the keys of storages; then the storages."""
    known = {}

    def resolve_storage(identity: object) -> object:
        found = _resolve_storage(identity)
        if isinstance(found, Storage):
            known.setdefault(found.key, found)
        return found

    machine = PickleMachine(data, _resolve, resolve_storage)
    magic, position = machine.load()
    version, position = machine.load(position)
    if magic != LEGACY_MAGIC or version != LEGACY_PROTOCOL:
        raise CheckpointError("not a file of torch.save: its magic number or its version is wrong")
    note, position = machine.load(position)
    content, position = machine.load(position)
    keys, position = machine.load(position)
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise CheckpointError("damaged: the keys of the storages are not a list of texts")
    is_big_endian = type(note) is dict and note.get("little_endian") is False
    places = {}
    for key in keys:
        if key not in known or key in places:
            raise CheckpointError(f"damaged: the storage {shown(key)} belongs to no tensor, or appears twice")
        num_elements = int.from_bytes(data[position : position + 8], "little")
        size = num_elements * _itemsize(known[key].dtype)
        if position + 8 + size > len(data):
            raise CheckpointError(f"cut off: the storage {shown(key)} should have {num_elements:,} numbers")
        places[key] = (position + 8, position + 8 + size)
        position += 8 + size
    if position != len(data):
        raise CheckpointError(f"damaged: {len(data) - position:,} bytes follow the last storage")

    def read(key: str) -> memoryview:
        if key not in places:
            raise CheckpointError(f"damaged: the storage {shown(key)} is missing")
        return memoryview(data)[slice(*places[key])]

    return content, Storages(read, is_big_endian)


# --- Names ----------------------------------------------------------------------------------------------------------


def _resolve(module: str, name: str) -> Function | Placeholder:
    full_name = f"{module}.{name}"
    return KNOWN.get(full_name) or Placeholder(full_name[:200])


def _resolve_storage(identity: object) -> object:
    """("storage", class, key, location, number of elements), in the legacy form with None or a part behind.

    A part is (its key, first element, number of elements), as PyTorch wrote it before version 0.4.
    """
    match identity:
        case ("module", kind, *_):  # a class with its source text
            return kind
        case ("storage", Placeholder(name=name), str() as key, location, count, *rest):
            name = name.removeprefix("torch.").removeprefix("storage.").removeprefix("cuda.")
            if name not in STORAGES:
                return Unreadable(f"a tensor of {name[:80]}, whose numbers are not known")
            match rest:
                case [] | [None]:
                    part = (0, count)
                case [(_, first, length)]:
                    part = (first, length)
                case _:
                    part = ()
            if not all(type(number) is int and 0 <= number < 1 << 48 for number in (count, *part)) or not part:
                raise CheckpointError("damaged: the size of a storage is not a number of elements")
            return Storage(key, STORAGES[name], count, location == "meta", part)
    return Placeholder("persistent id")


def _tensor(storage: object, offset: object, size: object, stride: object, *rest: object) -> object:
    """_rebuild_tensor and _rebuild_tensor_v2, which has requires_grad, hooks and perhaps metadata behind."""
    if isinstance(storage, Unreadable):
        return storage
    if not isinstance(storage, Storage):
        return Unreadable("a tensor without a storage")
    if storage.dtype.startswith(QUANTIZED):
        return Unreadable(UNREADABLE["_rebuild_qtensor"])
    return Tensor(storage, offset, size, stride, storage.dtype, rest[2] if len(rest) > 2 else None)


def _tensor_of_dtype(storage: object, offset: object, size: object, stride: object, *rest: object) -> object:
    """_rebuild_tensor_v3, for element types that have no class of storage: requires_grad, hooks, dtype behind."""
    dtype = rest[2].name.removeprefix("torch.") if len(rest) > 2 and isinstance(rest[2], Placeholder) else "?"
    if dtype not in DTYPES or dtype.startswith(QUANTIZED):
        return Unreadable(f"a tensor of the element type {dtype[:80]}")
    tensor = _tensor(storage, offset, size, stride)
    return tensor._replace(dtype=dtype) if isinstance(tensor, Tensor) else tensor


def _subclass(function: object, _class: object, arguments: object, *_state: object) -> object:
    """_rebuild_from_type_v2: a tensor with attributes, or of a subclass that is built in the same way."""
    if type(function) is Function and function.name in TENSOR_FUNCTIONS and type(arguments) is tuple:
        return function.call(*arguments)
    return Unreadable("a tensor of a subclass")


def _container(kind: type) -> Callable:
    """dict, list, set or tuple of what torch's or Python's pickles give: nothing, or a list or tuple."""

    def make(items: object = ()) -> object:
        if type(items) not in (list, tuple) or len(items) > MAX_DIMENSIONS:
            return Placeholder(kind.__name__)
        return kind(items)

    return make


def _ordered_dict(items: object = ()) -> object:
    """An OrderedDict, whose pairs torch's pickles set afterwards; Python 2 gave a list of them."""
    table = {}
    if type(items) in (list, tuple):
        for pair in items:
            if type(pair) in (list, tuple) and len(pair) == 2 and type(pair[0]) is str:
                table[pair[0]] = pair[1]
    return table


def _reconstructed(kind: object, *_: object) -> Placeholder:
    """copyreg._reconstructor: an object of a class by protocol 0 and 1."""
    return Placeholder(kind.name if isinstance(kind, Placeholder) else "object")


TENSOR_FUNCTIONS = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    **{f"torch._utils.{name}": (lambda *_, reason=reason: Unreadable(reason)) for name, reason in UNREADABLE.items()},
}
FUNCTIONS = TENSOR_FUNCTIONS | {
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "torch._tensor._rebuild_from_type": _subclass,
    "torch.Size": _container(tuple),
    "collections.OrderedDict": _ordered_dict,
    "copyreg._reconstructor": _reconstructed,
    "copy_reg._reconstructor": _reconstructed,
}
KNOWN = {name: Function(name, call) for name, call in FUNCTIONS.items()}


# --- From a description to an array ---------------------------------------------------------------------------------


class ArrayReader:
    """Checks tensors against their storages and converts them to arrays.

    Args:
        storages: bytes of the storages.
        num_bytes: size of the file, which limits that of the arrays.
        path: the file, for messages.
    """

    def __init__(self, storages: Storages, num_bytes: int, path: Path):
        self._storages, self._path = storages, path
        self._budget = 8 * num_bytes + (64 << 20)  # bytes of all arrays; tied tensors count each time
        self._arrays = {}  # storage as numbers, by key and element type

    def read(self, tensors: dict[str, Tensor | Unreadable]) -> Arrays:
        """Convert the tensors to arrays of the same names.

        Raises:
            CheckpointError: names the tensor that cannot be read.
        """
        arrays = {}
        for name, tensor in tensors.items():
            try:
                arrays[name] = self._read(tensor)
            except CheckpointError as error:
                raise CheckpointError(f"{self._path}: the tensor {name[:80]!r}: {error}") from None
        return arrays

    def _read(self, tensor: Tensor | Unreadable) -> np.ndarray:
        if isinstance(tensor, Unreadable):
            raise CheckpointError(
                f"{tensor.reason}; save it as a plain tensor of numbers first (.to_dense(), .dequantize())"
            )
        numbers = self._numbers(tensor)
        offset, size, stride = _checked_view(tensor, len(numbers))
        num_elements = math.prod(size)
        self._budget -= num_elements * (4 if tensor.dtype == BFLOAT16 else numbers.itemsize)
        if self._budget < 0:
            raise CheckpointError("refused: the tensors have many times the bytes of the file")
        if num_elements == 0:
            view = np.zeros(size, numbers.dtype)
        else:
            steps = tuple(step * numbers.itemsize for step in stride)
            view = np.lib.stride_tricks.as_strided(numbers[offset:], size, steps, writeable=False)
        return _converted(view, tensor)

    def _numbers(self, tensor: Tensor) -> np.ndarray:
        """Read the storage of a tensor as a flat array of the element type of the tensor."""
        storage, dtype = tensor.storage, np.dtype(DTYPES[tensor.dtype])
        if (kept := self._arrays.get((storage, tensor.dtype))) is not None:
            return kept
        if storage.on_meta:
            raise CheckpointError(UNREADABLE["_rebuild_meta_tensor_no_storage"])
        raw = self._storages.read(storage.key)
        if (
            len(raw) != storage.num_elements * _itemsize(storage.dtype)
            or storage.part[1] * _itemsize(storage.dtype) % dtype.itemsize
        ):
            wanted = f"{storage.num_elements:,} numbers of {storage.dtype}"
            raise CheckpointError(f"damaged: its storage has {len(raw):,} bytes instead of {wanted}")
        if self._storages.is_big_endian:
            dtype = dtype.newbyteorder(">")
        itemsize = _itemsize(storage.dtype)
        first, length = (number * itemsize for number in storage.part)
        self._arrays[storage, tensor.dtype] = numbers = np.frombuffer(raw[first : first + length], dtype)
        return numbers


def _checked_view(tensor: Tensor, num_stored: int) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Check that (offset, size, stride), in elements, lie inside the storage, and return them."""
    offset, size, stride = tensor.offset, tensor.size, tensor.stride
    if type(size) is not tuple or type(stride) is not tuple or len(size) != len(stride) or len(size) > MAX_DIMENSIONS:
        raise CheckpointError("damaged: its shape and strides do not belong together")
    if not all(type(number) is int and 0 <= number < 1 << 48 for number in (offset, *size, *stride)):
        raise CheckpointError("damaged: its shape, strides or offset are not numbers of elements")
    if 0 in size:
        return 0, size, stride
    num_elements, last = 1, offset
    for side, step in zip(size, stride, strict=True):
        num_elements, last = num_elements * side, last + (side - 1) * step
        if num_elements > max(num_stored, MAX_EXPANDED_ELEMENTS):
            raise CheckpointError(f"refused: its shape has more elements than its storage, which has {num_stored:,}")
    if last >= num_stored:
        raise CheckpointError(f"damaged: it reaches to element {last:,} of a storage of {num_stored:,}")
    return offset, size, stride


def _converted(view: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Convert to a contiguous array in the byte order of this machine; bfloat16 becomes float32."""
    array = np.ascontiguousarray(view.astype(view.dtype.newbyteorder("="), copy=False)).reshape(view.shape)
    if tensor.dtype == BFLOAT16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    elif tensor.dtype == "bool":
        array = array != 0
    if type(tensor.metadata) is dict:
        if tensor.metadata.get("conj") is True:
            array = array.conj()
        if tensor.metadata.get("neg") is True:
            array = -array
    return array


def _itemsize(dtype: str) -> int:
    return np.dtype(DTYPES[dtype]).itemsize
