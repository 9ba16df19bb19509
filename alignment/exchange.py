"""What the two processes share: array files, sketches of big arrays, and dropout masks. numpy alone."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

SKETCH_WIDTH = 4096
SKETCH_SEED = 20180412


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz without pickles; object arrays are refused."""
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"{name} is an array of Python objects")
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read an .npz; a pickle inside is refused by numpy."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def sketch(array: np.ndarray, width: int = SKETCH_WIDTH) -> np.ndarray:
    """The array itself when it is small, else its rows added up with random signs: [<= width] float64.

    The sketch is linear, so the difference of two sketches is the sketch of the difference, and its length estimates
    the length of the difference without bias. No element can hide: each one is in the sum once.
    """
    flat = np.ravel(array).astype(np.float64)
    if flat.size <= width:
        return flat
    num_rows = -(-flat.size // width)
    whole = flat[: (num_rows - 1) * width].reshape(num_rows - 1, width)
    signs = np.random.Generator(np.random.Philox(SKETCH_SEED)).choice([-1.0, 1.0], num_rows)
    folded = signs[:-1] @ whole
    rest = flat[whole.size :]
    folded[: rest.size] += signs[-1] * rest
    return folded


class DropoutMasks:
    """The uniform numbers behind every dropout, the same on both sides: a function of (seed, step, call, shape)."""

    def __init__(self, seed: int):
        self.seed, self.step, self.call = seed, 0, 0

    def start_step(self, step: int, call: int = 0) -> None:
        self.step, self.call = step, call

    def keeps(self, shape: tuple[int, ...], drop_rate: float) -> np.ndarray:
        """1.0 where the element stays, 0.0 where it is dropped."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, self.step * 100_000 + self.call]))
        self.call += 1
        return (rng.random(shape) >= drop_rate).astype(np.float64)
