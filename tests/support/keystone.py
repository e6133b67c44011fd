"""A real OpenStack Keystone for tests: installed once into a cache, configured once, started in about two seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.venvs import cache, interpreter

VERSION = "30.0.0"
SERVER = Path(__file__).with_name("keystone_server.py")
DOMAIN = {"id": "default"}
PASSWORD = "adminpw"
"""Of the user admin in the project admin."""


class Keystone:
    """A server on a copy of the configured template, and what tests do with it. A user's password is the name and "pw"."""

    def __init__(self, python: Path, template: Path | None, *, expiration: int = 3600) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sr-keystone-", dir="/tmp"))
        if template is not None:
            shutil.copytree(template, self.directory, dirs_exist_ok=True)
        self.port = 0
        self.expiration = expiration
        self.python = python
        self._process: subprocess.Popen[str] | None = None
        self._ids: dict[tuple[str, str], str] = {}
        self._token = ""

    @property
    def url(self) -> str:
        """The address of API v3."""
        return f"http://127.0.0.1:{self.port}/v3"

    def start(self) -> Keystone:
        """Serve, at the same port as before."""
        command = [
            str(self.python),
            "-P",
            "-W",
            "ignore",
            str(SERVER),
            str(self.directory),
            str(self.port),
            str(self.expiration),
        ]
        with (self.directory / "stderr").open("a") as stderr:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True)
        assert self._process.stdout
        port = self._process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"Keystone did not start: {(self.directory / 'stderr').read_text()[-2000:]}")
        self.port = int(port)
        return self

    def stop(self) -> None:
        """Be away."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def close(self) -> None:
        """Be gone."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- as the administrator

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """A request with the administrator's token, which must succeed."""
        self._token = self._token or self.token("admin", "admin", password=PASSWORD)
        reply = httpx.request(method, self.url + path, json=body, headers={"X-Auth-Token": self._token, **headers}, timeout=30)
        reply.raise_for_status()
        return reply

    def project(self, name: str) -> str:
        """Id of the project, made when it is not there."""
        return self._ensure("project", name, domain_id="default")

    def role(self, name: str) -> str:
        """Id of the role, made when it is not there."""
        return self._ensure("role", name)

    def user(self, name: str, *grants: tuple[str, str]) -> str:
        """Id of the user, made when it is not there, with (project, role) granted."""
        user = self._ensure("user", name, domain_id="default", password=f"{name}pw")
        for project, role in grants:
            self.call("PUT", f"/projects/{self.project(project)}/users/{user}/roles/{self.role(role)}")
        return user

    def endpoint(self, kind: str, url: str, region: str = "RegionOne") -> None:
        """Let the catalog of every token name the service; ``$(project_id)s`` in the URL is filled in."""
        service = self._ensure("service", kind, type=kind)
        if region != "RegionOne":
            self.call("POST", "/regions", {"region": {"id": region}})
        for interface in ("public", "internal", "admin"):
            options = {"service_id": service, "interface": interface, "url": url, "region_id": region}
            self.call("POST", "/endpoints", {"endpoint": options})

    def forget_endpoint(self, kind: str) -> None:
        """Take what ``endpoint`` named out of the catalog again."""
        service = self._ensure("service", kind, type=kind)
        for endpoint in self.call("GET", f"/endpoints?service_id={service}").json()["endpoints"]:
            self.call("DELETE", f"/endpoints/{endpoint['id']}")

    def revoke(self, token: str) -> None:
        """Make a token worthless before its time."""
        self.call("DELETE", "/auth/tokens", **{"X-Subject-Token": token})

    # --- as anybody

    def token(self, user: str, project: str | None, *, password: str | None = None) -> str:
        """A token of the user, for the project or for nothing."""
        who = {"name": user, "domain": DOMAIN, "password": password or f"{user}pw"}
        body: dict[str, Any] = {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}}}
        body["auth"]["scope"] = {"project": {"name": project, "domain": DOMAIN}} if project else "unscoped"
        reply = httpx.post(f"{self.url}/auth/tokens", json=body, timeout=30)
        reply.raise_for_status()
        return str(reply.headers["X-Subject-Token"])

    def environment(self, user: str, project: str) -> dict[str, str]:
        """What OpenStack's clients read to be this user."""
        return {
            "OS_AUTH_URL": self.url,
            "OS_IDENTITY_API_VERSION": "3",
            "OS_USERNAME": user,
            "OS_PASSWORD": PASSWORD if user == "admin" else f"{user}pw",
            "OS_PROJECT_NAME": project,
            "OS_USER_DOMAIN_ID": "default",
            "OS_PROJECT_DOMAIN_ID": "default",
            "OS_REGION_NAME": "RegionOne",
        }

    def _ensure(self, noun: str, name: str, **fields: Any) -> str:
        if (noun, name) not in self._ids:
            found = self.call("GET", f"/{noun}s?name={name}").json()[f"{noun}s"]
            made = found[0] if found else self.call("POST", f"/{noun}s", {noun: {"name": name, **fields}}).json()[noun]
            self._ids[noun, name] = str(made["id"])
        return self._ids[noun, name]


def template() -> tuple[Path, Path]:
    """Keystone's interpreter, and a configured directory to copy. Both are made on first use."""
    python = interpreter(f"keystone-{VERSION}", f"keystone=={VERSION}")
    with cache() as directory:
        ready = directory / f"{python.parent.parent.name}-template"
        if not ready.exists():
            first = Keystone(python, None).start()
            first.stop()
            fresh = ready.with_name(f"{ready.name}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(first.directory, fresh)
            fresh.rename(ready)
            first.close()
    return python, ready


@pytest.fixture(scope="session")
def keystone() -> Iterator[Keystone]:
    """One server for each worker of the test run."""
    try:
        python, ready = template()
    except (OSError, RuntimeError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"Keystone cannot be installed: {error}")
    server = Keystone(python, ready)
    try:
        yield server.start()
    finally:
        server.close()
