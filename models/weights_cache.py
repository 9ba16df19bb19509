"""The folder of downloaded weights: a file is downloaded once, checked each time it is used, and never half there."""

import contextlib
import hashlib
import os
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from common.errors import CheckpointError, DiskError, DownloadError, UsageError
from common.files import BLOCK_BYTES, disk_errors, fsync_folder, write_atomically
from common.printable import print_safely

if TYPE_CHECKING:
    from common.download import Patience

try:
    import fcntl
except ImportError:  # Windows: two processes that download the same file at once are not kept apart
    fcntl = None

MIRROR = "PELEENET_WEIGHTS_MIRROR"  # address of a folder on a server that has the files, under their names
OFFLINE = "PELEENET_WEIGHTS_FOLDER"  # folder on this machine that has the files, under their names
SHA256_DIGITS = 64


class PublicFile(NamedTuple):
    """A file on a server, and what its publisher says of its content.

    Attributes:
        url: address, https.
        checksum: "sha256:" with all 64 hexadecimal digits or the first ones, "md5:", or "git:" with the name that git
            gives to the content; "" where none is published.
        num_bytes: size; None where none is published.
        least_bytes: size below which no file can hold the weights.
    """

    url: str
    checksum: str
    num_bytes: int | None
    least_bytes: int

    @property
    def name(self) -> str:
        """Name of the file in the folder of weights."""
        return self.url.rpartition("/")[2]

    @property
    def max_bytes(self) -> int:
        """Size above which a transfer is refused."""
        return self.num_bytes or 4 * self.least_bytes  # room for the state of an optimizer

    @property
    def is_pinned(self) -> bool:
        """Whether the published checksum leaves one possible content alone."""
        kind, _, digits = self.checksum.partition(":")
        return kind == "git" or (kind == "sha256" and len(digits) == SHA256_DIGITS)


def fetch(file: PublicFile, weights_dir: str = "", *, patience: "Patience | None" = None) -> Path:
    """Return the path of a checked copy of `file` on this machine; download it if there is none.

    A copy in the folder that the environment variable PELEENET_WEIGHTS_FOLDER names is used where it is. Else it is in
    the folder of weights. Of the processes that ask at once, one downloads and the others wait. The SHA-256 of a file
    whose publisher gives none is noted at the first download, in `<name>.sha256` beside it, and compared afterwards.

    Args:
        file: address and checks.
        weights_dir: folder of weights; "" means ~/.cache/peleenet-paddle/weights.
        patience: when a download gives up.

    Raises:
        DownloadError: the file is not here and cannot be downloaded.
        CheckpointError: the content is not what was published, or noted at the first download.
        UsageError: there is no home folder, or an environment variable cannot be used.
        DiskError: the folder cannot be written.
    """
    if (offline := _offline_folder()) and (copy := offline / file.name).is_file():
        _check(copy, file)
        return copy
    folder = _expanded(weights_dir, "--weights_dir") if weights_dir else default_folder()
    path = folder / file.name
    if path.is_file():  # also in a folder that cannot be written
        _check_or_move_aside(path, file)
        return path
    url = _address(file)
    _make_writable(folder)
    with _locked(folder / f".{file.name}.lock", f"another process downloads {file.name}: waiting for it"):
        if path.is_file():  # it is done
            _check_or_move_aside(path, file)
            return path
        partial = folder / f"{file.name}.part"
        print_safely(f"downloading {url} to {path}", sys.stderr)
        try:
            from common.download import TerminalProgress, download  # with http and ssl; --help does not wait for them

            with TerminalProgress(file.name) as progress:
                download(url, partial, max_bytes=file.max_bytes, patience=patience, progress=progress)
        except DownloadError as error:
            raise DownloadError(f"{error}\n{_without_network(path)}") from None
        _check_or_move_aside(partial, file)
        with disk_errors(path):
            os.replace(partial, path)
            partial.with_name(partial.name + ".json").unlink(missing_ok=True)
            fsync_folder(folder)
    return path


