"""What is opened: regular files and links to them; a pipe, a socket, a device and a folder are refused at once."""

import os
import socket
import stat

import pytest

from common.files import sha256_of_file
from common.regular_files import check_regular, open_regular, read_regular


def make_special(folder) -> dict:
    """A path of each kind of special file, by the words of its message."""
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    (folder / "folder").mkdir()
    return {
        "named pipe": folder / "pipe",
        "named pipe, not": folder / "link",
        "socket": folder / "socket",
        "device": "/dev/zero",
        "directory": folder / "folder",
    }


@pytest.mark.parametrize("read", [open_regular, check_regular, read_regular, sha256_of_file])
def test_special_files_are_refused_without_waiting(read, tmp_path):
    for words, path in make_special(tmp_path).items():
        with pytest.raises(OSError) as caught:
            read(path)
        assert words in caught.value.strerror.lower() and caught.value.filename == str(path)


def test_regular_files_and_links_to_them_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"x\xff")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        assert read_regular(tmp_path / name) == b"x\xff"
        with open_regular(tmp_path / name, "r", encoding="utf-8", errors="surrogateescape") as file:
            assert file.read() == "x\udcff"
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "missing")


def test_a_file_that_becomes_a_pipe_after_the_check_is_refused(tmp_path, monkeypatch):
    """The descriptor is opened without waiting and checked again."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a").touch()
    regular = os.stat(tmp_path / "a")
    monkeypatch.setattr(os, "stat", lambda path, **_: regular)
    assert stat.S_ISREG(os.stat(tmp_path / "pipe").st_mode)
    with pytest.raises(OSError, match="named pipe"):
        open_regular(tmp_path / "pipe")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(OSError, match="1,099,511,627,776 bytes, and at most 1,000"):
        read_regular(path, 1000)
    os.truncate(path, 1001)
    with pytest.raises(OSError, match="1,001 bytes"):
        read_regular(path, 1000)
    os.truncate(path, 1000)
    assert len(read_regular(path, 1000)) == 1000
