"""The API on a real catalog. Flows do not run here (requests write their job and that is that), and the agent is a small
double: the whole service is driven in the end-to-end tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

from strongroom.agent.checks import Check
from strongroom.agent.models import Activation, PlanRequest
from strongroom.api import create_app
from strongroom.artifact import Notice
from strongroom.catalog import Backup, Host, Instance, Job, now, open_catalog
from strongroom.datastores import GALERA_PROGRAMS, DatabaseSpec, UserChange, UserSpec
from strongroom.errors import AlreadyExists, NotFound, StrongroomError
from strongroom.flows import open_site
from strongroom.settings import load
from strongroom.storage import open_store
from support.ends import settle

GB = 1024**3


class AgentDouble:
    """Databases and users of one server, in memory."""

    def __init__(self) -> None:
        self.databases_: dict[str, DatabaseSpec] = {}
        self.users_: dict[tuple[str, str], UserSpec] = {}
        self.root_password: str | None = None
        self.points: list[str] = []
        self.broken: StrongroomError | None = None

    async def __aenter__(self) -> AgentDouble:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        if self.broken:
            raise self.broken

    async def host(self) -> None:
        self._answer()

    async def compare_profile(self, request: PlanRequest) -> list[Notice]:
        self._answer()
        return []

    async def activation(self, server: str) -> Activation:
        self._answer()
        return Activation(isolated=False)

    async def server_checks(self, server: str) -> list[Check]:
        self._answer()
        return [Check(name="server", level="ok", message="it answers")]

    async def databases(self, server: str) -> list[DatabaseSpec]:
        self._answer()
        return list(self.databases_.values())

    async def create_databases(self, server: str, databases: Sequence[DatabaseSpec]) -> None:
        for database in databases:
            if database.name in self.databases_:
                raise AlreadyExists(f"database {database.name} exists")
            self.databases_[database.name] = database

    async def drop_database(self, server: str, name: str) -> None:
        if self.databases_.pop(name, None) is None:
            raise NotFound(f"database {name} cannot be found")

    async def users(self, server: str) -> list[UserSpec]:
        self._answer()
        return list(self.users_.values())

    async def create_users(self, server: str, users: Sequence[UserSpec]) -> None:
        for user in users:
            self.users_[user.name, user.host] = user

    async def drop_user(self, server: str, name: str, host: str) -> None:
        del self.users_[name, host]

    async def change_user(self, server: str, name: str, host: str, change: UserChange) -> None:
        user = self.users_.pop((name, host))
        user = user.model_copy(update=change.model_dump(exclude_none=True))
        self.users_[user.name, user.host] = user

    async def root_enabled(self, server: str) -> bool:
        self._answer()
        return self.root_password is not None

    async def enable_root(self, server: str, password: str) -> str:
        self.root_password = password
        return "root"

    async def disable_root(self, server: str) -> None:
        if self.root_password is None:
            raise NotFound("root is not enabled")
        self.root_password = None

    async def create_restore_point(self, server: str, name: str) -> str:
        self._answer()
        self.points.append(name)
        return "0/5A28"

    async def grant(self, server: str, name: str, host: str, databases: Sequence[str]) -> None:
        user = self.users_[name, host]
        self.users_[name, host] = user.model_copy(update={"databases": [*user.databases, *databases]})

    async def revoke(self, server: str, name: str, host: str, database: str) -> None:
        user = self.users_[name, host]
        if database not in user.databases:
            raise NotFound(f"user {name} has no rights on {database}")
        self.users_[name, host] = user.model_copy(update={"databases": [d for d in user.databases if d != database]})

    async def checks(self, _request: object) -> list[Any]:
        self._answer()
        return [SimpleNamespace(name="tools", level="ok", message="mariadb-backup 10.11.19", remedy="")]


class Site:
    """The API and what is behind it."""

    def __init__(self, place: Path) -> None:
        settings = load(service={"data_dir": place})
        self.agent = AgentDouble()
        agents: Any = {"local": lambda: self.agent}
        self.control = open_site(settings, open_catalog(settings), open_store(settings.storage, settings.store_path), agents)
        self.started: list[str] = []
        self.control.queue.start = lambda job: self.started.append(job.id)
        self.app = create_app(self.control)
        programs = dict.fromkeys(GALERA_PROGRAMS, "/usr/lib/it")
        version = {"datastore": "mariadb", "series": "10.11", "number": "10.11.19", "programs": programs}
        older = {"datastore": "mariadb", "series": "10.6", "number": "10.6.2", "programs": programs}
        view = {
            "hostname": "box",
            "version": "0.1",
            "cores": 2,
            "memory_bytes": 64 * GB,
            "free_bytes": 100 * GB,
            "pool": "127.1.0.0/16",
        }
        with self.control.catalog.write() as session:
            session.add(Host(name="local", view={**view, "jobs_running": 0, "versions": [older, version]}, seen=now()))

    def ask(self, method: str, path: str, body: Any = None, *, project: str = "p", **params: Any) -> httpx.Response:
        content = None if body is None else json.dumps(body)
        return self.send(method, f"/v1.0/{project}{path}", content=content, params=params or None)

    def send(self, method: str, url: str, *, headers: dict[str, str] | None = None, **request: Any) -> httpx.Response:
        """Any request; a body is JSON unless ``headers`` say otherwise."""
        return asyncio.run(self._send(method, url, {"content-type": "application/json"} if headers is None else headers, request))

    async def _send(self, method: str, url: str, headers: dict[str, str], request: dict[str, Any]) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://127.0.0.1:8779") as client:
            return await client.request(method, url, headers=headers, **request)

    def get(self, path: str, **params: Any) -> Any:
        """The body of a GET that must succeed."""
        reply = self.ask("GET", path, **params)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def edit(self, table: Any, key: str, change: Callable[[Any], None]) -> None:
        with self.control.catalog.write() as session:
            change(session.get(table, key))

    def row(self, table: Any, key: str) -> Any:
        with self.control.catalog.read() as session:
            return session.get(table, key)

    def end_jobs(self, failure: dict[str, str] | None = None) -> None:
        with self.control.catalog.write() as session:
            for job in session.query(Job).filter(Job.finished.is_(None)):
                settle(session, job, failure)

    def instance(self, name: str = "mysql1", *, project: str = "p", **options: Any) -> str:
        """Id of a new running instance."""
        reply = self.ask("POST", "/instances", {"instance": {"name": name, **options}}, project=project)
        assert reply.status_code == 200, reply.text
        self.end_jobs()
        key = str(reply.json()["instance"]["id"])

        def up(row: Instance) -> None:
            row.state, row.healthy, row.address, row.port, row.lineage = "running", True, "127.1.0.2", 3306, "L1"
            row.data_bytes = GB // 5

        self.edit(Instance, key, up)
        return key

    def backup(self, instance: str, name: str = "b1", **options: Any) -> str:
        """Id of a new completed backup."""
        reply = self.ask("POST", "/backups", {"backup": {"name": name, "instance": instance, **options}})
        assert reply.status_code == 202, reply.text
        key = str(reply.json()["backup"]["id"])

        def done(row: Backup) -> None:
            row.status, row.lineage, row.data_size, row.location = "COMPLETED", "L1", 3 * GB, f"file:///s/{key}"
            row.started = row.finished = row.created

        self.edit(Backup, key, done)
        self.end_jobs()
        return key


def told(reply: Any, status: int, key: str) -> dict[str, Any]:
    """The fault of a reply, after a look at its shape."""
    assert reply.status_code == status, reply.text
    body = reply.json()
    assert list(body) == [key]
    fault = body[key]
    assert fault["code"] == status
    assert set(fault) == {"code", "message", "remedy", "error_code"}
    assert fault["message"]
    assert reply.headers["x-openstack-request-id"].startswith("req-")
    return dict(fault)
