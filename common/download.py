"""Download a file by HTTP: continue a transfer that broke off, try again after a pause, count the bytes."""

import contextlib
import http.client
import json
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .errors import DownloadError
from .files import disk_errors, write_atomically

BLOCK_BYTES = 2**18
PASSING_FAULTS = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses that a later attempt may not get
MAX_CONNECTIONS = 100  # of a server that sends a few bytes in each
MAX_PAUSE_SECONDS = 60.0
PROGRESS_SECONDS = 0.2  # between two writings of the progress line

Progress = Callable[[int, int | None], None]  # (bytes received, bytes in all, or None where the server does not say)


class Patience(NamedTuple):
    """How long a download goes on without success."""

    attempts: int = 5  # failures in a row in which not one byte arrived
    pause_seconds: float = 1.0  # before the second attempt; doubled before each further one
    timeout_seconds: float = 30.0  # during which the server sends nothing


class _Interrupted(Exception):
    """The transfer broke off, or has to begin again; a further attempt may succeed."""

    def __init__(self, reason: str, pause_seconds: float | None = None):
        super().__init__(reason)
        self.pause_seconds = pause_seconds  # None: as the patience says


def download(
    url: str, path: Path, *, max_bytes: int, patience: Patience | None = None, progress: Progress | None = None
) -> None:
    """Write what `url` gives to `path`, a partial file that a later call continues.

    The file is flushed to the disk but not checked: whoever wants it under its final name compares a checksum first.
    Beside it `<path>.json` says of which version of which address the bytes are; only those are continued.

    Args:
        url: address, http or https; a redirection from https to http is refused.
        path: partial file; its folder must exist. Only one process may write it.
        max_bytes: number of bytes after which the transfer is refused.
        patience: when to give up.
        progress: called after each block.

    Raises:
        DownloadError: no network, the server has no such file, the file is too large, or the transfer broke off again
            and again; the bytes so far are kept.
        DiskError: the file cannot be written.
    """
    patience, partial, failures = patience or Patience(), _PartialFile(path, url), 0
    for connection in range(1, MAX_CONNECTIONS + 1):
        size_before = partial.size()
        try:
            return _receive(partial, max_bytes, patience.timeout_seconds, progress or _no_progress)
        except urllib.error.HTTPError as error:
            with error:
                reason, pause = f"the server answers {error.code} {error.reason}", _retry_after(error)
            if error.code == 416:  # no such range: what is there is not of this file
                partial.remove()
            elif error.code not in PASSING_FAULTS:
                raise DownloadError(f"cannot download {url}: {reason}") from None
        except (_Interrupted, http.client.HTTPException, OSError) as error:
            reason, pause = _reason(error), getattr(error, "pause_seconds", None)
            if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
                raise DownloadError(f"cannot download {url}: the certificate of the server: {reason}") from None
        failures = 0 if partial.size() > size_before else failures + 1
        if failures >= patience.attempts or connection == MAX_CONNECTIONS:
            break
        if pause is None:
            pause = patience.pause_seconds * 2 ** max(0, failures - 1)
        time.sleep(min(pause, MAX_PAUSE_SECONDS))
    raise DownloadError(f"cannot download {url}: {reason} (attempts: {connection})")


