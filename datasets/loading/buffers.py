"""Memory of batches on a CPU: an array is used again as soon as nothing refers to the batch that is in it."""

import weakref
from collections import deque

import numpy as np

NUM_IDLE = 2  # one batch is prepared while the batch before it is used


class BufferPool:
    """Arrays of `shape` float32, used again and again.

    The system clears new memory, which takes as long as filling the batch does.
    """

    def __init__(self, shape: tuple[int, ...]):
        self._shape = shape
        self._idle: deque[np.ndarray] = deque(maxlen=NUM_IDLE)

    def take(self, count: int) -> np.ndarray:
        """Take the first `count` rows of a free array; their content is undefined.

        The array is free again when the returned view is deleted. A tensor that DLPack makes of the view keeps the view
        alive, and so does every tensor that shares its memory. A numpy view of the view does not.
        """
        array = self._idle.pop() if self._idle else np.empty(self._shape, np.float32)
        view = array[:count]
        weakref.finalize(view, self._idle.append, array).atexit = False
        return view
