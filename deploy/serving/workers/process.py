"""An engine process as the server sees it: started, fed with images, replaced when it ends or hangs."""

import asyncio
import contextlib
import itertools
import json
import multiprocessing
import signal
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from common.errors import ProjectError
from common.processes import STOP_SIGNALS, signals_blocked

from ..errors import ServingError, busy, deadline_passed, engine_away
from .batching import Answer
from .frames import TIMES, Frame, Kind, read_frame
from .worker import WorkerSettings, run_worker

SECONDS_TO_HANG = 5.0  # after the deadline of a request: an engine process answers these too, so it hangs
BLOCK_BYTES = 1 << 17  # of an image that are given to the transport at once
SECONDS_OF_A_PLACE = 0.25  # for which a request keeps its place until it submits its images
SECONDS_TO_END = 5.0  # of a process whose connection was closed
SECONDS_TO_CLOSE = 0.5  # of the connection, from our side to that of a process that has nothing to answer any more


class Image(NamedTuple):
    """One image of a request."""

    kind: Kind  # IMAGE or TENSOR
    data: bytes | bytearray  # an image file, or [3, S, S] float32; a bytearray is emptied when it was sent


class Computed(NamedTuple):
    """The answers to the images of a request, and the description of the model that gave them."""

    description: dict
    answers: list[Answer | ServingError]


