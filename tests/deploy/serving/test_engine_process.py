"""An engine process as the server sees it: what is sent to it, what is kept, and how it is replaced; it is played."""

import asyncio
import errno
import signal
import socket
import time
import weakref
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest

from common.processes import STOP_SIGNALS
from deploy.serving.errors import deadline_passed
from deploy.serving.workers import engine as engine_module
from deploy.serving.workers import process as process_module
from deploy.serving.workers.batching import Job
from deploy.serving.workers.frames import HEADER, Frame, Kind
from deploy.serving.workers.process import EngineProcess, Image, start_engine
from deploy.serving.workers.worker import WorkerSettings, frame_of

BUFFER_BYTES = 4096  # of the connection, less than an image
IMAGE_BYTES = 40_000  # less than a transport keeps by default before `drain` waits


class PlayedProcess:
    """Stands for the object of multiprocessing; one that is not mortal keeps its connection when it is killed."""

    def __init__(self, connection: socket.socket, is_mortal: bool):
        self.pid, self.exitcode, self.was_killed = 0, None, False
        self._connection, self._is_mortal = connection, is_mortal

    def join(self, seconds: float | None = None) -> None:
        self.exitcode = 0

    def kill(self) -> None:
        self.was_killed = True
        if self._is_mortal:
            self._connection.close()


async def receive(connection: socket.socket, num_bytes: int) -> bytes:
    """Take bytes as the engine process does."""
    received = b""
    while len(received) < num_bytes:
        received += await asyncio.get_running_loop().sock_recv(connection, num_bytes - len(received))
    return received


async def receive_frame(connection: socket.socket) -> Frame:
    """Take a message as the engine process does."""
    kind, job, deadline, length = HEADER.unpack(await receive(connection, HEADER.size))
    return Frame(Kind(kind), job, deadline, await receive(connection, length))


def play(
    scene: Callable[[EngineProcess, PlayedProcess, socket.socket], Awaitable[None]], *, is_mortal: bool = True
) -> None:
    """Run a scene with the server's side, the process, and the end of the connection that the process has."""

    async def run() -> None:
        own_end, other_end = socket.socketpair()
        own_end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        for end in (own_end, other_end):
            end.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=own_end)
        process = PlayedProcess(other_end, is_mortal)
        engine = EngineProcess(process, reader, writer, {})
        try:
            await asyncio.wait_for(scene(engine, process, other_end), 20)
        finally:
            other_end.close()
            await asyncio.wait_for(engine.ended, 20)

    asyncio.run(run())


def soon() -> float:
    """A deadline that no test reaches."""
    return time.monotonic() + 30


async def let_it_send() -> None:
    """Let the sender go on until it waits for the process."""
    for _ in range(20):
        await asyncio.sleep(0.002)


def test_an_image_is_freed_when_all_of_it_was_sent_and_not_before():
    """From Python 3.12 on the transport keeps views of the image, which then cannot be freed."""

    async def scene(engine, process, connection):
        images = [bytearray([number]) * IMAGE_BYTES for number in (1, 2)]
        for image in images:
            engine.submit(Image(Kind.IMAGE, image), soon())
        await let_it_send()
        assert [len(image) for image in images] == [IMAGE_BYTES] * 2
        for number, image in enumerate(images, 1):
            frame = await receive_frame(connection)
            assert frame.job == number and frame.body == bytes([number]) * IMAGE_BYTES
            await let_it_send()
            assert not image

    play(scene)


def test_a_process_to_which_nothing_can_be_sent_is_given_up():
    async def scene(engine, process, connection):
        _, future = engine.submit(Image(Kind.IMAGE, "no bytes"), soon())
        with pytest.raises(TypeError):
            await engine._sender
        assert (await future).kind == "engine_away"
        await engine.ended

    play(scene)


def test_a_machine_that_is_short_of_memory_is_asked_again(monkeypatch):
    """The engine ends, and the first try to replace it finds no memory."""
    events, masks, tries = [], [], []

    class Refusing:
        def __init__(self, **_):
            pass

        def start(self):
            masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
            raise OSError(errno.ENOMEM, "Cannot allocate memory")

    async def scene(first, process, connection):
        async def start(settings):
            tries.append(settings)
            return first if len(tries) != 2 else await start_engine(settings)

        monkeypatch.setattr(engine_module, "start_engine", start)
        monkeypatch.setattr(process_module.multiprocessing, "get_context", lambda _: SimpleNamespace(Process=Refusing))
        engine = engine_module.Engine(
            WorkerSettings("folder"), max_queue=1, on_event=lambda *event: events.append(event)
        )
        await engine.open()
        connection.close()
        while len(tries) < 3:
            await asyncio.sleep(0.01)
        assert not engine._supervisor.done()
        await engine.close()

    play(scene)
    assert ("engine_not_started", "folder: the engine process could not be started: Cannot allocate memory") in events
    assert {*STOP_SIGNALS, signal.SIGHUP} <= masks[0]  # a signal to the whole group is for the server alone


def test_a_process_that_hangs_is_killed_although_its_clients_gave_up():
    async def scene(engine, process, connection):
        past = time.monotonic() - process_module.SECONDS_TO_HANG - 1
        (answered, _), (hanging, _) = [engine.submit(Image(Kind.IMAGE, b"image"), past) for _ in range(2)]
        await let_it_send()
        engine.cancel(answered)
        engine.cancel(hanging)
        assert engine.num_waiting == 0
        for number in (answered, hanging):
            assert engine.kill_if_it_hangs()
            answer = frame_of(Job(number, b"image", past), deadline_passed())
            connection.sendall(answer.header() + answer.body)
            await let_it_send()
        assert not engine.kill_if_it_hangs()

    play(scene, is_mortal=False)


def test_an_image_that_was_given_up_before_it_was_sent_is_freed():
    class Bytes(bytearray):
        """Can be referred to weakly."""

    async def scene(engine, process, connection):
        engine.submit(Image(Kind.IMAGE, bytes(10 * IMAGE_BYTES)), soon())  # which fills the connection
        await let_it_send()
        image = Bytes(IMAGE_BYTES)
        number, kept = engine.submit(Image(Kind.IMAGE, image), soon())[0], weakref.ref(image)
        del image
        engine.cancel(number)
        assert kept() is None

    play(scene)


def test_the_end_does_not_wait_for_a_process_that_hangs():
    """The connection is full of an image, whose client is gone, and nobody reads it."""

    async def scene(engine, process, connection):
        number, _ = engine.submit(Image(Kind.IMAGE, bytes(IMAGE_BYTES)), soon())
        await let_it_send()
        engine.cancel(number)
        await engine.close()
        assert process.was_killed

    play(scene, is_mortal=False)


def test_a_refusal_of_the_process_says_when_to_ask_again():
    async def scene(engine, process, connection):
        number, future = engine.submit(Image(Kind.IMAGE, b"image"), soon())
        frame = frame_of(Job(number, b"image", 0.0), deadline_passed())
        connection.sendall(frame.header() + frame.body)
        refusal = await future
        assert (refusal.status, refusal.retry_after) == (504, 2)

    play(scene)
