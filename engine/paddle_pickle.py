"""Reads the pickles of paddle.save without running them: each name in a file means a function below, or is refused.

Python's unpickler executes what a file says, and numpy's __setstate__ crashes on crafted states. So nothing that a file
names is imported or built: the few names that paddle.save writes stand for the classes below, which check all values.
"""

import math
from pathlib import Path

import numpy as np

from common.errors import CheckpointError

from .restricted_pickle import Function, PickleMachine, key_of, shown

DTYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"}
OBJECTS = "O8"
NUMPY_CORES = ("numpy.core", "numpy._core")
MAX_DIMENSIONS = 8


def read_pickle(data: bytes, path: Path) -> tuple[dict[str, dict[str, np.ndarray]], dict]:
    """Read a pickle of paddle.save: ({"model": arrays, "model_ema": arrays}, meta).

    The content is a bare state dict, or a table with the entry model and perhaps model_ema, epoch and args (which may
    be an argparse.Namespace). Optimizer and scaler are not read: their names depend on the process that wrote them.

    Raises:
        CheckpointError: the pickle is damaged, crafted, or has no table of weights.
    """
    try:
        content = _Reader(data).load()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a table of weights")
    if not isinstance(content.get("model"), dict):
        return {"model": _arrays(content, path)}, {}
    epoch = content.get("epoch")
    meta = {"epoch": epoch if type(epoch) is int and 0 <= epoch < 1 << 31 else None}
    if isinstance(args := content.get("args"), _Namespace):
        meta["args"] = args.values
    return {name: _arrays(content[name], path) for name in ("model", "model_ema") if content.get(name)}, meta


def read_pickled_dictionary(data: bytes, path: Path) -> dict[str, np.ndarray]:
    """Read the pickle of a numpy array that holds one Python object, a dictionary of arrays; reprod_log writes it.

    Raises:
        CheckpointError: the pickle is damaged, crafted, or holds anything else.
    """
    try:
        content = _Reader(data).load()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if not isinstance(content, _Array) or not isinstance(content.only_item, dict):
        raise CheckpointError(f"{path} holds no dictionary of arrays")
    return _arrays(content.only_item, path)


def _arrays(table: object, path: Path) -> dict[str, np.ndarray]:
    """Unwrap a state dict: values are arrays, or (automatic name, array) for a tensor inside a table."""
    arrays = {}
    for name, value in table.items() if isinstance(table, dict) else [("?", table)]:
        if name == "StructuredToParameterName@@":  # Paddle's table of automatic names
            continue
        if isinstance(value, tuple) and len(value) == 2:
            value = value[1]
        if not (isinstance(name, str) and isinstance(value, _Array) and value.array is not None):
            raise CheckpointError(f"{path}: the entry {shown(name)} is a {type(value).__name__}, not an array")
        arrays[name] = value.array
    return arrays


