"""The agent: jobs, servers and the HTTP API in front of them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import structlog
from fastapi import APIRouter, FastAPI, Query
from fastapi.exceptions import RequestValidationError

from strongroom.agent._host import host_view
from strongroom.agent._jobdir import JobRecord
from strongroom.agent._refusals import answer_defect, answer_misunderstanding, answer_refusal
from strongroom.agent._supervisor import Supervisor
from strongroom.agent.checks import Check, CheckRequest, check_host, check_server
from strongroom.agent.jobs import WORKER, Jobs
from strongroom.agent.models import (
    Activation,
    Canary,
    HostView,
    PlanRequest,
    RootAccount,
    RootState,
    Seed,
    ServerDefinition,
    ServerView,
    Start,
    SumTables,
    Swap,
)
from strongroom.agent.servers import Servers
from strongroom.artifact import Notice
from strongroom.datastores import (
    DatabaseSpec,
    GaleraMember,
    GaleraPosition,
    GaleraView,
    TableSums,
    UserChange,
    UserSpec,
    set_stall_timeout,
)
from strongroom.errors import ConfigurationError, StrongroomError
from strongroom.settings import Settings
from strongroom.system.directories import make_directory
from strongroom.system.locks import take_lock
from strongroom.worker.spec import BackupJob, JobRequest, JobView

log = structlog.get_logger()
LONGEST_WAIT = 60.0
NOTICE = 0.05
"""Seconds between two looks at a job that somebody waits for."""


class Agent:
    """Everything on one database host. ``app`` is its API; ``start`` before it is used, ``stop`` leaves servers and jobs alive.

    ``root`` is the state directory (default: the service's data directory).
    """

    def __init__(self, settings: Settings, *, root: Path | None = None, worker: Sequence[str] = WORKER) -> None:
        self.settings = settings
        set_stall_timeout(settings.agent.stall_timeout)
        self.root = (root or settings.service.data_dir).absolute()
        self.servers = Servers(settings, self.root, job_on=self._job_on)
        self.jobs = Jobs(
            settings,
            self.root / "agent" / "jobs",
            server_of=self.servers.server,
            datastores_here=self.servers.datastores,
            new_data=self.servers.new_data,
            server_lock=self.servers.lock,
            on_end=self._after_job,
            worker=worker,
        )
        self._supervisor = Supervisor(self.servers, self.jobs)
        self.servers.on_due = self._supervisor.wake
        self.on_change: Callable[[], None] = lambda: None
        """Told when a server is seen in another state; from any thread."""
        self.servers.on_change = self._tell_change
        self._lock: int | None = None
        self.app = _application(self)

    def start(self) -> None:
        """Find servers and jobs again, go on with what was cut off, and begin to look after them.

        Raises ConfigurationError when another agent works in the directory.
        """
        try:
            self.root.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"cannot make {self.root.parent}: {error.strerror}", remedy="Give the agent a directory that it may write to."
            ) from None
        make_directory(self.root, mode=0o711)
        make_directory(self.root / "agent", mode=0o711)
        self._lock = take_lock(self.root / "agent" / "lock")
        if self._lock is None:
            raise ConfigurationError(f"another agent works in {self.root}", remedy="Stop it, or use another data directory.")
        self.servers.load()
        self.jobs.load()
        self.servers.resume_swaps()
        self._supervisor.start()

    def stop(self) -> None:
        """Stop looking. Servers and jobs go on, and are found again at the next start."""
        self._supervisor.stop()
        self.jobs.close()
        self.servers.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def delete_server(self, server_id: str) -> None:
        """Cancel what runs on the server, then remove it."""
        self.jobs.end_all(server_id)
        self.servers.delete(server_id)

    def host(self) -> HostView:
        """The host now."""
        return host_view(self.settings, self.jobs.running)

    def put_job(self, job_id: str, request: JobRequest) -> JobView:
        """Start the job, or find it; see ``Jobs.put``."""
        try:
            if isinstance(request.job, BackupJob) and request.job.desync and request.server and not self.jobs.knows(job_id):
                with self.servers.nodes.desynced(request.server, job_id):
                    return self.jobs.put(job_id, request)
            return self.jobs.put(job_id, request)
        finally:
            self._supervisor.wake()

    async def wait_job(self, job_id: str, wait: float, after: int) -> JobView:
        """The job as soon as it has more than ``after`` events or has ended, at the latest after ``wait`` seconds."""
        deadline = time.monotonic() + min(wait, LONGEST_WAIT)
        while True:
            view = await asyncio.to_thread(self.jobs.view, job_id)
            if view.status != "running" or view.events > after or time.monotonic() >= deadline:
                return view
            await asyncio.sleep(NOTICE)

    def _tell_change(self) -> None:
        self.on_change()

    def _job_on(self, server_id: str) -> str | None:
        return self.jobs.running_on(server_id)

    def _after_job(self, record: JobRecord) -> None:
        if record.server is not None:
            self.servers.after_job(record.server)


def create_agent(settings: Settings, *, root: Path | None = None) -> FastAPI:
    """The API of a new agent; its lifespan starts and stops the agent."""
    return Agent(settings, root=root).app


def _application(agent: Agent) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(agent.start)
        try:
            yield
        finally:
            await asyncio.to_thread(agent.stop)

    app = FastAPI(title="Strongroom agent", lifespan=lifespan, openapi_url=None)
    app.add_exception_handler(StrongroomError, answer_refusal)
    app.add_exception_handler(RequestValidationError, answer_misunderstanding)
    app.add_exception_handler(Exception, answer_defect)
    app.include_router(_jobs(agent))
    app.include_router(_servers(agent))
    app.include_router(_nodes(agent))
    app.include_router(_administration(agent))
    return app


def _jobs(agent: Agent) -> APIRouter:
    router = APIRouter()

    @router.put("/jobs/{job_id}")
    def put_job(job_id: str, request: JobRequest) -> JobView:
        return agent.put_job(job_id, request)

    @router.get("/jobs/{job_id}")
    async def get_job(
        job_id: str, wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT)] = 0, after: Annotated[int, Query(ge=0)] = 0
    ) -> JobView:
        return await agent.wait_job(job_id, wait, after)

    @router.get("/jobs")
    def jobs() -> list[JobView]:
        return agent.jobs.views()

    @router.delete("/jobs/{job_id}")
    def cancel_job(job_id: str) -> JobView:
        return agent.jobs.cancel(job_id)

    @router.get("/host")
    def host() -> HostView:
        return agent.host()

    @router.post("/checks")
    def checks(request: CheckRequest) -> list[Check]:
        return check_host(agent.settings, request)

    @router.post("/plan")
    def plan(request: PlanRequest) -> list[Notice]:
        return agent.servers.copies.compare(request)

    return router


def _servers(agent: Agent) -> APIRouter:
    router = APIRouter(prefix="/servers")
    servers = agent.servers

    @router.get("")
    def all_servers() -> list[ServerView]:
        return servers.views()

    @router.put("/{server_id}")
    def put_server(server_id: str, definition: ServerDefinition) -> ServerView:
        return servers.define(server_id, definition)

    @router.get("/{server_id}")
    def get_server(server_id: str) -> ServerView:
        return servers.view(server_id)

    @router.delete("/{server_id}", status_code=204)
    def delete_server(server_id: str) -> None:
        agent.delete_server(server_id)

    @router.post("/{server_id}/start")
    def start(server_id: str, start: Start | None = None) -> ServerView:
        return servers.start(server_id, start or Start())

    @router.post("/{server_id}/stop")
    def stop(server_id: str, kill: bool = False) -> ServerView:
        return servers.stop(server_id, kill=kill)

    @router.post("/{server_id}/restart")
    def restart(server_id: str) -> ServerView:
        return servers.restart(server_id)

    @router.post("/{server_id}/swap")
    def swap(server_id: str, swap: Swap) -> ServerView:
        return servers.swap(server_id, swap.job, start=swap.start, empty=swap.empty)

    @router.post("/{server_id}/swap/undo")
    def undo_swap(server_id: str, swap: Swap) -> ServerView:
        return servers.undo_swap(server_id, swap.job)

    @router.post("/{server_id}/discard-old")
    def discard_old(server_id: str) -> ServerView:
        return servers.discard_old(server_id)

    @router.get("/{server_id}/checks")
    def server_checks(server_id: str) -> list[Check]:
        return list(check_server(servers.server(server_id)))

    @router.get("/{server_id}/activation")
    def activation(server_id: str) -> Activation:
        return servers.copies.describe(server_id)

    @router.post("/{server_id}/activate")
    def activate(server_id: str) -> ServerView:
        servers.copies.activate(server_id)
        servers.after_job(server_id)
        return servers.view(server_id)

    return router


def _nodes(agent: Agent) -> APIRouter:
    router = APIRouter(prefix="/servers/{server_id}/galera")
    nodes = agent.servers.nodes

    @router.put("")
    def put_galera(server_id: str, member: GaleraMember) -> ServerView:
        nodes.enroll(server_id, member)
        return agent.servers.view(server_id)

    @router.put("/epoch")
    def put_epoch(server_id: str, member: GaleraMember) -> ServerView:
        nodes.advance(server_id, member)
        return agent.servers.view(server_id)

    @router.get("")
    def get_galera(server_id: str) -> GaleraView:
        return nodes.view(server_id)

    @router.post("/position")
    def position(server_id: str) -> GaleraPosition:
        return nodes.position(server_id)

    @router.post("/prove-stopped", status_code=204)
    def prove_stopped(server_id: str) -> None:
        nodes.prove_stopped(server_id)

    @router.get("/unreached")
    def unreached(server_id: str) -> dict[str, str]:
        return nodes.unreached(server_id)

    @router.put("/seed")
    def seed(server_id: str, seed: Seed) -> GaleraPosition:
        return nodes.seed(server_id, seed)

    @router.put("/canary", status_code=204)
    def write_canary(server_id: str, canary: Canary) -> None:
        galera, server = nodes.serving(server_id)
        galera.write_canary(server, canary.word)

    @router.get("/canary")
    def canaries(server_id: str) -> list[str]:
        galera, server = nodes.serving(server_id)
        return galera.canaries(server)

    @router.delete("/canary", status_code=204)
    def drop_canaries(server_id: str) -> None:
        galera, server = nodes.serving(server_id)
        galera.drop_canaries(server)

    @router.post("/checksums")
    def checksums(server_id: str, wish: SumTables) -> TableSums:
        galera, server = nodes.serving(server_id)
        return galera.checksums(server, tables=wish.tables, at=wish.at)

    return router


def _administration(agent: Agent) -> APIRouter:
    """SQL administration. Names go into the query, where they may hold anything."""
    router = APIRouter(prefix="/servers/{server_id}")
    serving = agent.servers.serving

    @router.get("/databases")
    def databases(server_id: str) -> list[DatabaseSpec]:
        datastore, server = serving(server_id)
        return datastore.databases(server)

    @router.post("/databases", status_code=204)
    def create_databases(server_id: str, databases: list[DatabaseSpec]) -> None:
        datastore, server = serving(server_id)
        datastore.create_databases(server, databases)

    @router.delete("/databases", status_code=204)
    def drop_database(server_id: str, name: str) -> None:
        datastore, server = serving(server_id)
        datastore.drop_database(server, name)

    @router.get("/users")
    def users(server_id: str) -> list[UserSpec]:
        datastore, server = serving(server_id)
        return datastore.users(server)

    @router.post("/users", status_code=204)
    def create_users(server_id: str, users: list[UserSpec]) -> None:
        datastore, server = serving(server_id)
        datastore.create_users(server, users)

    @router.delete("/users", status_code=204)
    def drop_user(server_id: str, name: str, host: str) -> None:
        datastore, server = serving(server_id)
        datastore.drop_user(server, name, host)

    @router.patch("/users", status_code=204)
    def change_user(server_id: str, name: str, host: str, change: UserChange) -> None:
        datastore, server = serving(server_id)
        datastore.change_user(server, name, host, change)

    @router.put("/grants", status_code=204)
    def grant(server_id: str, name: str, host: str, databases: list[str]) -> None:
        datastore, server = serving(server_id)
        datastore.grant(server, name, host, databases)

    @router.delete("/grants", status_code=204)
    def revoke(server_id: str, name: str, host: str, database: str) -> None:
        datastore, server = serving(server_id)
        datastore.revoke(server, name, host, database)

    @router.get("/root")
    def root(server_id: str) -> RootState:
        datastore, server = serving(server_id)
        return RootState(enabled=datastore.superuser_enabled(server))

    @router.put("/root")
    def enable_root(server_id: str, account: RootAccount) -> str:
        datastore, server = serving(server_id)
        return datastore.enable_superuser(server, account.password)

    @router.delete("/root", status_code=204)
    def disable_root(server_id: str) -> None:
        datastore, server = serving(server_id)
        datastore.disable_superuser(server)

    return router
