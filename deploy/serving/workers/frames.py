"""Messages between the server and an engine process: a header of fixed length, then bytes; nothing is unpickled."""

import asyncio
import socket
import struct
from enum import IntEnum
from typing import NamedTuple

HEADER = struct.Struct("<BQdI")  # kind, number of the job, deadline, length of the body
TIMES = struct.Struct("<dddI")  # before the logits of a result: seconds of queue, decode, compute; size of the batch


class Kind(IntEnum):
    """What a message is; the first three go to the engine process, the others come from it."""

    IMAGE = 1  # an image file
    TENSOR = 2  # a preprocessed image, [3, S, S] float32
    CANCEL = 3  # the job is not wanted any more
    READY = 4  # JSON: description of the model
    FAILED = 5  # JSON: the model could not be loaded
    RESULT = 6  # TIMES, then the logits, [C] float32
    REFUSED = 7  # JSON: status, kind and message of an error


class Frame(NamedTuple):
    """One message. `deadline` is a time of `time.monotonic`, which all processes of a machine share."""

    kind: Kind
    job: int = 0
    deadline: float = 0.0
    body: bytes = b""

    def header(self) -> bytes:
        """The bytes that go before the body."""
        return HEADER.pack(self.kind, self.job, self.deadline, len(self.body))


def receive_frame(channel: socket.socket) -> Frame | None:
    """Wait for the next message; None at the end of the connection."""
    header = _receive(channel, HEADER.size)
    if header is None:
        return None
    kind, job, deadline, length = HEADER.unpack(header)
    body = _receive(channel, length) if length else b""
    return None if body is None else Frame(Kind(kind), job, deadline, bytes(body))


def _receive(channel: socket.socket, length: int) -> bytearray | None:
    data = bytearray(length)
    view, at = memoryview(data), 0
    while at < length:
        num_bytes = channel.recv_into(view[at:])
        if not num_bytes:
            return None
        at += num_bytes
    return data


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """Wait for the next message in an event loop; None at the end of the connection."""
    try:
        kind, job, deadline, length = HEADER.unpack(await reader.readexactly(HEADER.size))
        return Frame(Kind(kind), job, deadline, await reader.readexactly(length) if length else b"")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
