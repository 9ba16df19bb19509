"""Images that cannot be read: the first one ends the run, or they are left out, counted and named."""

import sys
from collections.abc import Callable, Sequence

import numpy as np

from common.errors import BadImage, DataError
from common.printable import print_safely

from ..reading.image_list import ImageList
from .sample import Failure, Task

NEXT_STEP = "python -m datasets.check names them all"


def print_to_stderr(message: str) -> None:
    """Print a message of any rank at once."""
    print_safely(message, sys.stderr)


class BadImages:
    """Decides what happens with images that cannot be read.

    A batch with a bad image becomes smaller and nothing else changes: order and draws of the other images are those of
    the whole batch, and no image takes the place of another.

    Args:
        images: the data set, which names the line of its list.
        policy: "error": the first bad image ends the run; "skip": bad images are left out.
        limit: how many different images may be left out.
        report: is called once per bad image with path, reason and count.
        counts_as_wrong: in an evaluation a bad image is not left out of the scores, but counted as wrong.
    """

    def __init__(
        self,
        images: ImageList,
        policy: str = "error",
        limit: int = 0,
        report: Callable[[str], None] = print_to_stderr,
        *,
        counts_as_wrong: bool = False,
    ):
        self._images = images
        self._policy = policy
        self._limit = limit
        self._report = report
        self._consequence = "counted as wrong" if counts_as_wrong else "skipped"
        self._skipped: set[int] = set()

    @property
    def are_skipped(self) -> bool:
        """Whether bad images are left out, so that one of them does not end the run."""
        return self._policy == "skip"

    @property
    def num_skipped(self) -> int:
        """Number of different images that were left out so far."""
        return len(self._skipped)

    def good_rows(self, task: Task, failures: Sequence[Failure]) -> np.ndarray | slice:
        """Select the rows of a batch that hold an image.

        Raises:
            BadImage: the policy is "error"; the message names path, reason and the line of the list.
            DataError: too many bad images, a batch without a good one, or a failure that is a fault of the code.
        """
        if not failures:
            return slice(None)
        self.check(task, failures)
        if len(failures) == len(task.indices):
            first = self._with_place(failures[0], task)
            raise DataError(f"no image of a whole batch could be read, the first: {first}")
        return np.delete(np.arange(len(task.indices)), [failure.row for failure in failures])

    def check(self, task: Task, failures: Sequence[Failure]) -> None:
        """Report the bad images of a batch, or end the run.

        Raises:
            BadImage: the policy is "error"; the message names path, reason and the line of the list.
            DataError: too many bad images, or a failure that is a fault of the code.
        """
        for failure in failures:
            error = self._with_place(failure, task)
            if self._policy == "error" or not isinstance(error, BadImage):
                raise error
            self._skip(self._image_of(failure, task), error)

    def _skip(self, index: int, error: BadImage) -> None:
        if index in self._skipped:
            return
        self._skipped.add(index)
        if self.num_skipped > self._limit:
            raise DataError(f"more than --max_bad_images {self._limit} could not be read, now {error}; {NEXT_STEP}")
        self._report(f"{self._consequence}: image {self.num_skipped} of at most {self._limit}: {error}")

    def _image_of(self, failure: Failure, task: Task) -> int:
        return int(task.indices[failure.row]) % len(self._images)  # a sample may be a later use, see `balanced_order`

    def _with_place(self, failure: Failure, task: Task) -> DataError:
        if not isinstance(failure.error, BadImage):
            return failure.error
        place = self._images.place(self._image_of(failure, task))
        advice = f"; --on_bad_image skip continues without it, {NEXT_STEP}" if self._policy == "error" else ""
        return BadImage(task.paths[failure.row], f"{failure.error.reason} (named by {place}){advice}")
