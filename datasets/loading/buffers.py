"""The memory of batches on a CPU, taken again as soon as nobody holds the batch."""

import weakref
from collections import deque

import numpy as np

NUM_IDLE = 2  # a batch is made while that before it is used


class BufferPool:
    """Arrays of `shape` float32. New ones are cleared by the system, which takes as long as filling them does."""

    def __init__(self, shape: tuple[int, ...]):
        self._shape = shape
        self._idle: deque[np.ndarray] = deque(maxlen=NUM_IDLE)

    def take(self, count: int) -> np.ndarray:
        """The first `count` of an array, with anything in them.

        They are free again when this very view is gone, or the tensor that DLPack makes of it with all that share its
        memory; views of the view do not count.
        """
        array = self._idle.pop() if self._idle else np.empty(self._shape, np.float32)
        view = array[:count]
        weakref.finalize(view, self._idle.append, array).atexit = False
        return view
