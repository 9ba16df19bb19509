"""Slots of rows that workers fill ahead of their use, each read in its turn."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from .sample import Failure, Task

SLOTS_PER_WORKER = 2  # one batch being made or waiting while another is taken


def in_turns(
    tasks: Iterable[Task],
    slots: Sequence[np.ndarray],
    send: Callable[[int, Task], None],
    receive: Callable[[int, Task], list[Failure]],
) -> Iterator[tuple[Task, np.ndarray, list[Failure]]]:
    """(task, rows, failures) in the order of `tasks`. The rows are reused: copy them before taking the next.

    `send` begins a task in the slot of that number, `receive` waits for its end.
    """
    tasks = iter(tasks)
    waiting = deque()
    for slot, task in enumerate(islice(tasks, len(slots))):
        send(slot, task)
        waiting.append((slot, task))
    while waiting:
        slot, task = waiting.popleft()
        failures = receive(slot, task)
        yield task, slots[slot][: len(task.indices)], failures
        for task in islice(tasks, 1):
            send(slot, task)
            waiting.append((slot, task))
