"""Slots of memory that are filled ahead of their use, and returned in the order of the tasks."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from .sample import Failure, Task

SLOTS_PER_WORKER = 2  # one slot is being filled or waits while the batch of the other is used


class FilledBatch(NamedTuple):
    """The pixels of one task. The memory of `rows` is filled again after the next batch is taken: copy it before."""

    task: Task
    rows: np.ndarray  # [B, S, S, 3] uint8
    failures: list[Failure]  # rows that could not be filled


def batches_in_order(
    tasks: Iterable[Task],
    slots: Sequence[np.ndarray],
    start: Callable[[int, Task], None],
    wait: Callable[[int, Task], list[Failure]],
) -> Iterator[FilledBatch]:
    """Keep all slots busy and yield the filled batches in the order of `tasks`.

    Args:
        tasks: one task per batch.
        slots: memory of one batch each, [batch_size, S, S, 3] uint8.
        start: starts filling slot number i for a task, and returns at once.
        wait: waits until slot number i is filled, and returns the failures.
    """
    tasks = iter(tasks)
    started = deque()
    for slot, task in enumerate(islice(tasks, len(slots))):
        start(slot, task)
        started.append((slot, task))
    while started:
        slot, task = started.popleft()
        failures = wait(slot, task)
        yield FilledBatch(task, slots[slot][: len(task.indices)], failures)
        for task in islice(tasks, 1):
            start(slot, task)
            started.append((slot, task))