def default_folder() -> Path:
    """The folder of weights where none is named: below $XDG_CACHE_HOME, else ~/.cache.

    Raises:
        UsageError: there is no home folder.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):  # the standard says: ignore it
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            raise UsageError(
                "no home folder, where downloaded weights are kept: HOME is not set; name a folder with --weights_dir"
            )
        cache = os.path.join(home, ".cache")
    return Path(cache) / "peleenet-paddle" / "weights"


def _offline_folder() -> Path | None:
    text = os.environ.get(OFFLINE, "")
    if not text:
        return None
    folder = _expanded(text, OFFLINE)
    if not folder.is_dir():
        raise UsageError(f"{OFFLINE}={text}: no such folder")
    return folder


def _expanded(text: str, place: str) -> Path:
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise UsageError(f"{place} {text}: there is no such home folder; write the path without ~")
    return Path(path)


def _address(file: PublicFile) -> str:
    """The address of `file`, on the mirror if there is one."""
    mirror = os.environ.get(MIRROR, "")
    if not mirror:
        return file.url
    try:
        parts = urllib.parse.urlsplit(mirror)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not mirror.isascii() or not mirror.isprintable() or " " in mirror:
        raise UsageError(f"{MIRROR}={mirror}: expected an address such as https://mirror.example/weights")
    return f"{mirror.rstrip('/')}/{file.name}"


def _without_network(path: Path) -> str:
    """What helps where the network does not."""
    return (
        f"Without network: put the file at {path}, or into a folder that the environment variable {OFFLINE} names. "
        f"{MIRROR} names a mirror, and HTTPS_PROXY a proxy. A training without --pretrained starts from random weights."
    )


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_writable = os.access(folder, os.W_OK | os.X_OK)
        reason = "it cannot be written"
    except OSError as error:
        is_writable, reason = False, error.strerror or str(error)
    if not is_writable:
        raise DiskError(f"{folder}, where downloaded weights are kept: {reason}; name another with --weights_dir")


@contextlib.contextmanager
def _locked(path: Path, message: str) -> Iterator[None]:
    """Hold the lock of the file `path`; print `message` if another process holds it. The file stays."""
    with disk_errors(path):
        lock = open(path, "ab")  # noqa: SIM115 (closed below, which gives the lock up)
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print_safely(message, sys.stderr)
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:  # a network file system without locks
                print_safely(f"{path} cannot be locked: {error.strerror}", sys.stderr)
        yield


# --- The content ----------------------------------------------------------------------------------------------------


class _WrongContent(Exception):
    """The content of a file is not what was published, or noted; the message says both."""


def _check_or_move_aside(path: Path, file: PublicFile) -> None:
    """Raise CheckpointError, and give the file another name, if its content is wrong; note its SHA-256 if it is new."""
    note = path.with_name(f"{file.name}.sha256")
    try:
        sha256 = _compare(path, file, note)
    except _WrongContent as error:
        aside = path.with_name(f"{file.name}.refused")
        with contextlib.suppress(OSError):
            os.replace(path, aside)
        raise CheckpointError(
            f"refused: {path} is not what {file.url} was: {error}\nIt is now {aside.name} there. Run the command again "
            "to download it anew. If it differs again, the way to the server changes it, or the publisher did"
        ) from None
    if not file.is_pinned and not note.exists():
        try:
            write_atomically(note, f"{sha256}  {file.name}\n")
        except OSError as error:
            print_safely(f"the checksum of {path} cannot be noted: {error.strerror}", sys.stderr)


def _check(path: Path, file: PublicFile) -> None:
    """Raise CheckpointError if the content of a file of the user is wrong; the file stays as it is."""
    try:
        _compare(path, file, path.with_name(f"{file.name}.sha256"))
    except _WrongContent as error:
        raise CheckpointError(f"refused: {path} is not what {file.url} was: {error}") from None


def _compare(path: Path, file: PublicFile, note: Path) -> str:
    """The SHA-256 of `path`, after a comparison with all that is known of the file."""
    try:
        num_bytes = path.stat().st_size
        if file.num_bytes not in (None, num_bytes):
            raise _WrongContent(f"expected {file.num_bytes:,} bytes, found {num_bytes:,}{_looks_like_page(path)}")
        if num_bytes < file.least_bytes:
            raise _WrongContent(
                f"expected at least {file.least_bytes:,} bytes, found {num_bytes:,}{_looks_like_page(path)}"
            )
        sha256, published = _digests(path, file.checksum.partition(":")[0], num_bytes)
        noted = note.read_text(encoding="utf-8", errors="replace").split()[:1] if note.exists() else []
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    kind, _, digits = file.checksum.partition(":")
    if not published.startswith(digits):
        raise _WrongContent(f"expected the checksum {kind}:{digits}, found {kind}:{published}")
    if noted and noted != [sha256]:
        raise _WrongContent(
            f"expected the checksum sha256:{noted[0]}, which {note.name} has from the first download, found "
            f"sha256:{sha256}"
        )
    return sha256


def _digests(path: Path, kind: str, num_bytes: int) -> tuple[str, str]:
    """The SHA-256 of a file, and the checksum that its publisher gives."""
    sha256 = hashlib.sha256()
    other = None
    if kind == "md5":
        other = hashlib.md5(usedforsecurity=False)
    elif kind == "git":
        other = hashlib.sha1(b"blob %d\0" % num_bytes, usedforsecurity=False)
    with open(path, "rb") as opened:
        while block := opened.read(BLOCK_BYTES):
            sha256.update(block)
            if other:
                other.update(block)
    return sha256.hexdigest(), (other or sha256).hexdigest()


def _looks_like_page(path: Path) -> str:
    """A hint where the server of a hotel or a company sent its own page."""
    with open(path, "rb") as file:
        start = file.read(200).lstrip().lower()
    return "; it is a page of HTML: a login page of the network?" if start.startswith((b"<!doctype", b"<html")) else ""
