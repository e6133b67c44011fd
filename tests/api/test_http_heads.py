"""Requests whose head is long, or never ends, on a real connection."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from strongroom.api.http.protocol import MAX_HEAD, HttpProtocol
from support.site import Site


@pytest.fixture
def port(site: Site, free_port: int) -> Iterator[int]:
    config = uvicorn.Config(
        site.app, host="127.0.0.1", port=free_port, http=HttpProtocol, lifespan="off", log_level="critical", loop="uvloop"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield free_port
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX: ", b"GET /", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100])
def test_head_that_does_not_end(port: int, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), 60) as line:
        sent = 0
        with pytest.raises(OSError):
            line.sendall(head)
            while sent < 400 * MAX_HEAD:
                sent += line.send(b"a" * 4096)
        assert sent < 400 * MAX_HEAD


def test_long_head_that_ends_is_answered(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        for _ in range(3):
            assert client.get("/", headers={"X-Long": "a" * 40_000}).status_code == 200
            big = {"instance": {"name": "n" * 900_000}}
            assert client.post("/v1.0/p/instances", json=big).status_code == 400
        for _ in range(300):
            assert client.get("/", headers={"X-Some": "a" * 400}).status_code == 200
