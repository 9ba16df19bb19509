"""Random generators of the data: each is a pure function of a purpose, the seed and a place in training."""

import numpy as np


def generator(purpose: str, seed: int, *place: int) -> np.random.Generator:
    """Create the generator of `purpose` at `place`, up to three numbers such as (epoch, index).

    Philox is counter-based (Salmon et al., SC 2011): purpose and seed are its key, the place is the high part of its
    counter. So any place is reached in microseconds, without the numbers of earlier places, and no two generators of
    different purposes or places return the same part of a sequence.
    """
    key = np.array([seed, int.from_bytes(purpose.encode("ascii"), "little")], dtype=np.uint64)
    counter = np.zeros(4, dtype=np.uint64)
    counter[1 : 1 + len(place)] = place
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
