"""Who is at the other end of a loopback connection: what keeps another OS user from running commands as the service."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from strongroom.identity._peer import peer_uid
from support.site import Site

ADOPT = {"instance": {"name": "a", "adopt": {"address": "127.0.0.1", "start_command": ["/bin/true"]}}}
CLIENT = """
import json, sys, urllib.request, urllib.error
request = urllib.request.Request(sys.argv[1], sys.argv[2].encode(), {"Content-Type": "application/json"})
try:
    print(urllib.request.urlopen(request).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


@pytest.fixture
def url(site: Site, free_port: int) -> Iterator[str]:
    """The API behind a real server."""
    server = uvicorn.Server(uvicorn.Config(site.app, host="127.0.0.1", port=free_port, lifespan="off", log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{free_port}"
    server.should_exit = True
    thread.join()


def test_the_services_own_user_may_adopt(site: Site, url: str) -> None:
    reply = httpx.post(f"{url}/v1.0/p/instances", json=ADOPT)
    assert reply.status_code == 200, reply.text
    assert reply.json()["instance"]["runtime"] == "adopted"


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_user_behind_a_proxy_is_unknown(url: str, header: str) -> None:
    assert httpx.post(f"{url}/v1.0/p/instances", json=ADOPT, headers={header: "127.0.0.1"}).status_code == 403


@pytest.mark.root
def test_another_user_of_the_machine_may_not(site: Site, url: str) -> None:
    def as_nobody(path: str, body: object) -> int:
        argv = ["/usr/bin/python3", "-c", CLIENT, f"{url}/v1.0/p{path}", json.dumps(body)]
        done = subprocess.run(argv, user="nobody", cwd="/", capture_output=True, text=True, timeout=30, check=True)
        return int(done.stdout)

    assert as_nobody("/instances", ADOPT) == 403
    assert as_nobody("/instances", {"instance": {"name": "a"}}) == 200
    assert len(site.started) == 1


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("user", [None, pytest.param("nobody", marks=pytest.mark.root)])
def test_the_owner_of_the_other_end(family: socket.AddressFamily, user: str | None) -> None:
    loopback = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.socket(family) as listener:
        listener.bind((loopback, 0))
        listener.listen()
        code = (
            "import socket, sys\n"
            f"s = socket.create_connection(({loopback!r}, {listener.getsockname()[1]}))\n"
            "sys.stdin.read(1)\ns.close()\nsys.stdin.read()\n"
        )
        argv = [sys.executable if user is None else "/usr/bin/python3", "-c", code]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, user=user, cwd="/") as client:
            assert client.stdin is not None
            accepted, address = listener.accept()
            with accepted:
                ends = (accepted.getsockname()[:2], address[:2])
                expected = pwd.getpwnam(user).pw_uid if user else os.geteuid()
                assert peer_uid(*ends) == expected
                client.stdin.write(b"x")  # it closes: the kernel would now show the socket as one of root
                client.stdin.flush()
                assert accepted.recv(1) == b""
                assert peer_uid(*ends) is None
            client.stdin.close()


def test_invalid_address_has_no_owner() -> None:
    assert peer_uid(("127.0.0.1", 1), ("testclient", 50000)) is None
