"""Holds the folder of downloaded weights to its promises: once, whole, checked, and explained where it cannot be."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.download import Patience
from common.errors import CheckpointError, DiskError, DownloadError, UsageError
from models import weights_cache
from models.weights_cache import PublicFile, fetch
from tests.loopback import Body, Cut, Server, Status, loopback_server

ROOT = Path(__file__).parent.parent.parent
CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
GIT = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
QUICK = Patience(attempts=2, pause_seconds=0.001, timeout_seconds=5)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    for name in (weights_cache.MIRROR, weights_cache.OFFLINE):
        monkeypatch.delenv(name, raising=False)
    with loopback_server() as server:
        server.files["/weights/a.pth"] = CONTENT
        yield server


def public_file(server: Server, checksum: str = f"sha256:{SHA256}", num_bytes: int | None = None) -> PublicFile:
    return PublicFile(f"{server.url}/weights/a.pth", checksum, num_bytes, least_bytes=len(CONTENT) // 2)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("checksum", [f"sha256:{SHA256}", f"sha256:{SHA256[:8]}", f"md5:{MD5}", f"git:{GIT}", ""])
def test_a_file_is_downloaded_once_and_checked_each_time(server, tmp_path, checksum):
    file = public_file(server, checksum, len(CONTENT))
    assert fetch(file, str(tmp_path)) == fetch(file, str(tmp_path)) == tmp_path / "a.pth"
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert len(server.requests) == 1
    is_noted = not checksum.startswith("git") and checksum != f"sha256:{SHA256}"
    assert names(tmp_path) == [".a.pth.lock", "a.pth", *["a.pth.sha256"] * is_noted]
    if is_noted:
        assert (tmp_path / "a.pth.sha256").read_text() == f"{SHA256}  a.pth\n"


@pytest.mark.parametrize(
    ("checksum", "expected"),
    [
        ("sha256:" + 64 * "0", f"expected the checksum sha256:{64 * '0'}, found sha256:{SHA256}"),
        ("sha256:00000000", f"expected the checksum sha256:00000000, found sha256:{SHA256}"),
        ("md5:" + 32 * "0", f"expected the checksum md5:{32 * '0'}, found md5:{MD5}"),
        ("git:" + 40 * "0", f"expected the checksum git:{40 * '0'}, found git:{GIT}"),
    ],
)
def test_other_content_is_refused_with_both_checksums_and_moved_aside(server, tmp_path, checksum, expected):
    with pytest.raises(
        CheckpointError, match=rf"refused: .*a.pth.part is not what {server.url}/weights/a.pth was"
    ) as error:
        fetch(public_file(server, checksum), str(tmp_path))
    assert expected in str(error.value) and "It is now a.pth.refused there" in str(error.value)
    assert (tmp_path / "a.pth.refused").read_bytes() == CONTENT
    assert not (tmp_path / "a.pth").exists() and not (tmp_path / "a.pth.sha256").exists()


def test_after_wrong_bytes_the_next_call_downloads_anew(server, tmp_path):
    server.plan = [Body(CONTENT[::-1])]
    with pytest.raises(CheckpointError):
        fetch(public_file(server), str(tmp_path))
    assert fetch(public_file(server), str(tmp_path)).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("size", "expected"),
    [(None, "expected at least 51,200 bytes, found 120"), (102_400, "expected 102,400 bytes, found 120")],
)
def test_a_page_in_place_of_the_file_is_named(server, tmp_path, size, expected):
    server.plan = [Body(b"<!DOCTYPE html><html>log in".ljust(120))]
    with pytest.raises(CheckpointError, match=f"{expected}; it is a page of HTML"):
        fetch(public_file(server, "", size), str(tmp_path))
    assert not (tmp_path / "a.pth.sha256").exists()


def test_a_file_whose_checksum_was_noted_may_not_change(server, tmp_path):
    file = public_file(server, "")
    fetch(file, str(tmp_path))
    (tmp_path / "a.pth").write_bytes(CONTENT[::-1])
    found = hashlib.sha256(CONTENT[::-1]).hexdigest()
    with pytest.raises(CheckpointError, match=rf"sha256:{SHA256}, which a.pth.sha256 has .*, found sha256:{found}"):
        fetch(file, str(tmp_path))
    server.plan = [Body(CONTENT[::-1])]  # nor may the server's
    with pytest.raises(CheckpointError, match=r"which a\.pth\.sha256 has"):
        fetch(file, str(tmp_path))
    assert fetch(file, str(tmp_path)).read_bytes() == CONTENT


def test_a_cut_download_is_continued_by_the_next_call(server, tmp_path):
    server.plan = [Cut(50_000), Status(404)]
    with pytest.raises(DownloadError):
        fetch(public_file(server), str(tmp_path), patience=QUICK)
    assert names(tmp_path) == [".a.pth.lock", "a.pth.part", "a.pth.part.json"]
    fetch(public_file(server), str(tmp_path))
    assert server.requests[-1] == ("/weights/a.pth", "bytes=50000-")
    assert names(tmp_path) == [".a.pth.lock", "a.pth"]


def test_two_processes_at_once_download_once(server, tmp_path):
    gate = tmp_path / "gate"
    server.plan = [Cut(1000)]  # then the first process waits with the lock in its hand
    program = (
        "import sys, time, pathlib; from common import download; from models.weights_cache import PublicFile, fetch\n"
        "def wait(seconds):\n"
        "    while not pathlib.Path(sys.argv[3]).exists(): time_sleep(0.01)\n"
        "time_sleep = time.sleep; download.time.sleep = wait\n"
        f"print(fetch(PublicFile(sys.argv[1], 'sha256:{SHA256}', None, {len(CONTENT)}), sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, f"{server.url}/weights/a.pth", str(tmp_path / "weights"), str(gate)]
    pipes = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first:
        assert server.has_request.wait(20)
        with subprocess.Popen(command, **pipes) as second:
            assert second.stderr.readline() == "another process downloads a.pth: waiting for it\n"
            gate.touch()
            paths = [process.communicate(timeout=20)[0] for process in (first, second)]
    assert paths == [f"{tmp_path / 'weights' / 'a.pth'}\n"] * 2
    assert [asked for _, asked in server.requests] == [None, "bytes=1000-"]


# --- Mirrors, copies, no network --------------------------------------------------------------------------------------


def test_a_mirror_has_the_files_under_their_names(server, tmp_path, monkeypatch):
    monkeypatch.setenv(weights_cache.MIRROR, f"{server.url}/weights/")
    file = public_file(server)._replace(url="https://server.example/models/a.pth")
    assert fetch(file, str(tmp_path)).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "mirror", ["mirror.example", "ftp://a.example", "file:///etc", "http://", "http://[x", "http://a b", "http://ä"]
)
def test_a_mirror_that_is_no_address_is_refused(server, tmp_path, monkeypatch, mirror):
    monkeypatch.setenv(weights_cache.MIRROR, mirror)
    with pytest.raises(UsageError, match=r"PELEENET_WEIGHTS_MIRROR=.*: expected an address such as https:"):
        fetch(public_file(server), str(tmp_path))


def test_a_folder_of_copies_is_used_where_it_is(server, tmp_path, monkeypatch):
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setenv(weights_cache.OFFLINE, str(copies))
    monkeypatch.setenv("HOME", "/nonexistent")
    (copies / "a.pth").write_bytes(CONTENT)
    assert fetch(public_file(server)) == copies / "a.pth"
    assert names(copies) == ["a.pth"] and not server.requests
    (copies / "a.pth").write_bytes(CONTENT[::-1])
    with pytest.raises(CheckpointError, match=f"refused: {copies}/a.pth is not what"):
        fetch(public_file(server))
    assert names(copies) == ["a.pth"]  # a folder of the user: nothing is moved


def test_what_is_not_in_the_folder_of_copies_is_downloaded(server, tmp_path, monkeypatch):
    monkeypatch.setenv(weights_cache.OFFLINE, str(tmp_path))
    assert fetch(public_file(server), str(tmp_path / "weights")).read_bytes() == CONTENT


def test_a_folder_of_copies_that_is_missing_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.setenv(weights_cache.OFFLINE, str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"PELEENET_WEIGHTS_FOLDER=.*/none: no such folder"):
        fetch(public_file(server), str(tmp_path))


def test_without_network_the_address_and_the_place_are_named(server, tmp_path):
    server.plan = [Status(404)]
    with pytest.raises(DownloadError) as error:
        fetch(public_file(server), str(tmp_path / "weights"), patience=QUICK)
    assert error.value.exit_code == 7
    for words in (
        f"{server.url}/weights/a.pth",
        f"put the file at {tmp_path}/weights/a.pth",
        "PELEENET_WEIGHTS_FOLDER",
    ):
        assert words in str(error.value)


def test_a_file_put_into_the_folder_by_hand_is_checked_and_used(server, tmp_path):
    (tmp_path / "a.pth").write_bytes(CONTENT)
    assert fetch(public_file(server, ""), str(tmp_path)) == tmp_path / "a.pth"
    assert not server.requests
    assert names(tmp_path) == ["a.pth", "a.pth.sha256"]


# --- The folder ------------------------------------------------------------------------------------------------------


def test_the_default_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert weights_cache.default_folder() == Path("/home/someone/.cache/peleenet-paddle/weights")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the standard says to ignore
    assert weights_cache.default_folder() == Path("/home/someone/.cache/peleenet-paddle/weights")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert weights_cache.default_folder() == Path("/cache/peleenet-paddle/weights")


def test_without_a_home_the_flag_is_named(server, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user without an entry in the passwd file
    with pytest.raises(UsageError, match="HOME is not set; name a folder with --weights_dir"):
        fetch(public_file(server))
    with pytest.raises(UsageError, match="--weights_dir ~/weights: there is no such home folder"):
        fetch(public_file(server), "~/weights")
    assert fetch(public_file(server), str(tmp_path)).exists()


def test_a_folder_that_cannot_be_made_is_a_disk_error_that_names_the_flag(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match=rf"{tmp_path}/file/weights, where .*; name another with --weights_dir"):
        fetch(public_file(server), str(tmp_path / "file" / "weights"))
    assert not server.requests


def test_a_folder_that_cannot_be_written_is_named_unless_the_file_is_there(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(DiskError, match="it cannot be written; name another with --weights_dir"):
        fetch(public_file(server), str(tmp_path))
    (tmp_path / "a.pth").write_bytes(CONTENT)

    def fail(*arguments):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(weights_cache, "write_atomically", fail)
    assert fetch(public_file(server, ""), str(tmp_path)) == tmp_path / "a.pth"
    assert "cannot be noted: Read-only file system" in capsys.readouterr().err
