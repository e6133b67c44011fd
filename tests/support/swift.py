"""A real OpenStack Swift for tests, with the S3 API: installed once into a cache, started in about a second."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from strongroom.sections import Storage
from support.keystone import Keystone, template
from support.venvs import interpreter

VERSION = "2.38.3"
MIDDLEWARE = "13.0.1"
ADMIN_PASSWORD = "the-admins-secret"
EXPIRATION = 6
"""Seconds."""
SERVER = Path(__file__).with_name("swift_server.py")


class Swift:
    """A server with users of its own (tempauth). ``user`` and ``password`` are the keys of the S3 API, too."""

    user = "test:tester"
    password = "testing"
    _arguments: tuple[str, ...] = ()

    def __init__(self, python: Path) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sr-swift-", dir="/tmp"))
        self.port = 0
        self._python = python
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Swift:
        """Serve, at the same port as before."""
        command = [str(self._python), "-P", "-W", "ignore", str(SERVER), str(self.directory), str(self.port), *self._arguments]
        with (self.directory / "stderr").open("a") as stderr:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True)
        assert self._process.stdout
        port = self._process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"Swift did not start: {(self.directory / 'stderr').read_text()[-2000:]}")
        self.port = int(port)
        return self

    def kill(self) -> None:
        """kill -9, in the middle of what it does. Its tokens are lost with it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def forget_tokens(self) -> None:
        """Let every token that was given out be worth nothing from now on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)

    def close(self) -> None:
        """Be gone."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def url(self) -> str:
        """Where the S3 API and the native API are."""
        return f"http://127.0.0.1:{self.port}"

    def storage(self, account: str = "service", **options: Any) -> Storage:
        """Settings of a store: in the account of ``user``, or in another, of this test's own."""
        return Storage(**{**self._credentials(account), "account": account, "retries": 2, "timeout": 20, **options})

    def config(self, account: str, **options: Any) -> str:
        """The same, for a service's configuration file."""
        storage = self.storage(account, **options)
        values = {name: getattr(storage, name) for name in storage.model_fields_set}
        plain = {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in values.items()}
        return "".join(["[storage]\n", *(f"{name} = {json.dumps(value)}\n" for name, value in plain.items())])

    def listing(self, account: str, container: str) -> list[str]:
        """Names of what is in a container of Swift; none when there is none."""
        with self.in_account(account) as client:
            reply = client.get(f"/{container}")
            assert reply.status_code in (200, 204, 404)
            return reply.text.split() if reply.status_code == 200 else []

    def _credentials(self, account: str) -> dict[str, Any]:
        user, password = (self.user, self.password) if account == "service" else ("admin:admin", ADMIN_PASSWORD)
        where = {"driver": "swift", "auth_version": "1", "auth_url": f"{self.url}/auth/v1.0"}
        return {**where, "username": user, "password": SecretStr(password)}

    def token(self) -> str:
        """A token of somebody who may use every account."""
        return self._authenticated("admin:admin", ADMIN_PASSWORD)["X-Auth-Token"]

    def in_account(self, name: str) -> httpx.Client:
        """A client of any account, without our code."""
        return httpx.Client(base_url=f"{self.url}/v1/{name}", headers={"X-Auth-Token": self.token()}, timeout=30)

    def account(self) -> httpx.Client:
        """A client of the account of ``user``."""
        headers = self._authenticated(self.user, self.password)
        return httpx.Client(base_url=headers["X-Storage-Url"], headers={"X-Auth-Token": headers["X-Auth-Token"]}, timeout=30)

    def _authenticated(self, user: str, password: str) -> httpx.Headers:
        reply = httpx.get(f"{self.url}/auth/v1.0", headers={"X-Storage-User": user, "X-Storage-Pass": password})
        reply.raise_for_status()
        return reply.headers

    def make_container(self, name: str, **metadata: str) -> str:
        """Make a container (for S3: a bucket)."""
        headers = {f"X-Container-{key.replace('_', '-')}": value for key, value in metadata.items()}
        with self.account() as account:
            account.put(f"/{name}", headers=headers).raise_for_status()
        return name


class OpenSwift(Swift):
    """A server that, beside its users, lets in everybody who has no token of its own."""

    _arguments = ("open",)


class KeystoneSwift(Swift):
    """A server whose users are Keystone's. The user of services is strongroom, who may use every account."""

    def __init__(self, python: Path, keystone: Keystone) -> None:
        super().__init__(python)
        self.keystone = keystone
        self._arguments = (keystone.url,)

    def start(self) -> Swift:
        known = self.port
        self.keystone.user("swift", ("service", "admin"))
        self.keystone.user("strongroom", ("service", "member"), ("service", "ResellerAdmin"))
        super().start()
        if not known:
            self.keystone.endpoint("object-store", f"{self.url}/v1/AUTH_$(project_id)s")
        return self

    def _credentials(self, account: str) -> dict[str, Any]:
        user = {"username": "strongroom", "password": SecretStr("strongroompw"), "project_name": "service"}
        return {"driver": "swift", "auth_url": self.keystone.url, **user}

    def token(self) -> str:
        return self.keystone.token("strongroom", "service")


def install() -> Path:
    """The interpreter of Swift's own virtual environment, made on first use (some 20 seconds, needs a package index)."""
    return interpreter(f"swift-{VERSION}", f"swift=={VERSION}", f"keystonemiddleware=={MIDDLEWARE}")


def serving(make: Callable[[Path], Swift]) -> Iterator[Swift]:
    """A server until the test is over; without one when Swift cannot be installed here."""
    try:
        python = install()
    except (OSError, RuntimeError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"Swift cannot be installed: {error}")
    server = make(python)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="session")
def swift() -> Iterator[Swift]:
    """One server for each worker of the test run."""
    yield from serving(Swift)


@pytest.fixture(scope="session")
def open_swift() -> Iterator[Swift]:
    """One server for clients that do not log in anywhere."""
    yield from serving(OpenSwift)


@pytest.fixture
def own_swift() -> Iterator[Swift]:
    """A server of the test's own, to be killed and started again."""
    yield from serving(Swift)


@pytest.fixture(scope="session")
def keystone_swift(keystone: Keystone) -> Iterator[Swift]:
    """One server with the session's Keystone."""
    yield from serving(lambda python: KeystoneSwift(python, keystone))


@pytest.fixture
def short_keystone_swift() -> Iterator[Swift]:
    """A server with a Keystone of its own, whose tokens are good for ``EXPIRATION`` seconds."""
    hasty = Keystone(*template()).start()
    try:
        for server in serving(lambda python: KeystoneSwift(python, hasty)):
            hasty.stop()
            hasty.expiration = EXPIRATION
            hasty.start()
            yield server
    finally:
        hasty.close()


if __name__ == "__main__":
    print(install())
