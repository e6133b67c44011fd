"""A real OpenStack Swift (tempauth and S3 API) for tests: installed once into a cache, started in about a second."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from strongroom.settings import Storage

VERSION = "2.38.3"
SERVER = Path(__file__).with_name("swift_server.py")


@dataclass(frozen=True)
class Swift:
    """A running server. The S3 keys are the tempauth user and its password."""

    port: int
    directory: Path
    user: str = "test:tester"
    password: str = "testing"

    @property
    def url(self) -> str:
        """Where the S3 API and the native API are."""
        return f"http://127.0.0.1:{self.port}"

    def storage(self, account: str = "service", **options: Any) -> Storage:
        """Settings of a store: in the account of ``user``, or in another, of this test's own."""
        user, password = (self.user, self.password) if account == "service" else ("admin:admin", "admin")
        values: dict[str, Any] = {
            "driver": "swift",
            "auth_version": "1",
            "auth_url": f"{self.url}/auth/v1.0",
            "username": user,
            "password": SecretStr(password),
            "account": account,
            "retries": 2,
            "timeout": 20,
        }
        return Storage(**{**values, **options})

    def token(self, user: str = "admin:admin", password: str = "admin") -> str:
        """A token; by default of somebody who may use every account."""
        return self._authenticated(user, password)["X-Auth-Token"]

    def account(self) -> httpx.Client:
        """A client of the account by the native API."""
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


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-400:]}")


def install() -> Path:
    """The interpreter of Swift's own virtual environment, made on first use (some 20 seconds, needs a package index)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "strongroom-tests"
    cache.mkdir(parents=True, exist_ok=True)
    home = cache / f"swift-{VERSION}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            fresh = home.with_name(f"{home.name}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            _run(sys.executable, "-m", "venv", "--without-pip", str(fresh))
            python = str(fresh / "bin" / "python")
            if uv := shutil.which("uv"):
                _run(uv, "pip", "install", "--quiet", "--python", python, f"swift=={VERSION}")
            else:
                _run(python, "-m", "ensurepip")
                _run(python, "-m", "pip", "install", "--quiet", f"swift=={VERSION}")
            fresh.rename(home)
    return home / "bin" / "python"


@pytest.fixture(scope="session")
def swift() -> Iterator[Swift]:
    """One server for each worker of the test run."""
    try:
        python = install()
    except (OSError, RuntimeError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"Swift cannot be installed: {error}")
    directory = Path(tempfile.mkdtemp(prefix="sr-swift-", dir="/tmp"))
    command = [str(python), "-P", "-W", "ignore", str(SERVER), str(directory)]
    with (directory / "stderr").open("w") as stderr:
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert server.stdin and server.stdout
    try:
        port = server.stdout.readline().strip()
        assert port, f"Swift did not start: {(directory / 'stderr').read_text()[-2000:]}"
        yield Swift(int(port), directory)
    finally:
        server.stdin.close()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    print(install())
