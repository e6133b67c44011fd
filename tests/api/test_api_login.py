"""The command line and a service that wants to know who asks: users of a file, and of a real Keystone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from strongroom.api import create_app
from strongroom.cli.app import app as command_line
from strongroom.identity import BasicAuthentication, Method, User, edit_users, hash_password
from strongroom.identity._keystone import KeystoneAuthentication
from strongroom.sections import Identity
from support.keystone import Keystone, keystone
from support.site import Site

__all__ = ["keystone"]

PASSWORD = "correct horse"
Serve = Callable[[Method], str]


@pytest.fixture
def serve(site: Site, free_port: int) -> Iterator[Serve]:
    """Serves the site behind a method of authentication; the result is its URL."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(method: Method) -> str:
        app = create_app(site.control, method=method)
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=free_port, lifespan="off", log_level="critical"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        servers.append((server, thread))
        return f"http://127.0.0.1:{free_port}"

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command line in an environment of its own."""
    for name in ("PROJECT", "USERNAME", "PASSWORD_FILE", "URL"):
        monkeypatch.delenv(f"STRONGROOM_{name}", raising=False)

    def invoke(*words: str, **environment: str) -> Result:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            return CliRunner().invoke(command_line, list(words), catch_exceptions=False)

    return invoke


class TestUsersOfAFile:
    @pytest.fixture
    def url(self, serve: Serve, place: Path) -> str:
        file = place / "users.json"
        with edit_users(file) as users:
            users["alice"] = User(password=hash_password(PASSWORD), projects={"shop": "member"})
        return serve(BasicAuthentication(file, attempts=5, window=60))

    @pytest.fixture
    def password(self, tmp_path: Path) -> str:
        path = tmp_path / "password"
        path.write_text(f"{PASSWORD}\n")
        return str(path)

    def test_a_password_from_a_file(self, run: Callable[..., Result], url: str, password: str) -> None:
        known = {"STRONGROOM_URL": url, "STRONGROOM_PROJECT": "shop"}
        result = run("instance", "list", "--username", "alice", "--auth-password-file", password, **known)
        assert result.exit_code == 0, result.stderr
        result = run("backup", "list", STRONGROOM_USERNAME="alice", STRONGROOM_PASSWORD_FILE=password, **known)
        assert result.exit_code == 0, result.stderr

    def test_credentials_are_sent_only_on_request(self, run: Callable[..., Result], url: str) -> None:
        result = run("instance", "list", "--url", url)
        assert result.exit_code == 6
        assert "--username" in result.stderr
        result = run("instance", "list", "--url", url, "--username", "alice")
        assert result.exit_code == 6
        assert "--auth-password-file" in result.stderr, "there is no terminal to ask on"

    def test_errors_name_the_cause(self, run: Callable[..., Result], url: str, password: str, tmp_path: Path) -> None:
        who = ("--url", url, "--username", "alice", "--auth-password-file")
        result = run("instance", "list", *who, password)
        assert (result.exit_code, "no role in project default" in result.stderr, "shop" in result.stderr) == (1, True, True)
        (tmp_path / "wrong").write_text("wrong")
        result = run("instance", "list", *who, str(tmp_path / "wrong"), "--project", "shop")
        assert (result.exit_code, result.stderr) == (6, "Error: the user or the password is wrong\n")
        result = run("instance", "list", *who, str(tmp_path / "nowhere"))
        assert (result.exit_code, "nowhere" in result.stderr) == (2, True)
        result = run("check", *who, password, "--project", "shop")
        assert (result.exit_code, "role admin required" in result.stderr) == (1, True)


class TestUsersOfKeystone:
    @pytest.fixture
    def url(self, serve: Serve, keystone: Keystone) -> str:
        keystone.user("strongroom", ("service", "service"))
        keystone.user("alice", ("shop", "member"))
        own = {"auth_url": keystone.url, "username": "strongroom", "password": SecretStr("strongroompw"), "token_cache": 0}
        return serve(KeystoneAuthentication(Identity.model_validate({"method": "keystone", **own})))

    def test_by_the_environment(self, run: Callable[..., Result], url: str, keystone: Keystone) -> None:
        known = keystone.environment("alice", "shop")
        result = run("strategy", "create", "--container", "c", "--url", url, **known)
        assert result.exit_code == 0, result.stderr
        result = run("strategy", "list", "--url", url, "-f", "json", **known)
        assert keystone.project("shop") in result.stdout, "the project is that of the token"
        result = run("strategy", "list", "--url", url, "--project", "else", **known)
        assert (result.exit_code, "for another project" in result.stderr) == (1, True)

    def test_by_a_cloud(self, run: Callable[..., Result], url: str, keystone: Keystone, tmp_path: Path) -> None:
        (tmp_path / "clouds.yaml").write_text(
            f"""\
