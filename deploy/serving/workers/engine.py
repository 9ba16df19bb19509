"""The engine of one model: its process is replaced when it ends or hangs, and its queue has an end."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

from ..errors import ServingError, busy, deadline_passed, engine_away
from .batching import Answer
from .process import EngineProcess, Image, StartError, start_engine
from .worker import WorkerSettings

SECONDS_OF_A_PLACE = 0.25  # for which a request keeps its place until it submits its images


class Computed(NamedTuple):
    """The answers to the images of a request, and the description of the model that gave them."""

    description: dict
    answers: list[Answer | ServingError]


class Place:
    """A place in the queue that a request has before its images come; it ends by itself, since a body may be slow."""

    def __init__(self, places: "dict[Place, None]", until: float):
        self.until = until  # time of `time.monotonic`
        self._places = places

    def release(self) -> None:
        """Give the place back; again is harmless."""
        self._places.pop(self, None)


class Engine:
    """The engine process of one model, and its replacement when it ends; `open` comes first."""

    def __init__(self, settings: WorkerSettings, *, max_queue: int, on_event: Callable[[str, str], None]):
        """Describe the engine.

        Args:
            settings: of the process.
            max_queue: number of images that may wait; more are refused.
            on_event: called with what happened, as "engine_ended", and details for the log.
        """
        self.settings, self.max_queue = settings, max_queue
        self._on_event = on_event
        self._process: EngineProcess | None = None
        self._older: set[asyncio.Task] = set()  # tasks that close the processes that were replaced
        self._supervisor: asyncio.Task | None = None
        self._starting = asyncio.Lock()
        self._seconds_per_image = 0.05
        self._places: dict[Place, None] = {}  # of requests that were let in, in the order in which they came
        self.description: dict = {}

    @property
    def is_ready(self) -> bool:
        """Whether an engine process takes images."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Number of the engine process."""
        return self._process.pid if self._process else None

    @property
    def num_waiting(self) -> int:
        """Number of images that have no answer yet."""
        return self._process.num_waiting if self._process else 0

    async def open(self) -> None:
        """Start the process.

        Raises:
            StartError: the folder cannot be used.
        """
        self._use(await start_engine(self.settings))
        self._supervisor = asyncio.get_running_loop().create_task(self._supervise())

    async def reload(self) -> None:
        """Start a process with what is in the folder now, and send it all further images; the older one finishes.

        Raises:
            StartError: the folder cannot be used; the older process goes on.
        """
        async with self._starting:
            started = await start_engine(self.settings)
            older = self._process
            self._use(started)
        if older is not None:
            task = asyncio.get_running_loop().create_task(older.close())
            self._older.add(task)
            task.add_done_callback(self._older.discard)

    async def close(self) -> None:
        """Wait for all answers, then end the process."""
        if self._supervisor:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        if self._process:
            await self._process.close()
        if self._older:
            await asyncio.wait(self._older)

    def take_place(self) -> "Place":
        """Take a place for an image of a request that has just begun, until its images come.

        Without that, all requests that arrive while one place is free are let in, and all but one are refused after
        they were read and parsed.

        Raises:
            ServingError: as `check_queue`.
        """
        now = time.monotonic()
        while self._places and next(iter(self._places)).until < now:
            next(iter(self._places)).release()
        self.check_queue(1 + len(self._places))
        place = Place(self._places, now + SECONDS_OF_A_PLACE)
        self._places[place] = None
        return place

    def check_queue(self, num_images: int = 1) -> None:
        """Refuse images for which there is no place.

        Raises:
            ServingError: too many images are waiting, or no engine process is ready.
        """
        if self._process is None:
            raise engine_away()
        if self.num_waiting + num_images > self.max_queue:
            seconds = max(1, round(self.num_waiting * self._seconds_per_image))
            raise busy(seconds, "too many images are waiting; send the request again later")

    async def compute(self, images: list[Image], deadline: float) -> Computed:
        """Compute the logits of images; one that cannot be read has an error in its place.

        Args:
            images: of one request.
            deadline: time of `time.monotonic`.

        Raises:
            ServingError: too many images are waiting, no engine process is ready, it ended, or the deadline passed.
        """
        self.check_queue(len(images))
        process, description, jobs = self._process, self.description, []
        try:
            for image in images:
                jobs.append(process.submit(image, deadline))
            futures = [future for _, future in jobs]
            _, late = await asyncio.wait(futures, timeout=max(0.0, deadline - time.monotonic()))
        except BaseException:  # the client is gone, or the process
            for number, _ in jobs:
                process.cancel(number)
            raise
        if late:  # the process refuses them too; one that does not hangs
            for number, _ in jobs:
                process.cancel(number)
            raise deadline_passed()
        answers = [future.result() for future in futures]
        for answer in answers:
            if isinstance(answer, ServingError) and answer.status != 422:
                raise answer
            if isinstance(answer, Answer):
                self._seconds_per_image += 0.05 * (answer.compute_seconds / answer.batch_size - self._seconds_per_image)
        return Computed(description, answers)

    def _use(self, process: EngineProcess) -> None:
        self._process, self.description = process, process.description

    async def _supervise(self) -> None:
        """Replace the process when it ends, and kill it when it hangs."""
        while True:
            process = self._process
            await asyncio.wait([process.ended], timeout=1)
            if process.ended.done():
                if process is self._process:
                    await self._replace(process)
            elif process.kill_if_it_hangs():
                self._on_event("engine_hangs", f"process {process.pid} was killed")

    async def _replace(self, process: EngineProcess) -> None:
        self._process, pause = None, 0.0
        self._on_event("engine_ended", f"process {process.pid} ended")
        while self._process is None:
            await asyncio.sleep(pause)
            pause = min(2 * pause + 0.5, 8.0)
            async with self._starting:
                if self._process is not None:  # a reload was first
                    return
                try:
                    self._use(await start_engine(self.settings))
                except StartError as error:
                    self._on_event("engine_not_started", str(error))
                else:
                    self._on_event("engine_started", f"process {self.pid} is ready")
