"""The stock client against a service, in every way in which one may be set up."""

from __future__ import annotations

import socket
import tomllib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from strongroom.identity import User, edit_users, hash_password
from strongroom.sections import Storage
from strongroom.storage import open_store
from support.databases import Database
from support.keystone import keystone
from support.service import Service
from support.stock import Stock, stock
from support.swift import keystone_swift, open_swift

__all__ = ["keystone", "keystone_swift", "open_swift", "stock"]

PROJECT = "shop"
PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Cloud:
    """A service, and the stock client in the environment of one of its users."""

    service: Service
    stock: Stock
    project: str
    storage: str
    """The store, as the configuration file has it, with what else its regions have in common."""

    @property
    def backend(self) -> str:
        """The store as described by a backup strategy."""
        return "swift" if "swift" in self.storage else "directory"

    def remove_manifest(self, container: str, backup: str) -> None:
        """As if a user had deleted it by hand."""
        settings = Storage.model_validate(tomllib.loads(self.storage)["storage"])
        store = open_store(settings.of_project(self.project), settings.path)
        key = f"{container}/{backup}/manifest.json"
        assert store.head(key)
        store.delete([key])
        store.close()

    @contextmanager
    def second_region(self, place: Path, pool: str) -> Iterator[Cloud]:
        """Another service on the same store, with nobody to tell it who may use it: without authentication."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        (place / "two").mkdir(mode=0o711)
        service = Service(place / "two", pool, port, config=self.storage).start()
        try:
            endpoint = f"{service.url}/v1.0/{self.project}"
            service.http = httpx.Client(base_url=endpoint, timeout=90)
            stock = self.stock.with_only(OS_AUTH_TYPE="none", OS_ENDPOINT=endpoint)
            yield Cloud(service, stock, self.project, self.storage)
        finally:
            service.kill()


def section(storage: Storage) -> str:
    """The settings of a store as the configuration file has them."""
    lines = ["[storage]"]
    for name, value in storage.model_dump(exclude_unset=True).items():
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        lines.append(f"{name} = {text}" if isinstance(text, int | float) else f'{name} = "{text}"')
    return "\n".join(lines) + "\n"


Serve = Callable[..., Service]


@pytest.fixture
def none_directory(serve: Serve, stock: Stock) -> Cloud:
    """A service without any configuration."""
    service = serve()
    return _open_to_all(service, stock, f'[storage]\npath = "{service.data_dir / "store"}"\n', {})


@pytest.fixture
def more(request: pytest.FixtureRequest) -> str:
    """The configuration for the database of the test."""
    database: Database | None = request.node.callspec.params.get("database") if hasattr(request.node, "callspec") else None
    return database.config if database else ""


@pytest.fixture
def none_swift(serve: Serve, stock: Stock, open_swift: Any, more: str) -> Cloud:
    """No authentication, neither here nor at Swift."""
    account = f"AUTH_{uuid.uuid4().hex}"
    storage = section(open_swift.storage(account)) + more
    return _open_to_all(
        serve(config=storage), stock, storage, {"OS_OBJECT_STORE_ENDPOINT_OVERRIDE": f"{open_swift.url}/v1/{account}"}
    )


def _open_to_all(service: Service, stock: Stock, storage: str, more: dict[str, str]) -> Cloud:
    service.http = httpx.Client(base_url=f"{service.url}/v1.0/{PROJECT}", timeout=90)
    environment = {"OS_AUTH_TYPE": "none", "OS_ENDPOINT": f"{service.url}/v1.0/{PROJECT}", **more}
    return Cloud(service, stock.with_environment(**environment), PROJECT, storage)


@pytest.fixture
def basic_swift(serve: Serve, stock: Stock, open_swift: Any, place: Path) -> Cloud:
    """Users of a file. Trove's documentation was written as an administrator: only they see where an instance runs."""
    account = f"AUTH_{uuid.uuid4().hex}"
    storage = section(open_swift.storage(account))
    users = place / "users.json"
    with edit_users(users) as known:
        known["alice"] = User(password=hash_password(PASSWORD), projects={PROJECT: "admin"})
    service = serve(config=f'[identity]\nmethod = "basic"\nuser_file = "{users}"\n{storage}')
    service.http = httpx.Client(base_url=f"{service.url}/v1.0/{PROJECT}", timeout=90, auth=("alice", PASSWORD))
    environment = {
        "OS_AUTH_TYPE": "http_basic",
        "OS_ENDPOINT": f"{service.url}/v1.0/{PROJECT}",
        "OS_USERNAME": "alice",
        "OS_PASSWORD": PASSWORD,
        "OS_OBJECT_STORE_ENDPOINT_OVERRIDE": f"{open_swift.url}/v1/{account}",
    }
    return Cloud(service, stock.with_environment(**environment), PROJECT, storage)


@pytest.fixture
def keystone_cloud(serve: Serve, stock: Stock, keystone_swift: Any, free_port: int) -> Cloud:
    """OpenStack: one log-in for the service and for Swift, where each project has an account of its own."""
    keystone = keystone_swift.keystone
    name = f"p-{uuid.uuid4().hex[:8]}"
    project = keystone.project(name)
    keystone.user("alice", (name, "admin"))
    keystone.user("strongroom", ("service", "service"))
    keystone.forget_endpoint("database")
    keystone.endpoint("database", f"http://127.0.0.1:{free_port}/v1.0/$(project_id)s")
    identity = f"""\
[identity]
method = "keystone"
auth_url = "{keystone.url}"
username = "strongroom"
password = "strongroompw"
"""
    storage = section(keystone_swift.storage("project"))
    service = serve(config=identity + storage)
    token = keystone.token("alice", name)
    service.http = httpx.Client(base_url=f"{service.url}/v1.0/{project}", timeout=90, headers={"X-Auth-Token": token})
    return Cloud(service, stock.with_environment(**keystone.environment("alice", name)), project, storage)


@pytest.fixture
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """The one that the parameter names."""
    found: Cloud = request.getfixturevalue(request.param)
    return found