clouds:
  west:
    region_name: RegionOne
    auth: {{auth_url: {keystone.url}, username: alice, project_name: shop, user_domain_id: default, project_domain_id: default}}
"""
        )
        (tmp_path / "secure.yaml").write_text("clouds: {west: {auth: {password: alicepw}}}\n")
        files = {"OS_CLIENT_CONFIG_FILE": str(tmp_path / "clouds.yaml")}
        for words, environment in ((["--os-cloud", "west"], {}), ([], {"OS_CLOUD": "west"})):
            result = run("instance", "list", "--url", url, *words, **files, **environment)
            assert result.exit_code == 0, result.stderr
        result = run("instance", "list", "--url", url, "--os-cloud", "east", **files)
        assert (result.exit_code, "no cloud east" in result.stderr) == (2, True)

    @pytest.mark.parametrize(
        ("changes", "code", "words"),
        [
            ({"OS_PASSWORD": "wrong"}, 6, "rejected the user"),
            ({"OS_AUTH_URL": ""}, 6, "OS_AUTH_URL"),
            ({"OS_AUTH_TYPE": "nonsense"}, 2, "nonsense"),
            ({"OS_AUTH_URL": "http://127.0.0.1:1/v3"}, 5, "cannot get a token from Keystone"),
            ({"OS_PASSWORD": ""}, 6, "OS_PASSWORD"),
        ],
    )
    def test_errors_name_the_cause(
        self, run: Callable[..., Result], url: str, keystone: Keystone, changes: dict[str, str], code: int, words: str
    ) -> None:
        result = run("instance", "list", "--url", url, **{**keystone.environment("alice", "shop"), **changes})
        assert (result.exit_code, words in result.stderr) == (code, True), result.stderr

    def test_token_that_expires_meanwhile_is_renewed(self, url: str, keystone: Keystone, monkeypatch: pytest.MonkeyPatch) -> None:
        from strongroom.cli.connection.client import Client
        from strongroom.cli.connection.credentials import Credentials

        for name, value in keystone.environment("alice", "shop").items():
            monkeypatch.setenv(name, value)
        client = Client(url, None, Credentials())
        client.get("instances")
        keystone.revoke(client._http.headers["X-Auth-Token"])
        client.get("instances")
        client.close()

    def test_unreachable_keystone_is_reported_in_a_sentence(
        self, run: Callable[..., Result], url: str, keystone: Keystone
    ) -> None:
        token = keystone.token("alice", "shop")
        with away(keystone):
            reply = httpx.get(f"{url}/v1.0/{keystone.project('shop')}/instances", headers={"X-Auth-Token": token})
        assert reply.status_code == 503
        fault = reply.json()["serviceUnavailable"]
        assert "does not answer" in fault["message"] and "Running jobs are not affected" in fault["remedy"]
        assert httpx.get(f"{url}/v1.0/x/instances").headers["www-authenticate"] == f'Keystone uri="{keystone.url}"'


@contextmanager
def away(keystone: Keystone) -> Iterator[None]:
    keystone.stop()
    try:
        yield
    finally:
        keystone.start()
