"""Holds the download of a file to its promises, against a server on loopback that misbehaves."""

import errno
import json
import socket
from pathlib import Path

import pytest

from common.download import Patience, TerminalProgress, download
from common.errors import DiskError, DownloadError
from tests.loopback import Body, Chunked, Cut, NoRanges, Server, Silent, Status, WrongRange, loopback_server

CONTENT = bytes(range(256)) * 4000  # a megabyte, so that a transfer has several blocks
QUICK = Patience(attempts=3, pause_seconds=0.001, timeout_seconds=5)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with loopback_server() as server:
        server.files["/a.bin"] = CONTENT
        yield server


def get(
    server: Server, folder: Path, *, max_bytes: int = 2 * len(CONTENT), patience: Patience = QUICK, **others
) -> bytes:
    path = folder / "a.bin.part"
    download(f"{server.url}/a.bin", path, max_bytes=max_bytes, patience=patience, **others)
    return path.read_bytes()


def ranges(server: Server) -> list[str | None]:
    return [asked for _, asked in server.requests]


@pytest.mark.parametrize("plan", [[], [Chunked()]], ids=["with its length", "without"])
def test_a_file_arrives(server, tmp_path, plan):
    server.plan = plan
    assert get(server, tmp_path) == CONTENT
    assert ranges(server) == [None]


def test_a_cut_transfer_is_continued_where_it_broke_off(server, tmp_path):
    server.plan = [Cut(300_000), Cut(100_000)]
    assert get(server, tmp_path) == CONTENT
    assert ranges(server) == [None, "bytes=300000-", "bytes=400000-"]


def test_a_later_call_continues_what_an_earlier_one_has(server, tmp_path):
    server.plan = [Cut(300_000), Status(404)]
    with pytest.raises(DownloadError, match="404"):
        get(server, tmp_path)
    assert get(server, tmp_path) == CONTENT
    assert ranges(server)[-1] == "bytes=300000-"


def test_a_transfer_that_was_whole_is_not_asked_for_again(server, tmp_path):
    get(server, tmp_path)
    assert get(server, tmp_path) == CONTENT
    assert len(server.requests) == 1


def test_a_file_that_changed_meanwhile_begins_anew(server, tmp_path):
    server.plan = [Cut(300_000), Status(404)]
    with pytest.raises(DownloadError):
        get(server, tmp_path)
    server.files["/a.bin"], server.etags["/a.bin"] = CONTENT[::-1], '"2"'
    assert get(server, tmp_path) == CONTENT[::-1]


@pytest.mark.parametrize("step", [NoRanges(), WrongRange()], ids=["ignores ranges", "sends another range"])
def test_a_server_without_ranges_begins_anew(server, tmp_path, step):
    server.plan = [Cut(300_000), step]
    assert get(server, tmp_path) == CONTENT
    assert "bytes=300000-" in ranges(server)


def test_without_a_name_of_the_version_nothing_is_continued(server, tmp_path):
    server.etags["/a.bin"] = ""
    server.plan = [Cut(300_000)]
    assert get(server, tmp_path) == CONTENT
    assert ranges(server) == [None, None]


@pytest.mark.parametrize(
    "note", [b"{", b"[]", b'{"url": 1}', b'{"url": "", "validator": "x", "total": -1}', b"\xff" * 9]
)
def test_a_damaged_note_begins_anew(server, tmp_path, note):
    (tmp_path / "a.bin.part").write_bytes(b"something")
    (tmp_path / "a.bin.part.json").write_bytes(note)
    assert get(server, tmp_path) == CONTENT
    assert ranges(server) == [None]


def test_bytes_of_another_address_are_not_continued(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(b"something")
    note = {"url": f"{server.url}/b.bin", "validator": '"1"', "total": len(CONTENT)}
    (tmp_path / "a.bin.part.json").write_text(json.dumps(note))
    assert get(server, tmp_path) == CONTENT
    assert ranges(server) == [None]


def test_a_range_that_the_server_does_not_have_begins_anew(server, tmp_path):
    server.plan = [Cut(300_000), Status(416)]
    assert get(server, tmp_path) == CONTENT
    assert ranges(server) == [None, "bytes=300000-", None]


@pytest.mark.parametrize("step", [Status(503), Status(429, (("Retry-After", "0"),)), Status(500), Chunked(is_cut=True)])
def test_passing_faults_are_tried_again(server, tmp_path, step):
    server.plan = [step, step]
    assert get(server, tmp_path) == CONTENT
    assert len(server.requests) == 3


def test_a_silent_server_is_left_and_tried_again(server, tmp_path):
    server.plan = [Silent()]
    assert get(server, tmp_path, patience=QUICK._replace(timeout_seconds=0.2)) == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("code", [404, 403, 401, 410])
def test_final_answers_end_it_at_once(server, tmp_path, code):
    server.plan = [Status(code)]
    with pytest.raises(DownloadError, match=rf"cannot download {server.url}/a.bin: the server answers {code}"):
        get(server, tmp_path)
    assert len(server.requests) == 1


def test_it_gives_up_after_the_attempts_without_a_byte(server, tmp_path):
    server.plan = [Cut(1000), *[Status(502)] * 9]
    with pytest.raises(DownloadError, match=r"the server answers 502 .*\(attempts: 4\)"):
        get(server, tmp_path)
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:1000]


