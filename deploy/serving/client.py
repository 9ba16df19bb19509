"""Send image files to a service and print its predictions: `python -m deploy.serving.client URL FILE...`.

The standard library alone, but for folders, in which images are found as infer.py finds them. Requests run side by
side. A service that is busy gets fewer of them at a time, and a request that it refused is sent again after the
seconds that it names.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import sys
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.cli import did_you_mean_path, positive_int, run
from common.errors import DataError, ServiceError, UsageError
from common.printable import print_safely, printable, printable_json
from common.regular_files import read_regular

from ..predictions import failed_prediction

UNREADABLE_STATUSES = {413, 422}  # of one image: it is too large, or damaged
PASSING_STATUSES = {408, 429, 502, 503, 504}  # a later attempt may succeed
MAX_PAUSE_SECONDS = 10.0
MAX_ANSWER_BYTES = 64 << 20
SECONDS_TO_ANSWER = 60.0


class Client:
    """Sends images to one service. Many threads may use it at once; `close`, or the end of `with`, ends it."""

    def __init__(self, url: str, *, token: str = "", attempts: int = 10):
        """Remember the address.

        Args:
            url: of the service, such as http://127.0.0.1:8000; a path before the routes is kept.
            token: sent as `Authorization: Bearer`.
            attempts: of each request, with growing pauses, before it fails.

        Raises:
            UsageError: no address of http or https.
        """
        try:
            parts = urllib.parse.urlsplit(url)
            is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # the port is no number, or too large
            is_good = False
        if not is_good:
            raise UsageError(f"{url}: expected an address such as http://127.0.0.1:8000")
        self._url, self._parts, self._attempts = url, parts, attempts
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._own = threading.local()  # a connection per thread
        self._connections: list[http.client.HTTPConnection] = []
        self._pace = _Pace()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in self._connections:
            connection.close()

    def predict(self, image: bytes, file_name: str = "image", query: dict | None = None) -> dict:
        """Predict the classes of one image file.

        Args:
            image: content of the file.
            file_name: for the record.
            query: `top_k` and `model`.

        Returns:
            The record of infer.py; with `error` where the image is empty, or the service cannot read it or take it.

        Raises:
            ServiceError: no answer after all attempts, or the service refuses the request.
        """
        if not image:  # a request without a body is no request for the service
            return failed_prediction(file_name, "the file is empty")
        path = "/predict" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        status, answer = self._send("POST", path, image, {"Content-Type": "application/octet-stream"})
        if status in UNREADABLE_STATUSES:
            return failed_prediction(file_name, answer.get("error", f"the service refuses the file with {status}"))
        if status != 200:
            raise self._refused(status, answer)
        [record] = answer["predictions"]
        return {**record, "file_name": file_name}

    def predict_files(
        self, paths: Sequence[str], query: dict | None = None, *, num_requests: int = 4
    ) -> Iterator[dict]:
        """Yield the record of each file, in order; at most `num_requests` requests run at the same time.

        Args:
            paths: of image files; one that cannot be read has an `error`.
            query: as of `predict`.
            num_requests: upper limit; a busy service gets fewer.
        """
        with ThreadPoolExecutor(num_requests) as pool:
            pending = deque()
            try:
                for path in paths:
                    pending.append(pool.submit(self._predict_file, path, query))
                    if len(pending) >= 2 * num_requests:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def model(self) -> dict:
        """The card of the model.

        Raises:
            ServiceError: no answer, or another one.
        """
        status, answer = self._send("GET", "/model", b"", {})
        if status != 200:
            raise self._refused(status, answer)
        return answer

    def _refused(self, status: int, answer: dict) -> ServiceError:
        return ServiceError(f"{self._url}: {status}: {printable(answer.get('error', 'no reason given'))}")

    def _predict_file(self, path: str, query: dict | None) -> dict:
        try:
            data = read_regular(path)
        except OSError as error:
            return failed_prediction(path, error.strerror or str(error))
        return self.predict(data, path, query)

    def _send(self, method: str, path: str, body: bytes, headers: dict) -> tuple[int, dict]:
        """Send a request until there is an answer that is not for later."""
        pause, reason = 0.1, ""
        for attempt in range(1, self._attempts + 1):
            self._pace.enter()
            try:
                status, retry_after, answer = self._request(method, path, body, headers)
            except (OSError, http.client.HTTPException, ValueError) as error:
                if connection := getattr(self._own, "connection", None):
                    connection.close()  # the next request opens it again
                status, retry_after, reason = 0, None, getattr(error, "strerror", None) or str(error)
            finally:
                self._pace.leave()
            if status and status not in PASSING_STATUSES:
                self._pace.succeed()
                return status, answer
            if status:
                reason = f"{status}: {printable(answer.get('error', ''))}"
                self._pace.slow_down()
            if attempt == self._attempts:
                break
            seconds = pause if retry_after is None else float(retry_after)
            time.sleep(min(MAX_PAUSE_SECONDS, seconds) * random.uniform(0.5, 1.0))  # not all at the same moment
            pause *= 2
        raise ServiceError(f"{self._url}: no answer after {self._attempts} attempts: {reason}; is the service running?")

    def _request(self, method: str, path: str, body: bytes, headers: dict) -> tuple[int, str | None, dict]:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
            connection = kind(self._parts.hostname, self._parts.port, timeout=SECONDS_TO_ANSWER)
            self._own.connection = connection
            self._connections.append(connection)
        # a service that refuses a body ends the connection while it is sent; its answer can be read all the same
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, self._parts.path.rstrip("/") + path, body or None, {**self._headers, **headers})
        response = connection.getresponse()
        text = response.read(MAX_ANSWER_BYTES + 1)
        if len(text) > MAX_ANSWER_BYTES:
            raise ValueError("the answer is too large")
        retry_after = response.headers.get("Retry-After", "")
        answer = json.loads(text) if "json" in response.headers.get("Content-Type", "") else {}
        is_number = retry_after.isascii() and retry_after.isdecimal()
        return response.status, retry_after if is_number else None, answer if isinstance(answer, dict) else {}


class _Pace:
    """How many requests run at the same time: half as many after a refusal, slowly more after answers."""

    def __init__(self):
        self._changed = threading.Condition()
        self._num_running, self._allowed = 0, 1e6

    def enter(self) -> None:
        """Wait until a request may start."""
        with self._changed:
            while self._num_running >= max(1.0, self._allowed):
                self._changed.wait()
            self._num_running += 1

    def leave(self) -> None:
        """Note the end of a request."""
        with self._changed:
            self._num_running -= 1
            self._changed.notify()

    def slow_down(self) -> None:
        """Note a refusal."""
        with self._changed:
            self._allowed = max(1.0, min(self._allowed, self._num_running + 1) / 2)

    def succeed(self) -> None:
        """Note an answer."""
        with self._changed:
            self._allowed += 1 / max(1.0, self._allowed)
            self._changed.notify()


def find_files(inputs: Iterable[str]) -> list[str]:
    """The files that are named, and the images in folders that are named; what is passed over there is a warning.

    Raises:
        DataError: no such path, or no image in a folder.
    """
    files = []
    for given in map(os.path.expanduser, inputs):
        if os.path.isdir(given):
            from datasets.reading.image_folder import FolderScan, find_images  # need Pillow and numpy

            scan = FolderScan()
            files += find_images(given, scan)
            for remark in scan.remarks:
                print_safely(f"warning: {remark}", sys.stderr)
        elif os.path.exists(given):
            files.append(given)
        else:
            raise DataError(f"{given}: no such file or folder{did_you_mean_path(given)}")
    return files


def read_token(path: str) -> str:
    """The first word of a file of tokens; "" without a file.

    Raises:
        UsageError: the file cannot be read, or has no token of ASCII.
    """
    if not path:
        return ""
    try:
        token = read_regular(Path(path).expanduser(), 1 << 16).decode("utf-8-sig").split()[0]
        token.encode("ascii")
    except (OSError, ValueError, IndexError) as error:
        raise UsageError(f"--token_file {path}: no token in it: {error}") from None
    return token


def create_parser() -> argparse.ArgumentParser:
    """The flags of the program."""
    parser = argparse.ArgumentParser(prog="python -m deploy.serving.client", description=__doc__.splitlines()[0])
    parser.add_argument("url", help="of the service, such as http://127.0.0.1:8000")
    parser.add_argument("inputs", nargs="+", help="image files, and folders of them")
    parser.add_argument("--top_k", type=positive_int, help="number of classes of each image")
    parser.add_argument("--model", help="of a service with several")
    parser.add_argument("--num_requests", type=positive_int, default=4, help="at the same time (%(default)s)")
    parser.add_argument("--attempts", type=positive_int, default=10, help="of each request (%(default)s)")
    parser.add_argument("--token_file", default="", help="its first line is sent to the service")
    return parser


def main(argv: list[str]) -> None:
    """Print one JSON line per image.

    Raises:
        DataError: some images could not be read.
        ServiceError: the service does not answer.
        UsageError: the file of the token cannot be read.
    """
    flags = create_parser().parse_args(argv)
    token = read_token(flags.token_file)
    query = {name: value for name, value in (("top_k", flags.top_k), ("model", flags.model)) if value is not None}
    files, num_failures = find_files(flags.inputs), 0
    with Client(flags.url, token=token, attempts=flags.attempts) as client:
        for record in client.predict_files(files, query, num_requests=flags.num_requests):
            print(printable_json(record), flush=True)
            if "error" in record:
                num_failures += 1
                print_safely(f"error: {record['file_name']}: {record['error']}", sys.stderr)
    if num_failures:
        raise DataError(f"{num_failures} of {len(files)} images could not be read")


if __name__ == "__main__":
    run(main)
