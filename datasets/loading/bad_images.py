"""What becomes of images that cannot be read: the run ends, or they are left out, counted and named."""

from collections.abc import Callable, Sequence

import numpy as np

from common.errors import BadImage, DataError

from ..reading.image_list import ImageList
from .sample import Failure, Task

ADVICE = "python -m datasets.check finds them all"


class BadImages:
    """With `policy` "error" the first ends the run; with "skip" up to `limit` different ones are left out.

    A batch is then smaller, and nothing else changes: the order of the others and all their draws are as if it were
    whole, and no picture takes the place of another. `report` hears of each image once, with path, reason and count.
    """

    def __init__(
        self,
        images: ImageList,
        policy: str = "error",
        limit: int = 0,
        report: Callable[[str], None] = lambda message: None,
    ):
        self._images = images
        self._policy = policy
        self._limit = limit
        self._report = report
        self._skipped: set[int] = set()

    @property
    def num_skipped(self) -> int:
        """Different images that were left out so far."""
        return len(self._skipped)

    def kept_rows(self, task: Task, failures: Sequence[Failure]) -> np.ndarray | slice:
        """The rows of the batch that hold an image. Raises DataError for a failure that is not to be skipped."""
        if not failures:
            return slice(None)
        for failure in failures:
            error = self._explained(failure, task)
            if self._policy == "error" or not isinstance(error, BadImage):
                raise error
            self._skip(int(task.indices[failure.row]), error)
        if len(failures) == len(task.indices):
            raise DataError(f"no image of a whole batch could be read, the first: {self._explained(failures[0], task)}")
        return np.delete(np.arange(len(task.indices)), [failure.row for failure in failures])

    def _skip(self, index: int, error: BadImage) -> None:
        if index in self._skipped:
            return
        self._skipped.add(index)
        if self.num_skipped > self._limit:
            raise DataError(f"more than --max_bad_images {self._limit} could not be read, now {error}; {ADVICE}")
        self._report(f"skipped image {self.num_skipped} of at most {self._limit}: {error}")

    def _explained(self, failure: Failure, task: Task) -> DataError:
        if not isinstance(failure.error, BadImage):
            return failure.error
        place = self._images.place(task.indices[failure.row])
        return BadImage(task.paths[failure.row], f"{failure.error.reason} (named by {place})")
