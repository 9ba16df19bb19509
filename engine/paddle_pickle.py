"""Reads the pickles of paddle.save without running them: each name in a file means a function of ours, or is refused.

Unpickling executes what a file says, and numpy's own __setstate__ crashes on crafted states. So nothing of the file's
choosing is imported or built: the few names that paddle.save writes become the stand-ins below, which check everything.
"""

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common.errors import CheckpointError

DTYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"}
# paddle.save writes none of these: they build objects in other ways than by name and call, or leave the file.
REFUSED = {"INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "BYTEARRAY8"}
MAX_OPERATIONS = 2_000_000  # a network of 600 arrays has 20,000


def read_pickle(data: bytes, path: Path) -> tuple[dict[str, dict[str, np.ndarray]], dict]:
    """({"model": arrays, "model_ema": arrays}, meta) of a pickle by paddle.save; CheckpointError for anything else.

    Known are a bare state dict and a table with the entries model, and perhaps model_ema, epoch, args (which may be an
    argparse.Namespace). Optimizer and scaler are left behind: they are keyed by names that depend on the old process.
    """
    try:
        _check_operations(data)
        content = _Reader(data).load()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except Exception as error:  # a crafted file can make the machine stumble in any way
        raise CheckpointError(f"{path} is a damaged or crafted pickle: {type(error).__name__}: {error}"[:500]) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a table of weights")
    if not isinstance(content.get("model"), dict):
        return {"model": _arrays(content, path)}, {}
    meta = {"epoch": content.get("epoch")}
    if isinstance(args := content.get("args"), _Namespace):
        meta["args"] = args.values
    return {name: _arrays(content[name], path) for name in ("model", "model_ema") if content.get(name)}, meta


def _arrays(table: object, path: Path) -> dict[str, np.ndarray]:
    """Unwrap a state dict: values are arrays, or (auto-name, array) where paddle.save met a tensor inside a table."""
    arrays = {}
    for name, value in table.items() if isinstance(table, dict) else [("?", table)]:
        if name == "StructuredToParameterName@@":  # Paddle's own note of its automatic names
            continue
        if isinstance(value, tuple) and len(value) == 2:
            value = value[1]
        if not (isinstance(name, str) and isinstance(value, _Array) and value.array is not None):
            raise CheckpointError(f"{path}: the entry {str(name)[:80]!r} is a {type(value).__name__}, not an array")
        arrays[name] = value.array
    return arrays


def _check_operations(data: bytes) -> None:
    """Look at every operation before any is run: no odd ones, no memo index that would fill the memory."""
    for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if operation.name in REFUSED or count > MAX_OPERATIONS:
            raise CheckpointError(f"refused: a pickle with the operation {operation.name} is not one of paddle.save")
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > count:
            raise CheckpointError(f"refused: a pickle with the memo index {argument} is damaged or crafted")


class _Function:
    """A name in the file that may be called; BUILD could change a plain function, for every later file too."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable):
        self._call = call

    def __call__(self, *arguments: object) -> object:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise CheckpointError("refused: the pickle changes a function")


class _Dtype:
    """Stands for a numpy.dtype of plain numbers in little-endian order."""

    __slots__ = ("dtype",)

    def __init__(self, code: object, *_: object):
        if code not in DTYPES:
            raise CheckpointError(
                f"arrays of dtype {str(code)[:20]!r} are not weights; known: {', '.join(sorted(DTYPES))}"
            )
        self.dtype = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        if not (isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", "|")):
            raise CheckpointError("refused: an array that is not little-endian")


class _Array:
    """Stands for a numpy.ndarray; becomes one when the state is consistent."""

    __slots__ = ("array",)

    def __init__(self, *_: object):
        self.array = None

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), tuple() as shape, _Dtype(dtype=dtype), bool() | int() as fortran, bytes() as raw) if len(
                shape
            ) <= 8 and all(type(side) is int and side >= 0 for side in shape):
                if math.prod(shape) * dtype.itemsize != len(raw):
                    raise CheckpointError(f"refused: an array of shape {shape} and {dtype} with {len(raw)} bytes")
                self.array = np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")
            case _:
                raise CheckpointError("refused: an array with an inconsistent state")


class _Namespace:
    """Stands for the argparse.Namespace in which the predecessor keeps its flags."""

    __slots__ = ("values",)

    def __setstate__(self, state: object) -> None:
        if not (isinstance(state, dict) and all(isinstance(name, str) for name in state)):
            raise CheckpointError("refused: a Namespace with an inconsistent state")
        self.values = state


class _Reader(pickle.Unpickler):
    """pickle's machine with the one door to the outside, find_class, opened to the table below only."""

    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data))
        self._budget = 2 * len(data) + 1_000_000  # what the functions may build; repeated calls would grow without end
        numpy = {"_reconstruct": _Function(_Array), "scalar": _Function(self._scalar)}
        self._known = {f"{module}.multiarray.{name}": f for name, f in numpy.items() for module in NUMPY_CORES}
        self._known |= {
            "numpy.ndarray": _Function(_Array),
            "numpy.dtype": _Function(_Dtype),
            "_codecs.encode": _Function(self._encode),
            "builtins.tuple": _Function(self._tuple),
            "__builtin__.tuple": _Function(self._tuple),
            "collections.OrderedDict": _Function(self._table),
            "builtins.eval": _Function(self._static_tensor),
            "__builtin__.eval": _Function(self._static_tensor),
            "__builtin__.bytes": _Function(self._no_bytes),
            # NEWOBJ wants a real class; one for each file, so that none can leave a mark on it.
            "argparse.Namespace": type("_Namespace", (_Namespace,), {"__slots__": ()}),
        }

    def find_class(self, module: str, name: str) -> object:
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
        """bytes, as pickle protocol 2 writes them."""
        if not (isinstance(text, str) and encoding == "latin1"):
            raise CheckpointError("refused: bytes in an unknown encoding")
        self._spend(len(text))
        return text.encode("latin1")

    def _tuple(self, items: object = ()) -> tuple:
        """A tensor inside a table: (auto-name, array)."""
        if not isinstance(items, list | tuple):
            raise CheckpointError("refused: a tuple of no list")
        self._spend(len(items))
        return tuple(items)

    def _table(self, items: object = ()) -> dict:
        if not isinstance(items, list | tuple):
            raise CheckpointError("refused: a table of no list")
        self._spend(len(items))
        return dict(items)

    def _static_tensor(self, expression: object, names: object) -> object:
        """A tensor of a static program is pickled as eval("data", {"data": array}): take the array, run nothing."""
        if expression != "data" or not isinstance(names, dict) or set(names) != {"data"}:
            raise CheckpointError("refused: the pickle asks for builtins.eval, which could run code")
        return names["data"]

    def _scalar(self, dtype: object, raw: object) -> int | float | bool:
        if not (isinstance(dtype, _Dtype) and isinstance(raw, bytes) and len(raw) == dtype.dtype.itemsize):
            raise CheckpointError("refused: a number with an inconsistent state")
        return np.frombuffer(raw, dtype.dtype)[0].item()

    def _no_bytes(self) -> bytes:
        """The empty bytes of pickle protocol 2."""
        return b""


NUMPY_CORES = ("numpy.core", "numpy._core")