def _reason(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "the server closed the connection before the end of the file"
    inner = getattr(error, "reason", error)
    return str(getattr(inner, "strerror", None) or inner) or type(inner).__name__


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    text = error.headers.get("Retry-After", "") if error.headers else ""
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 6 else None


def _no_progress(num_bytes: int, total: int | None) -> None:
    pass


class _PartialFile:
    """The bytes received so far, and a note beside them which version of which address they are of."""

    def __init__(self, path: Path, url: str):
        self.path, self.url = path, url
        self.note_path = path.with_name(path.name + ".json")

    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def note(self) -> tuple[str, int] | None:
        """(validator, bytes in all) of what is there; None where it cannot be continued."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            note = json.loads(self.note_path.read_bytes())
            validator, total = str(note["validator"]), int(note["total"])
            if note["url"] == self.url and validator and 0 < self.size() <= total:
                return validator, total
        return None

    def begin(self, validator: str, total: int | None) -> None:
        """Forget the bytes so far and note the version that comes."""
        self.remove()
        if validator and total is not None:
            with disk_errors(self.note_path):
                write_atomically(self.note_path, json.dumps({"url": self.url, "validator": validator, "total": total}))

    def remove(self) -> None:
        with disk_errors(self.path):
            self.path.unlink(missing_ok=True)
            self.note_path.unlink(missing_ok=True)


def _receive(partial: _PartialFile, max_bytes: int, timeout_seconds: float, progress: Progress) -> None:
    """Make one connection and receive until the end of the file."""
    request = urllib.request.Request(partial.url)
    request.add_header("User-Agent", "peleenet-paddle")
    request.add_header("Accept-Encoding", "identity")  # the bytes of the file, which are counted and continued
    start, total = 0, None
    if note := partial.note():
        validator, total = note
        start = partial.size()
        if start == total:
            return
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", validator)
    with _OPENER.open(request, timeout=timeout_seconds) as response:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise DownloadError(
                f"cannot download {partial.url}: the server sends it compressed, which was not asked for"
            )
        if response.status == 206 and start:
            if response.headers.get("Content-Range", "").replace(" ", "") != f"bytes{start}-{total - 1}/{total}":
                partial.remove()
                raise _Interrupted("the server answers with another part of the file than asked for", 0)
        elif response.status == 200:
            start, total = 0, response.length
            partial.begin(_validator(response), total)
        else:
            raise DownloadError(f"cannot download {partial.url}: the server answers {response.status}, without a file")
        if total is not None and total > max_bytes:
            raise DownloadError(f"refused: {partial.url} has {total:,} bytes, expected at most {max_bytes:,}")
        _write(partial, response, start, total, max_bytes, progress)


def _write(partial: _PartialFile, response, start: int, total: int | None, max_bytes: int, progress: Progress) -> None:
    """Append the blocks of a response to the partial file, up to `total` bytes."""
    with disk_errors(partial.path):
        file = open(partial.path, "ab" if start else "wb")  # noqa: SIM115 (the errors of the two have different names)
    num_bytes = start
    with file:
        while block := response.read1(BLOCK_BYTES):
            num_bytes += len(block)
            if num_bytes > max_bytes:
                raise DownloadError(f"refused: {partial.url} has more than the {max_bytes:,} bytes expected at most")
            with disk_errors(partial.path):
                file.write(block)
                file.flush()
            progress(num_bytes, total)
        if total is not None and num_bytes < total:
            raise _Interrupted(f"the server closed the connection after {num_bytes:,} of {total:,} bytes")


def _validator(response) -> str:
    """What If-Range names a version of a file by: a strong ETag, else the time of its last change."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Refuses a redirection from https to what anybody on the way can change, and from http to anything but http(s)."""

    def redirect_request(self, request, file, code, message, headers, new_url):
        is_plain = request.full_url.startswith("http:") and new_url.startswith("http:")
        if not is_plain and not new_url.startswith("https:"):
            raise DownloadError(f"refused: {request.full_url} redirects to {new_url}, which is not https")
        return super().redirect_request(request, file, code, message, headers, new_url)


_OPENER = urllib.request.build_opener(_NoDowngrade)


class TerminalProgress:
    """Shows on a terminal, in one line of stderr, how much of a file has arrived; elsewhere it shows nothing."""

    def __init__(self, name: str):
        self.name = name
        self.is_shown = sys.stderr.isatty()
        self.last_shown = 0.0

    def __call__(self, num_bytes: int, total: int | None) -> None:
        now = time.monotonic()
        if self.is_shown and (num_bytes == total or now - self.last_shown >= PROGRESS_SECONDS):
            self.last_shown = now
            part = f" of {total / 1e6:.1f} MB, {num_bytes / total:.0%}" if total else " MB"
            print(f"\r{self.name}: {num_bytes / 1e6:.1f}{part} ", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> "TerminalProgress":
        return self

    def __exit__(self, *exception) -> None:
        if self.is_shown and self.last_shown:
            print(file=sys.stderr)
