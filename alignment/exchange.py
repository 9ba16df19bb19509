"""What the two processes share: array files, settings of a run, sketches of big arrays, dropout masks. numpy alone."""

import mmap
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SKETCH_WIDTH = 4096
SKETCH_SEED = 20180412
BLOCK = 1 << 20  # elements of an array that are converted at a time
WHOLE_GRADIENTS = 1 << 20  # elements; of a larger gradient both sides keep a sketch
ALIGNMENT = 64  # bytes; arrays in a file begin at multiples of it
PADDING = 0x4141  # kind of the extra field of a zip entry that moves its data there
# Files of functions that run a part of a forward once more in the backward: {end of the path: name of the function}.
RECOMPUTED = {
    "torch/utils/checkpoint.py": "draws in torch.utils.checkpoint",
    "fleet/recompute/recompute.py": "draws in paddle.distributed.fleet.utils.recompute",
}
MAX_CALLS_PER_STEP = 100_000  # of dropout layers; keeps the random streams of two steps apart


@dataclass(frozen=True)
class TraceSettings:
    """How a trace is recorded.

    Attributes:
        dtype: "float32" or "float64".
        is_training: True for train mode, False for evaluation mode.
        loss: {"name": "cross_entropy", "smoothing": number}, or that of the user, {"name": "user", "callable": ...},
            or {"name": "projection"}; None for a forward alone.
        seed: of the dropout masks.
        rules: fields of Rules, which give the gradients of the reference the names and layouts of the port.
        has_layers_alone: whether the reference also runs the backward of each layer alone.
        has_layer_values: whether the reference sends the outputs of the layers and their gradients.
    """

    dtype: str
    is_training: bool
    loss: dict | None
    seed: int
    rules: dict
    has_layers_alone: bool = True
    has_layer_values: bool = True


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained for N steps.

    Attributes:
        dtype: "float32" or "float64".
        rates: learning rate of each step, [N]; empty if the optimizer of the user has one of its own.
        optimizer: {"name": "momentum" or "adamw", and the settings of the optimizer}, or that of the user.
        loss: as in TraceSettings.
        seed: of the dropout masks.
        rules: as in TraceSettings.
        width: length of the sketch of each tensor after each step; 0 records the losses alone.
        schedule: function of the user that makes the schedule for the optimizer, or None.
        step: function of the user for one training step, or None.
        has_weights_alone: record of each step the weights and statistics alone.
    """

    dtype: str
    rates: list[float]
    optimizer: dict
    loss: dict
    seed: int
    rules: dict
    width: int
    schedule: dict | None = None
    step: dict | None = None
    has_weights_alone: bool = False

    def optimizer_settings(self) -> dict:
        """The settings of the optimizer without its name."""
        return {key: value for key, value in self.optimizer.items() if key != "name"}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz file without pickles, in which `read_arrays` finds aligned arrays. An older file is not changed.

    Raises:
        TypeError: an array holds Python objects.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"{name} is an array of Python objects")
    path.unlink(missing_ok=True)  # whoever has mapped the older file keeps it
    with open(path, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            # 30 bytes of a zip header, 20 of its field for large files, and 4 before the padding.
            padding = -(file.tell() + 30 + len(entry.filename.encode()) + 20 + 4) % ALIGNMENT
            entry.extra = struct.pack("<HH", PADDING, padding) + bytes(padding)
            with archive.open(entry, "w", force_zip64=True) as target:
                np.lib.format.write_array(target, np.asanyarray(array), allow_pickle=False)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read an .npz file. The arrays of `write_arrays` stay in the file, and the system has them in memory while it can.

    An array may be changed; the file does not change. The file may be deleted.

    Raises:
        ValueError: the file holds a pickle.
    """
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        found, entries = {}, arrays.zip.infolist()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            array = _mapped_array(mapped, entry)
            found[name] = arrays[name] if array is None else array
        return found


def _mapped_array(mapped: mmap.mmap, entry: zipfile.ZipInfo) -> np.ndarray | None:
    """The array of an entry in the mapped file; None if it is compressed, not aligned, empty or of objects."""
    mapped.seek(entry.header_offset + 26)
    start = entry.header_offset + 30 + sum(struct.unpack("<HH", mapped.read(4)))
    if entry.compress_type != zipfile.ZIP_STORED or start % ALIGNMENT:
        return None
    mapped.seek(start)
    if np.lib.format.read_magic(mapped) != (1, 0):
        return None
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(mapped)
    if dtype.hasobject or 0 in shape:
        return None
    return np.ndarray(shape, dtype, mapped, mapped.tell(), order="F" if is_fortran else "C")


