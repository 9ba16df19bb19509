"""oneDNN, the library of CPU kernels that Paddle's Linux wheels contain, through its C interface.

Functions and numbers are those of dnnl.h and dnnl_types.h of oneDNN 3, whose binary interface all versions 3.x share.
"""

import ctypes
import functools
import math
import threading
from ctypes import c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np
import paddle

CPU, IN_ORDER, FLOAT32, ANY_LAYOUT, EXEC_ARG_MD = 1, 1, 3, 1, 255
SRC, DST, WEIGHTS, BIAS = 1, 17, 33, 41  # arguments of a primitive
DIFF_SRC, DIFF_DST, DIFF_WEIGHTS, DIFF_BIAS = 129, 145, 161, 169
ALIGNMENT = 64  # bytes
NOTHING = c_void_p()

Shape = tuple[int, ...]


class _Version(ctypes.Structure):
    _fields_ = (("major", c_int), ("minor", c_int), ("patch", c_int))


class _Argument(ctypes.Structure):
    _fields_ = (("number", c_int), ("memory", c_void_p))


class UnsupportedError(Exception):
    """oneDNN has no kernel for what was asked for."""


class Library:
    """The shared library, its engine and its stream.

    Attributes:
        version: "3.6.2".
    """

    def __init__(self, path: Path):
        self._functions = ctypes.CDLL(str(path))
        version = self._functions.dnnl_version
        version.restype = ctypes.POINTER(_Version)
        self._functions.dnnl_primitive_desc_query_md.restype = c_void_p
        self._functions.dnnl_memory_desc_get_size.restype = c_size_t
        number = version().contents
        self.version = f"{number.major}.{number.minor}.{number.patch}"
        self.engine = self.create("engine_create", CPU, c_size_t(0))
        self.stream = self.create("stream_create", self.engine, IN_ORDER)

    def call(self, name: str, *arguments):
        """Call dnnl_NAME and return what it returns."""
        return getattr(self._functions, f"dnnl_{name}")(*arguments)

    def create(self, name: str, *arguments) -> c_void_p:
        """Call a function that stores a new object, which lives as long as the process.

        Raises:
            UnsupportedError: the library refuses.
        """
        created = c_void_p()
        if status := self.call(name, ctypes.byref(created), *arguments):
            raise UnsupportedError(f"dnnl_{name} returned {status}")
        return created

    def plain(self, shape: Shape) -> c_void_p:
        """Describe a float32 tensor in the order in which Paddle stores it."""
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        arguments = len(shape), dims(*shape), FLOAT32, dims(*strides)
        return self.create("memory_desc_create_with_strides", *arguments)

    def free(self, shape: Shape) -> c_void_p:
        """Describe a float32 tensor whose layout the primitive chooses."""
        return self.create("memory_desc_create_with_tag", len(shape), dims(*shape), FLOAT32, ANY_LAYOUT)

    def memory(self, layout: c_void_p) -> c_void_p:
        """Create a memory object without a buffer."""
        return self.create("memory_create", layout, self.engine, NOTHING)


@functools.cache
def find_library() -> Library | None:
    """Load the oneDNN of the installed Paddle; None where it has none, as on macOS and on ARM processors."""
    path = Path(paddle.__file__).parent / "libs" / "libdnnl.so.3"
    return Library(path) if path.is_file() else None


def dims(*numbers: int) -> ctypes.Array:
    """Numbers as an array dnnl_dims_t."""
    return (c_int64 * 12)(*numbers)


