"""Read the body of a request within the limits of bytes and time; parse files of a form in memory."""

import asyncio
import time
import zlib
from contextlib import asynccontextmanager

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from .errors import ClientGoneError, ServingError, bad_request, busy, too_large
from .limits import Limits

FORM_BLOCK = 1 << 18
DECOMPRESS_BITS = {"gzip": 31, "deflate": 15}  # of zlib


class Bodies:
    """Reads bodies, and counts the bytes of all those that are in memory."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self._num_bytes = 0
        self._arriving: dict[_Held, None] = {}  # in the order in which they began

    @asynccontextmanager
    async def read(self, request: Request):
        """Give the body, a bytearray; its bytes are counted until the end of the context.

        They are counted also when the server has sent them to the engine process and freed them, since they are there.

        Raises:
            ClientGoneError: the client closed the connection.
            ServingError: the body is too large, too slow, or compressed in an unknown way, or memory is short.
        """
        held, seconds = _Held(self), min(self._limits.body_seconds, self._limits.request_seconds)
        deadline = request.scope["serving.start"] + seconds
        try:
            try:
                data = await asyncio.wait_for(self._receive(request, held), deadline - time.monotonic())
            except asyncio.TimeoutError:
                message = f"the body did not arrive within {seconds:.0f} s"
                raise ServingError(408, "too_slow", message) from None
            except ClientDisconnect:
                raise ClientGoneError from None
            encoding = request.headers.get("content-encoding", "identity").lower()
            yield data if encoding == "identity" else self._decompress(data, encoding, held)
        finally:
            held.release()

    def check_length(self, request: Request) -> None:
        """Refuse a body whose stated length is too large, before any of it is read.

        Raises:
            ServingError: it is, or the length is no number.
        """
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            raise bad_request("Content-Length is no number")
        if int(length) > self._limits.max_body_bytes:
            raise self.body_too_large()

    def body_too_large(self) -> ServingError:
        """The error of a body above the limit."""
        return too_large(
            f"the body has more than {self._limits.max_body_bytes >> 20} MB; send fewer images, or smaller"
        )

    def take(self, num_bytes: int, held: "_Held") -> None:
        """Count bytes that come into memory.

        Where all bodies together are too large, the one that began last is given up, so that the others arrive.

        Args:
            num_bytes: that come.
            held: the request that they are of.

        Raises:
            ServingError: there is no other request to be given up.
        """
        while self._num_bytes + num_bytes > self._limits.max_buffered_bytes:
            youngest = next(reversed(self._arriving), held)
            if youngest is held:
                raise busy()
            del self._arriving[youngest]
            youngest.give_up()
        self._num_bytes += num_bytes

    def give_back(self, num_bytes: int) -> None:
        """Count bytes that leave the memory."""
        self._num_bytes -= num_bytes

    async def _receive(self, request: Request, held: "_Held") -> bytearray:
        body = held.body
        self._arriving[held] = None
        try:
            async for chunk in request.stream():
                if len(body) + len(chunk) > self._limits.max_body_bytes:
                    raise self.body_too_large()
                held.take(len(chunk))
                body += chunk
        finally:
            self._arriving.pop(held, None)
        return body

    def _decompress(self, data: bytearray, encoding: str, held: "_Held") -> bytearray:
        if encoding not in DECOMPRESS_BITS:
            raise ServingError(415, "unsupported_encoding", "Content-Encoding: expected identity, gzip or deflate")
        decompressor = zlib.decompressobj(DECOMPRESS_BITS[encoding])
        try:
            body = decompressor.decompress(data, self._limits.max_body_bytes + 1)
        except zlib.error:
            raise bad_request(f"the body is no {encoding} data") from None
        if len(body) > self._limits.max_body_bytes:
            raise self.body_too_large()
        if not decompressor.eof:
            raise bad_request(f"the body is cut short: the {encoding} data has no end")
        held.take(len(body))
        data.clear()
        return bytearray(body)


class _Held:
    """The bytes that one request holds."""

    def __init__(self, bodies: Bodies):
        self.body = bytearray()
        self._bodies, self._num_bytes, self._is_given_up = bodies, 0, False

    def take(self, num_bytes: int) -> None:
        if self._is_given_up:
            raise busy()
        self._bodies.take(num_bytes, self)
        self._num_bytes += num_bytes

    def give_up(self) -> None:
        """Free what has arrived; the request is refused when more arrives."""
        self._is_given_up = True
        self.body.clear()
        self.release()

    def release(self) -> None:
        self._bodies.give_back(self._num_bytes)
        self._num_bytes = 0


class _InMemoryParser(MultiPartParser):
    spool_max_size = 1 << 40  # nothing is written to the disk: the body is in memory anyway


async def files_of_form(request: Request, body: bytearray, max_files: int) -> list[tuple[str, bytes]]:
    """Parse multipart/form-data: (file name, content) of every file; `body` is empty afterwards.

    Raises:
        ServingError: the form is damaged, has too many files, or fields that are no files.
    """

    async def stream():  # in pieces, since the parser copies what it is given
        for start in range(0, len(body), FORM_BLOCK):
            yield bytes(body[start : start + FORM_BLOCK])
        body.clear()

    parser = _InMemoryParser(request.headers, stream(), max_files=max_files, max_fields=max_files)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise too_large(f"more than {max_files} images in one request; send several requests") from None
        raise bad_request("the form cannot be read as multipart/form-data") from None
    except Exception:  # of the parser: a boundary, a header or an encoding that it does not know
        raise bad_request("the form cannot be read as multipart/form-data") from None
    files = []
    try:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                raise bad_request("the form has a field that is no file; top_k and model go into the query")
            file_name = (value.filename or name).encode("utf-8", "replace").decode()  # JSON may hold what UTF-8 cannot
            files.append((file_name, await value.read()))
    finally:
        await form.close()
    if not files:
        raise bad_request("the form has no file; with curl: -F file=@photo.jpg")
    return files
