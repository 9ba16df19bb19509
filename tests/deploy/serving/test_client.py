"""The client of the service: addresses that it refuses, and attempts that it makes."""

import socket

import pytest

from common.errors import ServiceError, UsageError
from deploy.serving import client
from deploy.serving.client import Client


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