def test_a_server_of_few_bytes_per_connection_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr("common.download.MAX_CONNECTIONS", 6)
    server.plan = [Cut(1)] * 50
    with pytest.raises(DownloadError, match=rf"closed the connection after 6 of {len(CONTENT):,} bytes"):
        get(server, tmp_path)


def test_nobody_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/a.bin"
        with pytest.raises(DownloadError, match=rf"cannot download {url}: Connection refused \(attempts: 3\)"):
            download(url, tmp_path / "a", max_bytes=10, patience=QUICK)


def test_an_unknown_host_is_said(tmp_path, monkeypatch):
    def fail(*arguments, **others):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(DownloadError, match="Name or service not known"):
        download("https://server.example/a.bin", tmp_path / "a", max_bytes=10, patience=QUICK)


@pytest.mark.parametrize("plan", [[], [Chunked()]], ids=["announced", "not announced"])
def test_more_bytes_than_the_file_can_have_are_refused(server, tmp_path, plan):
    server.plan = plan
    with pytest.raises(DownloadError, match=r"refused: .* 1,000( bytes|$)"):
        get(server, tmp_path, max_bytes=1000)
    path = tmp_path / "a.bin.part"
    assert not path.exists() or path.stat().st_size <= 1000


def test_a_compressed_answer_is_refused(server, tmp_path):
    server.plan = [Body(b"x", (("Content-Encoding", "gzip"),))]
    with pytest.raises(DownloadError, match="compressed"):
        get(server, tmp_path)


def test_an_answer_without_a_file_is_refused(server, tmp_path):
    server.plan = [Status(204)]
    with pytest.raises(DownloadError, match="answers 204, without a file"):
        get(server, tmp_path)


def test_redirections_are_followed_but_not_to_other_schemes(server, tmp_path):
    server.plan = [Status(302, (("Location", "/b.bin"),))]
    server.files["/b.bin"] = CONTENT
    assert get(server, tmp_path) == CONTENT
    server.plan = [Status(302, (("Location", "ftp://127.0.0.1/b.bin"),))]
    with pytest.raises(DownloadError, match=r"refused: .* redirects to ftp:"):
        download(f"{server.url}/a.bin", tmp_path / "c", max_bytes=10, patience=QUICK)


def test_https_is_never_left_for_http():
    from urllib.request import Request

    from common.download import _NoDowngrade

    with pytest.raises(DownloadError, match="which is not https"):
        _NoDowngrade().redirect_request(Request("https://a.example/x"), None, 302, "", {}, "http://a.example/x")


def test_a_full_disk_is_a_disk_error_and_not_tried_again(server, tmp_path, monkeypatch):
    class FullFile:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

    monkeypatch.setattr("common.download.open", lambda *arguments: FullFile(), raising=False)
    with pytest.raises(DiskError, match=r"cannot write .*a.bin.part: No space left on device"):
        get(server, tmp_path)
    assert len(server.requests) == 1


def test_progress_counts_to_the_end(server, tmp_path):
    server.plan = [Cut(300_000)]
    seen = []
    get(server, tmp_path, progress=lambda num_bytes, total: seen.append((num_bytes, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and seen == sorted(seen)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_shown_on_a_terminal_alone(monkeypatch, capsys, is_terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)
    with TerminalProgress("a.bin") as progress:
        progress(1_500_000, 3_000_000)
        progress(3_000_000, 3_000_000)
    shown = capsys.readouterr().err
    assert shown == ("\ra.bin: 1.5 of 3.0 MB, 50% \ra.bin: 3.0 of 3.0 MB, 100% \n" if is_terminal else "")