def as_floats(array: np.ndarray) -> np.ndarray:
    """The array in float64; complex numbers as pairs along a new last axis, because a cast drops the imaginary part."""
    if array.dtype.kind == "c":
        return np.stack([array.real, array.imag], -1).astype(np.float64, copy=False)
    return array.astype(np.float64, copy=False)


def packed(gradient: np.ndarray) -> np.ndarray:
    """What is kept of the gradient of a parameter: a sketch, if it is large."""
    return gradient if gradient.size <= WHOLE_GRADIENTS else sketch(gradient)


def constructor(module: object, name: str, package: str | None = None) -> Callable:
    """The callable `name` of a module; with `package` it must be defined there, and not only be imported there.

    Raises:
        AttributeError: the module has no such name.
        ImportError: it is of another package, `subprocess.run` for example.
    """
    found = getattr(module, name)
    home = str(getattr(found, "__module__", None) or type(found).__module__)
    if package and not f"{home}.".startswith(f"{package}."):
        raise ImportError(f"{name} is of {home}, not of {package}; add --trust_case if you have read the case")
    return found


def sketch(array: np.ndarray, width: int = SKETCH_WIDTH) -> np.ndarray:
    """Reduce an array to at most `width` numbers: its rows of `width` elements, summed with random signs. [<= width].

    An array that has at most `width` elements is returned as it is, flattened, in float64. A sketch is linear: the
    difference of two sketches is the sketch of the difference, and its norm is an unbiased estimate of the norm of the
    difference. Every element is in exactly one sum, so no difference of a single element is lost.
    """
    array = as_floats(array) if array.dtype.kind == "c" else array
    if array.size <= width:
        return np.ravel(array).astype(np.float64)
    signs = np.random.Generator(np.random.Philox(SKETCH_SEED)).choice([-1.0, 1.0], -(-array.size // width))
    folded, rest, row = np.zeros(width), np.zeros(0), 0
    for block in _blocks(array):
        flat = np.concatenate([rest, block]) if rest.size else block
        num = flat.size // width
        folded += signs[row : row + num] @ flat[: num * width].reshape(num, width)
        rest, row = flat[num * width :], row + num
    if rest.size:
        folded[: rest.size] += signs[row] * rest
    return folded


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """The elements in order, a part of them at a time, float64: a whole copy of a big array takes a gigabyte."""
    num = max(1, BLOCK * len(array) // array.size)
    for start in range(0, len(array), num):
        yield np.ravel(array[start : start + num]).astype(np.float64, copy=False)


class DropoutMasks:
    """The random numbers of all draws, equal on both sides: a function of (seed, step, call, shape).

    Attributes:
        unpaired: names of functions whose draws are not given from here.
        turned_off: dropouts that are set to 0, because the framework draws inside one of its operators.
    """

    def __init__(self, seed: int):
        self.seed, self.step, self.call = seed, 0, 0
        self.unpaired: set[str] = set()
        self.turned_off: set[str] = set()

    def start_step(self, step: int, call: int = 0) -> None:
        """Set the training step and the number of the next dropout call in it."""
        self.step, self.call = step, call

    def next_mask(self, shape: tuple[int, ...], drop_rate: float) -> np.ndarray:
        """Mask of the next dropout call: 1.0 for an element that stays, 0.0 for one that is dropped. float64."""
        return (self.next_uniform(shape) >= drop_rate).astype(np.float64)

    def next_uniform(self, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers from 0 to 1 of the next draw, float64."""
        return self._next_rng().random(shape)

    def next_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Normal numbers of the next draw, float64."""
        return self._next_rng().standard_normal(shape)

    def _next_rng(self) -> np.random.Generator:
        frame = sys._getframe(2)
        while frame:
            for file, name in RECOMPUTED.items():
                if frame.f_code.co_filename.endswith(file):
                    self.unpaired.add(name)  # the second time is another call, and its numbers are others
            frame = frame.f_back
        key = [self.seed, self.step * MAX_CALLS_PER_STEP + self.call]
        self.call += 1
        return np.random.Generator(np.random.Philox(key=key))