class Chain:
    """Primitives that run one after the other on tensors in Paddle's layout, with reorders where they want another.

    A reordered copy is shared by the primitives that read it. All chains have one buffer for their copies, of the size
    of the largest: buffers of many sizes from Paddle's allocator left holes, a tenth of the memory of a training.
    """

    _lock = threading.Lock()  # memory objects, the buffer and the stream belong to one run at a time
    _buffer = np.empty(0, np.uint8)

    def __init__(self, library: Library, tensors: dict[str, Shape]):
        self._library = library
        self._layouts = {name: library.plain(shape) for name, shape in tensors.items()}
        self._tensors = {name: library.memory(layout) for name, layout in self._layouts.items()}
        self._copies: list[tuple[str, c_void_p, c_void_p, int]] = []  # tensor, layout, memory, bytes
        self._steps: list[tuple[c_void_p, int, ctypes.Array]] = []

    def add(self, descriptor: c_void_p, reads: dict[int, str], writes: dict[int, str]) -> None:
        """Append the primitive of a descriptor; `reads` and `writes` are names of tensors by argument.

        Raises:
            UnsupportedError: oneDNN has no reorder between the layouts.
        """
        inputs = {argument: self._read(name, self._wanted(descriptor, argument)) for argument, name in reads.items()}
        outputs, copies_back = {}, []
        for argument, name in writes.items():
            layout = self._wanted(descriptor, argument)
            outputs[argument] = self._tensors[name]
            if not self._is_plain(name, layout):
                outputs[argument] = self._new_copy("", layout)
                copies_back.append((layout, outputs[argument], self._layouts[name], self._tensors[name]))
        self._append(descriptor, inputs | outputs)
        for copy_back in copies_back:
            self._append_reorder(*copy_back)

    def run(self, **tensors: paddle.Tensor) -> None:
        """Run all primitives on contiguous float32 tensors of the shapes that the chain was made for.

        Raises:
            RuntimeError: a primitive failed, as without memory.
        """
        call = self._library.call
        with self._lock:
            for name, tensor in tensors.items():
                call("memory_set_data_handle", self._tensors[name], c_void_p(tensor.data_ptr()))
            if self._copies:
                sizes = [_rounded_up(size) for *_, size in self._copies]
                if sum(sizes) + ALIGNMENT > Chain._buffer.nbytes:
                    Chain._buffer = np.empty(sum(sizes) + ALIGNMENT, np.uint8)
                address = _rounded_up(Chain._buffer.ctypes.data)
                for (_, _, memory, _), size in zip(self._copies, sizes, strict=True):
                    call("memory_set_data_handle", memory, c_void_p(address))
                    address += size
            for primitive, number, arguments in self._steps:
                if status := call("primitive_execute", primitive, self._library.stream, number, arguments):
                    raise RuntimeError(f"dnnl_primitive_execute returned {status}")

    def _wanted(self, descriptor: c_void_p, argument: int) -> c_void_p:
        return c_void_p(self._library.call("primitive_desc_query_md", descriptor, EXEC_ARG_MD, argument))

    def _is_plain(self, name: str, layout: c_void_p) -> bool:
        return bool(self._library.call("memory_desc_equal", self._layouts[name], layout))

    def _read(self, name: str, layout: c_void_p) -> c_void_p:
        """The memory of the tensor in this layout: of the tensor itself, of a copy, or of a new copy."""
        if self._is_plain(name, layout):
            return self._tensors[name]
        for copied, known, memory, _ in self._copies:
            if copied == name and self._library.call("memory_desc_equal", known, layout):
                return memory
        copy = self._new_copy(name, layout)
        self._append_reorder(self._layouts[name], self._tensors[name], layout, copy)
        return copy

    def _new_copy(self, name: str, layout: c_void_p) -> c_void_p:
        memory = self._library.memory(layout)
        self._copies.append((name, layout, memory, self._library.call("memory_desc_get_size", layout)))
        return memory

    def _append_reorder(self, layout: c_void_p, memory: c_void_p, to_layout: c_void_p, to_memory: c_void_p) -> None:
        engine = self._library.engine
        arguments = layout, engine, to_layout, engine, NOTHING
        self._append(self._library.create("reorder_primitive_desc_create", *arguments), {SRC: memory, DST: to_memory})

    def _append(self, descriptor: c_void_p, memories: dict[int, c_void_p]) -> None:
        arguments = (_Argument * len(memories))(*(_Argument(*item) for item in memories.items()))
        self._steps.append((self._library.create("primitive_create", descriptor), len(memories), arguments))


def _rounded_up(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
