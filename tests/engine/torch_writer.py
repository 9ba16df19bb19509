"""Writes the two forms of torch.save without PyTorch, sound and crafted ones."""

import io
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from itertools import product
from typing import ClassVar

import numpy as np

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
CLASSES = {
    "f8": "DoubleStorage", "f4": "FloatStorage", "f2": "HalfStorage", "c8": "ComplexFloatStorage",
    "i8": "LongStorage", "i4": "IntStorage", "i2": "ShortStorage", "i1": "CharStorage", "u1": "ByteStorage",
    "b1": "BoolStorage", "bf16": "BFloat16Storage",
}  # fmt: skip


class Name:
    """Pickles to a global of this module and name, which need not exist."""

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name

    def __call__(self):
        raise NotImplementedError


class Call:
    """Pickles to a call of `function` with these arguments and, perhaps, a state and items."""

    def __init__(self, function: Name, *arguments: object, state: object = None, pairs: dict | None = None):
        self.function, self.arguments, self.state, self.pairs = function, arguments, state, pairs


class Storage:
    """Pickles to a persistent id.

    Args:
        key: of the storage in the file.
        raw: its bytes; the file's, not the pickle's.
        kind: name of a class of torch.
        num_elements: as the pickle says it.
        location: a device.
        more: what follows in the id: (None,) in the legacy form.
    """

    def __init__(self, key: str, raw: bytes, kind: str, num_elements: int, location: str = "cpu", more: tuple = ()):
        self.key, self.raw, self.kind, self.num_elements = key, raw, kind, num_elements
        self.location, self.more = location, more


