"""A service with users of a file, from its start to the end of a user."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from strongroom.identity import User, edit_users, hash_password
from support.service import Service

PASSWORD = "correct horse battery"
ALICE = ("alice", PASSWORD)


@pytest.fixture
def users(place: Path) -> Path:
    path = place / "users.json"
    with edit_users(path) as known:
        known["alice"] = User(password=hash_password(PASSWORD), projects={"shop": "member"})
    return path


def configured(users: Path, service: str = "") -> str:
    return f'[service]\n{service}\n[identity]\nmethod = "basic"\nuser_file = "{users}"\nattempts = 2\n'


def test_a_user_works_and_is_removed(serve: Callable[..., Service], users: Path) -> None:
    service = serve(config=configured(users))
    service.http = httpx.Client(base_url=f"{service.url}/v1.0/shop", timeout=90, auth=ALICE)
    assert service.create("db1", volume={"size": 1})["status"] == "ACTIVE"
    assert service.backup("db1", "monday")["status"] == "COMPLETED"
    service.cli("user-file", "remove", "alice", "--yes", "--file", str(users))
    assert service.http.get("/backups").status_code == 401
    assert PASSWORD not in service.log.read_text()


def test_headers_of_a_configured_proxy_are_used(serve: Callable[..., Service], users: Path) -> None:
    url = serve(config=configured(users, 'proxies = ["127.0.0.1"]')).url
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
    assert httpx.get(url, headers=forwarded).json()["versions"][0]["links"][0]["href"].startswith("https://")
    wrong = [httpx.get(f"{url}/v1.0/shop/flavors", headers=forwarded, auth=("alice", "guess")).status_code for _ in range(3)]
    assert wrong == [401, 401, 413]
    other = {**forwarded, "X-Forwarded-For": "192.0.2.2"}
    assert httpx.get(f"{url}/v1.0/shop/flavors", headers=other, auth=ALICE).status_code == 200


def test_headers_of_other_clients_are_ignored(serve: Callable[..., Service], users: Path) -> None:
    url = serve(config=configured(users)).url
    assert httpx.get(url, headers={"X-Forwarded-Proto": "https"}).json()["versions"][0]["links"][0]["href"].startswith("http://")
    for n in range(3):
        headers = {"X-Forwarded-For": f"192.0.2.{n}"}
        last = httpx.get(f"{url}/v1.0/shop/flavors", headers=headers, auth=("alice", "guess")).status_code
    assert last == 413, "who guesses says to come from somewhere else each time"


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        ('[service]\nhost = "0.0.0.0"\n', 1, "without authentication"),
        ('[identity]\nmethod = "basic"\n', 1, "users.json does not exist"),
        ('[identity]\nmethod = "keystone"\n', 1, "identity.auth_url is not set"),
        ('[identity]\nmethod = "ldap"\n', 2, "identity.method"),
    ],
)
def test_it_does_not_start_open_by_mistake(place: Path, config: str, code: int, said: str) -> None:
    (place / "c.toml").write_text(config)
    command = [sys.executable, "-m", "strongroom", "serve", "--config", str(place / "c.toml"), "--data-dir", str(place / "d")]
    ended = subprocess.run([*command, "--port", "0"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == code
    assert said in ended.stderr and "Traceback" not in ended.stderr