class StartError(ProjectError):
    """An engine process could not load its model; has the exit code of the error there."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class EngineProcess:
    """One engine process that has loaded its model; `start` makes it."""

    def __init__(self, process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, description: dict):
        """Begin to take the answers of a process that has said that it is ready.

        Args:
            process: of multiprocessing.
            reader: gives its messages.
            writer: takes messages to it.
            description: of the model, by `worker.describe`.
        """
        self.description = description
        self.pid: int = process.pid
        self._process, self._reader, self._writer = process, reader, writer
        self._waiting: dict[int, tuple[asyncio.Future, float]] = {}
        self._numbers = itertools.count(1)
        self._given_up: dict[int, float] = {}  # deadlines of images that were sent and cancelled, until their answers
        self._unsent: dict[int, Frame] = {}
        self._to_send: asyncio.Queue[tuple[Kind, int]] = asyncio.Queue()
        self._is_closed = False
        writer.transport.set_write_buffer_limits(0)  # so that `drain` waits until the transport keeps nothing
        self._sender = asyncio.get_running_loop().create_task(self._send_all())
        self.ended = asyncio.get_running_loop().create_task(self._take_answers())

    @property
    def num_waiting(self) -> int:
        """Number of images whose answer is waited for."""
        return len(self._waiting)

    def submit(self, image: Image, deadline: float) -> tuple[int, asyncio.Future]:
        """Send an image; returns its number, and the future Answer or ServingError.

        Raises:
            ServingError: the process has ended.
        """
        if self._is_closed:
            raise engine_away()
        number, future = next(self._numbers), asyncio.get_running_loop().create_future()
        self._waiting[number] = future, deadline
        self._unsent[number] = Frame(image.kind, number, deadline, image.data)
        self._to_send.put_nowait((image.kind, number))
        return number, future

    def cancel(self, number: int) -> None:
        """Give up an image, of which the answer is not wanted any more; one that was not sent yet is freed."""
        future, deadline = self._waiting.pop(number, (None, 0.0))
        if future is None or self._is_closed:
            return
        future.cancel()
        if self._unsent.pop(number, None) is None:
            self._given_up[number] = deadline
            self._to_send.put_nowait((Kind.CANCEL, number))

    def kill_if_it_hangs(self) -> bool:
        """Kill the process if it has not even refused an image long after its deadline.

        It answers cancelled images too, so that it is found also where all clients give up before the deadline.
        """
        late = time.monotonic() - SECONDS_TO_HANG
        deadlines = [*(deadline for _, deadline in self._waiting.values()), *self._given_up.values()]
        if any(deadline < late for deadline in deadlines):
            self._process.kill()
            return True
        return False

    async def close(self) -> None:
        """Wait for all answers, then end the process; one that hangs is killed."""
        while futures := [future for future, _ in self._waiting.values() if not future.done()]:
            await asyncio.wait(futures)
        self._writer.close()
        await asyncio.wait([self.ended], timeout=SECONDS_TO_CLOSE)
        if not self.ended.done():
            self._process.kill()
            self._writer.transport.abort()  # `close` waits until the process has taken what was sent
        await self.ended

    async def _send_all(self) -> None:
        """Send frames in pieces, each when the last is gone.

        The transport keeps what it cannot send at once: a copy, or from Python 3.12 on a view, and bytes of which there
        is a view cannot be freed.
        """
        try:
            while True:
                kind, number = await self._to_send.get()
                frame = Frame(kind, number) if kind == Kind.CANCEL else self._unsent.pop(number, None)
                if frame is None:
                    continue  # it was given up before
                self._writer.write(frame.header())
                with memoryview(frame.body) as body:
                    for start in range(0, len(body), BLOCK_BYTES):
                        self._writer.write(body[start : start + BLOCK_BYTES])
                        await self._writer.drain()
                if isinstance(frame.body, bytearray):  # the server does not need it any more
                    frame.body.clear()
        except ConnectionError:
            pass  # the process has ended
        finally:  # also after a fault: a process that gets no images is replaced
            self._writer.transport.abort()

    async def _take_answers(self) -> None:
        """Give every answer to its future, until the connection ends; then those that are left get none."""
        while frame := await read_frame(self._reader):
            self._given_up.pop(frame.job, None)
            future, _ = self._waiting.pop(frame.job, (None, 0.0))
            if future is None or future.done():
                continue
            if frame.kind == Kind.RESULT:
                times = TIMES.unpack_from(frame.body)
                future.set_result(Answer(np.frombuffer(frame.body, np.float32, offset=TIMES.size), *times))
            else:
                refusal = json.loads(frame.body)
                future.set_result(ServingError(**refusal))
        self._is_closed = True
        self._sender.cancel()
        self._writer.close()
        for future, _ in self._waiting.values():
            if not future.done():
                future.set_result(engine_away())
        self._waiting.clear()
        self._unsent.clear()
        await asyncio.get_running_loop().run_in_executor(None, end_process, self._process)


def end_process(process) -> None:
    """Wait for the end of a process; kill it where it does not end by itself."""
    process.join(SECONDS_TO_END)
    if process.exitcode is None:
        process.kill()
        process.join()


async def start_engine(settings: WorkerSettings) -> EngineProcess:
    """Start an engine process and wait until its model is loaded, verified and warm.

    Raises:
        StartError: the folder cannot be used, the process ended while it loaded the model, or the machine is short of
            memory, processes or files.
    """
    try:
        process, own_end = _start_process(settings)
    except OSError as error:
        reason = error.strerror or error
        raise StartError(f"{settings.folder}: the engine process could not be started: {reason}", 7) from None
    reader, writer = await asyncio.open_connection(sock=own_end)
    try:
        frame = await read_frame(reader)
        if frame is not None and frame.kind == Kind.READY:
            return EngineProcess(process, reader, writer, json.loads(frame.body))
    except BaseException:
        process.kill()
        writer.close()
        raise
    writer.close()
    await asyncio.get_running_loop().run_in_executor(None, end_process, process)
    if frame is None:
        raise StartError(
            f"{settings.folder}: the engine process ended with {process.exitcode} while it loaded the model", 4
        )
    failure = json.loads(frame.body)
    raise StartError(failure["message"], failure["exit_code"])


def _start_process(settings: WorkerSettings) -> tuple[multiprocessing.process.BaseProcess, socket.socket]:
    """Start an engine process; returns it and the server's end of the connection."""
    own_end, other_end = socket.socketpair()
    try:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=run_worker, args=(other_end, settings), daemon=True, name="engine")
        with signals_blocked([*STOP_SIGNALS, signal.SIGHUP]):  # the server decides when its engine ends
            process.start()
    except BaseException:
        own_end.close()
        raise
    finally:
        other_end.close()
    own_end.setblocking(False)
    return process, own_end


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
