"""One engine process as the server sees it: started, fed with images, closed or killed."""

import asyncio
import itertools
import json
import multiprocessing
import signal
import socket
import time
from typing import NamedTuple

import numpy as np

from common.errors import ProjectError
from common.processes import STOP_SIGNALS, signals_blocked

from ..errors import ServingError, engine_away
from .batching import Answer
from .frames import TIMES, Frame, Kind, read_frame
from .worker import WorkerSettings, run_worker

SECONDS_TO_HANG = 5.0  # after the deadline of a request: an engine process answers these too, so it hangs
BLOCK_BYTES = 1 << 17  # of an image that are given to the transport at once
SECONDS_TO_END = 5.0  # of a process whose connection was closed
SECONDS_TO_CLOSE = 0.5  # of the connection, from our side to that of a process that has nothing to answer any more


class Image(NamedTuple):
    """One image of a request."""

    kind: Kind  # IMAGE or TENSOR
    data: bytes | bytearray  # an image file, or [3, S, S] float32; a bytearray is emptied when it was sent


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