def tensor(
    array: np.ndarray, key: str = "0", *, code: str = "", location: str = "cpu", view: tuple | None = None, order="<"
) -> Call:
    """A tensor of the numbers of `array`.

    Args:
        array: its numbers; uint16 for the code "bf16".
        key: of its storage.
        code: the element type, a key of CLASSES; the array's by default.
        location: a device.
        view: (offset, size, stride) of the storage, instead of all of it.
        order: byte order.
    """
    raw = np.ascontiguousarray(array).astype(array.dtype.newbyteorder(order)).tobytes()
    kind = CLASSES[code or array.dtype.str[1:]]
    stride = tuple(step // array.itemsize for step in np.ascontiguousarray(array).reshape(array.shape).strides)
    return tensor_of(Storage(key, raw, kind, array.size, location), *(view or (0, array.shape, stride)))


def tensor_of(storage: object, offset: object, size: object, stride: object, *more: object) -> Call:
    return Call(Name("torch._utils", "_rebuild_tensor_v2"), storage, offset, size, stride, False, OrderedDict(), *more)


def parameter(data: object) -> Call:
    return Call(Name("torch._utils", "_rebuild_parameter"), data, True, OrderedDict())


class _Pickler(pickle._Pickler):
    """Python's pickler in Python, which can be taught the classes above."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def __init__(self, file: io.BytesIO, protocol: int, more: tuple):
        super().__init__(file, protocol)
        self.storages, self.more = {}, more

    def persistent_id(self, value: object) -> tuple | None:
        if not isinstance(value, Storage):
            return None
        self.storages[value.key] = value
        kind = Name("torch.storage" if value.kind == "UntypedStorage" else "torch", value.kind)
        return ("storage", kind, value.key, value.location, value.num_elements, *(value.more or self.more))

    def save_name(self, value: Name) -> None:
        self.write(b"c" + f"{value.module}\n{value.name}\n".encode())

    def save_call(self, value: Call) -> None:
        pairs = iter(value.pairs.items()) if value.pairs else None
        self.save_reduce(value.function, value.arguments, value.state, None, pairs, obj=value)

    dispatch[Name] = save_name
    dispatch[Call] = save_call


def pickled(content: object, *, protocol: int = 2, more: tuple = ()) -> tuple[bytes, dict[str, Storage]]:
    """(pickle of `content`, the storages that it refers to)."""
    file = io.BytesIO()
    pickler = _Pickler(file, protocol, more)
    pickler.dump(content)
    return file.getvalue(), pickler.storages


def zip_form(
    content: object,
    *,
    protocol: int = 2,
    order: str | None = "little",
    folder: str = "archive",
    method: int = zipfile.ZIP_STORED,
    more: dict[str, bytes] | None = None,
) -> bytes:
    """A file as torch.save writes it since version 1.6.

    Args:
        content: what is saved; bytes are taken as the finished pickle.
        protocol: of the pickle.
        order: of the bytes of numbers; None for a file without the entry.
        folder: in the archive.
        method: of the compression.
        more: further entries.
    """
    pickle_bytes, storages = (content, {}) if isinstance(content, bytes) else pickled(content, protocol=protocol)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(f"{folder}/data.pkl", pickle_bytes)
        if order:
            archive.writestr(f"{folder}/byteorder", order)
        for key, storage in storages.items():
            archive.writestr(f"{folder}/data/{key}", storage.raw)
        archive.writestr(f"{folder}/version", "3\n")
        for name, raw in (more or {}).items():
            archive.writestr(f"{folder}/{name}", raw)
    return file.getvalue()


def legacy_form(content: object, *, protocol: int = 2, little_endian: bool = True) -> bytes:
    """A file as torch.save wrote it before version 1.6; bytes are taken as the finished pickle."""
    note = {"protocol_version": VERSION, "little_endian": little_endian, "type_sizes": {"int": 4}}
    pickle_bytes, storages = (content, {}) if isinstance(content, bytes) else pickled(content, more=(None,))
    head = [pickle.dumps(value, protocol=protocol) for value in (MAGIC, VERSION, note)]
    tail = [pickle.dumps(sorted(storages), protocol=protocol)]
    for key in sorted(storages):
        tail += [struct.pack("<q", storages[key].num_elements), storages[key].raw]
    return b"".join([*head, pickle_bytes, *tail])


FORMS = {"zip": zip_form, "legacy": legacy_form}


# --- Contents of real files -----------------------------------------------------------------------------------------


def module(*, parameters: dict, modules: dict) -> Call:
    """A pickled torch.nn.Module."""
    state = {"training": True, "_parameters": OrderedDict(parameters), "_buffers": {}, "_modules": OrderedDict(modules)}
    return Call(Name("my.net", "Net"), state=state)


def bystanders() -> dict:
    """What training programs save beside the weights."""
    first = tensor(np.ones((2, 3), np.float32))
    scalar = Call(Name("numpy.core.multiarray", "scalar"), Call(Name("numpy", "dtype"), "f8", False, True), b"12345678")
    return {
        "args": Call(Name("argparse", "Namespace"), state={"lr": 0.1}),
        "numpy number": scalar,
        "numpy array": Call(Name("numpy._core.multiarray", "_reconstruct"), Name("numpy", "ndarray"), (0,), b"b"),
        "enum": Call(Name("my.enums", "Mode"), "train"),
        "path": Call(Name("pathlib", "PosixPath"), "home"),
        "optimizer": Call(Name("torch.optim.adam", "Adam"), state={"param_groups": [{"params": [parameter(first)]}]}),
        "function": Name("my.module", "<lambda>"),
        "partial": Call(Name("functools", "partial"), Name("os", "system"), state=(1, 2, 3, 4)),
        "default dict": Call(Name("collections", "defaultdict"), Name("builtins", "list"), pairs={"a": [1]}),
        "simple namespace": Call(Name("types", "SimpleNamespace"), state={"a": 1}),
        "counter": Call(Name("collections", "Counter"), {"a": 1}),
        "config": Call(Name("mmengine.config", "ConfigDict"), pairs={"model": {"depth": 3}}),
        "device": Call(Name("torch", "device"), "cuda", 0),
        "dtype": Name("torch", "float16"),
        "size": Call(Name("torch", "Size"), (1, 2)),
        "attack": Call(Name("os", "system"), "touch /tmp/never"),
        "eval": Call(Name("builtins", "eval"), "1"),
        "set": {1, 2},
        "frozen": frozenset({1}),
        "huge": 1 << 5000,
        "complex": Call(Name("builtins", "complex"), 1.0, 2.0),
        "keys": {(1, (2, 3)): 4, 1.5: 6},
    }


def genuine() -> list[bytes]:
    """Files of both forms with tensors, a pickled module and objects of other packages."""
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    weights = {f"layer{i}.weight": parameter(tensor(rows + i, str(i))) for i in range(4)}
    weights |= {
        "view": tensor(rows, view=(0, (4, 3), (1, 4))),
        "half": tensor(np.arange(5, dtype=np.uint16), "h", code="bf16"),
    }
    content = {"state_dict": weights, "optimizer": {"state": {0: weights}}, **bystanders()}
    nested = {"model": module(parameters={"w": tensor(rows)}, modules={"0": module(parameters=weights, modules={})})}
    return [form(value) for form, value in product(FORMS.values(), (content, nested))]


def mutant(good: bytes, rng: random.Random) -> bytes:
    """`good` with one to four bytes changed, parts removed, doubled, or repeated very often."""
    bad = bytearray(good)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(bad))
        match rng.randrange(4):
            case 0 | 1:
                bad[place] = rng.randrange(256)
            case 2 if len(bad) > 8:
                del bad[place : place + rng.randint(1, 8)]
            case _:
                bad[place:place] = bad[rng.randrange(len(bad)) :][: rng.randint(1, 30)]
    if rng.randrange(8) == 0:
        place = rng.randrange(len(bad))
        bad[place:place] = bad[place : place + rng.randint(1, 8)] * rng.choice([100, 1_000, 10_000, 100_000])
    return bytes(bad)
