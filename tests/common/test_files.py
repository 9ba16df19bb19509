"""Holds the writing of files to its promise: whole or not there, with a checksum beside lists."""

import errno
import hashlib
import os
import subprocess

import pytest

from common import files
from common.files import atomic_write, checksum_beside, remove_abandoned, set_aside, write_with_checksum


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def kill_while_writing(path, content: bytes = b"half") -> None:
    """Fork a process that ends inside `atomic_write`, as a kill would end it."""
    if (pid := os.fork()) == 0:
        with atomic_write(path) as file:
            file.write(content)
            file.flush()
            os._exit(0)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("name", ["list.txt", "a\nb.txt", "a\\b.txt"])
def test_the_checksum_beside_a_file_is_one_that_sha256sum_checks(tmp_path, name):
    write_with_checksum(tmp_path / name, "a.jpg 0\n")
    assert checksum_beside(tmp_path / name) == hashlib.sha256(b"a.jpg 0\n").hexdigest()
    done = subprocess.run(["sha256sum", "--check", "--strict", f"{name}.sha256"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_a_full_disk_leaves_the_older_file_and_its_checksum(tmp_path, monkeypatch):
    path = tmp_path / "list.txt"
    write_with_checksum(path, "old\n")
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        write_with_checksum(path, "new\n")
    assert path.read_text() == "old\n" and names(tmp_path)[0] == "list.txt"
    assert checksum_beside(path) in (None, hashlib.sha256(b"old\n").hexdigest())


@pytest.mark.parametrize("stop_before", ["unlink", "replace", "beside"])
def test_a_kill_between_two_steps_leaves_a_whole_file_with_its_own_checksum_or_none(tmp_path, monkeypatch, stop_before):
    path, calls = tmp_path / "list.txt", []

    def stop(*_, **__):
        calls.append(stop_before)
        raise KeyboardInterrupt

    write_with_checksum(path, "old\n")
    if stop_before == "unlink":
        monkeypatch.setattr(files.Path, "unlink", stop)
    elif stop_before == "replace":
        monkeypatch.setattr(files.os, "replace", stop)
    else:
        monkeypatch.setattr(files, "write_atomically", stop)
    with pytest.raises(KeyboardInterrupt):
        write_with_checksum(path, "new\n")
    monkeypatch.undo()
    assert calls and path.read_text() == ("new\n" if stop_before == "beside" else "old\n")
    assert checksum_beside(path) in (None, hashlib.sha256(path.read_bytes()).hexdigest())


def test_the_temporary_files_of_killed_writers_are_removed_and_those_of_living_ones_stay(tmp_path):
    path = tmp_path / "list[1].txt"
    kill_while_writing(path)
    kill_while_writing(tmp_path / "list1.txt")  # the same pattern, if the name were one
    with atomic_write(path) as file:
        file.write(b"whole")
        [removed] = remove_abandoned(path)
    assert removed.name.startswith(".list[1].txt.")
    assert path.read_bytes() == b"whole" and len(names(tmp_path)) == 2


def test_bytes_reach_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    order, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: order.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    monkeypatch.setattr(os, "replace", lambda source, target: (order.append("rename"), replace(source, target)))
    with atomic_write(tmp_path / "a.txt") as file:
        file.write(b"a")
    assert order == [str(files.temporary_path(tmp_path / "a.txt")), "rename", str(tmp_path)]


def test_writing_again_removes_what_a_killed_writer_left(tmp_path):
    kill_while_writing(tmp_path / "list.txt")
    kill_while_writing(tmp_path / "list.txt.sha256")
    write_with_checksum(tmp_path / "list.txt", b"a 0\n")
    assert names(tmp_path) == ["list.txt", "list.txt.sha256"]


def test_without_locks_nothing_is_taken_for_abandoned(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    kill_while_writing(tmp_path / "list.txt")
    assert remove_abandoned(tmp_path / "list.txt") == [] and len(names(tmp_path)) == 1


@pytest.mark.parametrize("content", [b"", b"0" * 63 + b"  list.txt\n", b"<html>", b"0" * 65])
def test_a_damaged_checksum_is_an_error(tmp_path, content):
    (tmp_path / "list.txt.sha256").write_bytes(content)
    with pytest.raises(ValueError, match=r"list.txt.sha256: expected"):
        checksum_beside(tmp_path / "list.txt")


def test_damaged_files_are_set_aside_under_names_of_their_own(tmp_path):
    for number in range(3):
        (tmp_path / "log.txt").write_text(str(number))
        set_aside(tmp_path / "log.txt")
    assert names(tmp_path) == ["log.txt.damaged", "log.txt.damaged-2", "log.txt.damaged-3"]
    assert (tmp_path / "log.txt.damaged").read_text() == "0"