class _Dtype:
    """Stands for a numpy.dtype of plain numbers in little-endian order, or with None for that of Python objects."""

    __slots__ = ("dtype",)

    def __init__(self, code: object, *_: object):
        if not isinstance(code, str) or code not in DTYPES | {OBJECTS}:
            raise CheckpointError(f"arrays of dtype {shown(code)} are not weights; known: {', '.join(sorted(DTYPES))}")
        self.dtype = None if code == OBJECTS else np.dtype(code)

    def set_state(self, state: object) -> None:
        if not (isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", "|")):
            raise CheckpointError("refused: an array that is not little-endian")


class _Array:
    """Stands for a numpy.ndarray, and holds one after a consistent state was set, or the item of an object array."""

    __slots__ = ("array", "only_item")

    def __init__(self, *_: object):
        self.array = self.only_item = None

    def set_state(self, state: object) -> None:
        match state:
            case (int(), (), _Dtype(dtype=None), bool() | int(), [item]):
                self.only_item = item
            case (
                int(),
                tuple() as shape,
                _Dtype(dtype=np.dtype() as dtype),
                bool() | int() as fortran,
                bytes() as raw,
            ) if len(shape) <= MAX_DIMENSIONS and all(type(side) is int and 0 <= side < 1 << 48 for side in shape):
                if math.prod(shape) * dtype.itemsize != len(raw):
                    raise CheckpointError(f"refused: an array of shape {shape} and {dtype} with {len(raw)} bytes")
                self.array = np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")
            case _:
                raise CheckpointError("refused: an array with an inconsistent state")


class _Namespace:
    """Stands for the argparse.Namespace in which PeleeNet-paddle keeps its flags."""

    __slots__ = ("values",)

    def __init__(self):
        self.values = {}

    def set_state(self, state: object) -> None:
        if not (isinstance(state, dict) and all(isinstance(name, str) for name in state)):
            raise CheckpointError("refused: a Namespace with an inconsistent state")
        self.values = state


class _Reader:
    """Runs a pickle with the names that paddle.save writes."""

    def __init__(self, data: bytes):
        self._data = data
        # Bytes that the functions may build, since repeated calls grow without end.
        self._budget = 2 * len(data) + 1_000_000
        numpy = {"_reconstruct": _Array, "scalar": self._scalar}
        calls = {f"{module}.multiarray.{name}": call for name, call in numpy.items() for module in NUMPY_CORES}
        calls |= {
            "numpy.ndarray": _Array,
            "numpy.dtype": _Dtype,
            "_codecs.encode": self._encode,
            "builtins.tuple": self._tuple,
            "__builtin__.tuple": self._tuple,
            "collections.OrderedDict": self._table,
            "builtins.eval": self._static_tensor,
            "__builtin__.eval": self._static_tensor,
            "__builtin__.bytes": self._no_bytes,
            "argparse.Namespace": _Namespace,
        }
        self._known = {name: Function(name, call) for name, call in calls.items()}

    def load(self) -> object:
        return PickleMachine(self._data, self._resolve).load()[0]

    def _resolve(self, module: str, name: str) -> Function:
        try:
            return self._known[f"{module}.{name}"]
        except KeyError:
            raise CheckpointError(
                f"refused: the pickle asks for {module[:80]}.{name[:80]}, which weights do not need: it could run code"
            ) from None

    def _spend(self, amount: int) -> None:
        self._budget -= amount
        if self._budget < 0:
            raise CheckpointError("refused: a small pickle that grows without end")

    def _encode(self, text: str, encoding: str) -> bytes:
        """Build the bytes of pickle protocol 2."""
        if not (isinstance(text, str) and encoding == "latin1"):
            raise CheckpointError("refused: bytes in an unknown encoding")
        self._spend(len(text))
        return text.encode("latin1")

    def _tuple(self, items: object = ()) -> tuple:
        """Build (automatic name, array), a tensor inside a table."""
        if not isinstance(items, list | tuple):
            raise CheckpointError("refused: a tuple of no list")
        self._spend(len(items))
        return tuple(items)

    def _table(self, items: object = ()) -> dict:
        if not isinstance(items, list | tuple):
            raise CheckpointError("refused: a table of no list")
        self._spend(len(items))
        return {key_of(key): value for key, value in items}

    def _static_tensor(self, expression: object, names: object) -> object:
        """Return the array of a tensor of a static program, which is pickled as eval("data", {"data": array})."""
        if expression != "data" or not isinstance(names, dict) or set(names) != {"data"}:
            raise CheckpointError("refused: the pickle asks for builtins.eval, which could run code")
        return names["data"]

    def _scalar(self, dtype: object, raw: object) -> int | float | bool:
        if not (
            isinstance(dtype, _Dtype)
            and dtype.dtype is not None
            and isinstance(raw, bytes)
            and len(raw) == dtype.dtype.itemsize
        ):
            raise CheckpointError("refused: a number with an inconsistent state")
        return np.frombuffer(raw, dtype.dtype)[0].item()

    def _no_bytes(self) -> bytes:
        """Build the empty bytes of pickle protocol 2."""
        return b""
