"""The client of the service: addresses that it refuses, attempts that it makes, files that it sends."""

import socket

import pytest
from PIL import Image

from common.errors import ServiceError, UsageError
from deploy.serving import client
from deploy.serving.client import Client, find_files, read_token

from .fake_service import MAX_BODY, FakeService


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host:99999", "http://host:x"])
def test_an_address_that_cannot_be_asked_is_refused(url):
    with pytest.raises(UsageError, match="expected an address such as"):
        Client(url)


@pytest.mark.parametrize("attempts", [1, 3])
def test_pauses_are_between_attempts_and_not_after_the_last(monkeypatch, attempts):
    pauses = []
    monkeypatch.setattr(client.time, "sleep", pauses.append)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ServiceError, match=f"no answer after {attempts} attempts"):
        Client(f"http://127.0.0.1:{port}", attempts=attempts).model()
    assert len(pauses) == attempts - 1


def test_one_file_that_is_empty_or_too_large_does_not_end_the_others(tmp_path):
    service = FakeService(num_late=1)
    paths = [tmp_path / name for name in ("good.jpg", "empty.jpg", "large.jpg", "late.jpg")]
    for path, size in zip(paths, (0, None, MAX_BODY, 0), strict=True):
        path.write_bytes(b"" if size is None else b"\xff\xd8" + bytes(size))
    try:
        with Client(service.url) as sender:
            records = list(sender.predict_files([str(path) for path in paths], num_requests=1))
    finally:
        service.close()
    assert [record.get("error") for record in records] == [None, "the file is empty", "the body is too large", None]
    assert service.num_late == 0  # an answer that came too late was asked for again


def test_images_of_a_folder_are_those_that_infer_finds(tmp_path, capsys):
    names = ["a.jfif", "b.webp", "c.PNG", "d/e.jpg"]
    (tmp_path / "d").mkdir()
    for name in names:
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "f.heic").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    assert find_files([str(tmp_path)]) == [str(tmp_path / name) for name in names]
    assert "1 .heic file is not read" in capsys.readouterr().err


def test_the_token_of_a_file(tmp_path):
    """The file may begin with the mark that editors of Windows write; no header holds letters beyond ASCII."""
    file = tmp_path / "token"
    file.write_text("\ufefftoken-of-all\nanother\n", "utf-8")
    assert (read_token(str(file)), read_token("")) == ("token-of-all", "")
    for text in ("", "tökens"):
        file.write_text(text, "utf-8")
        with pytest.raises(UsageError, match="no token in it"):
            read_token(str(file))
