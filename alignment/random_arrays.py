"""Random images of a case, and the generators of its other random arrays: functions of its seed and of a purpose."""

import hashlib

import numpy as np

from .case import Case


def images_of(case: Case, shape: tuple[int, ...], purpose: str = "images") -> np.ndarray:
    """Random float32 images of `shape`, a function of the seed of the case and of `purpose`."""
    low, high = case.input_range
    return generator(case.seed, purpose).uniform(low, high, shape).astype(np.float32)


def generator(seed: int, purpose: str) -> np.random.Generator:
    number = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    return np.random.default_rng([seed, number])
