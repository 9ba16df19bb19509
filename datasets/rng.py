"""Where every random number of the data comes from: a purpose, the seed and a place in training, never history."""

import numpy as np


def stream(purpose: str, seed: int, *place: int) -> np.random.Philox:
    """The bit generator of `purpose` at `place`, up to three numbers such as (epoch, index).

    Philox is counter-based (Salmon et al., SC 2011): purpose and seed are its key and the place is the high part of its
    counter, so any place is reached in microseconds, without passing through others, and no two streams overlap.
    """
    key = np.array([seed, int.from_bytes(purpose.encode("ascii"), "little")], dtype=np.uint64)
    counter = np.zeros(4, dtype=np.uint64)
    counter[1 : 1 + len(place)] = place
    return np.random.Philox(key=key, counter=counter)
