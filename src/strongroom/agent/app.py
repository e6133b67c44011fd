"""The agent: jobs, servers and the HTTP API in front of them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from starlette.applications import Starlette

from strongroom import datastores
from strongroom.agent import routes
from strongroom.agent.application import Handler, make_application
from strongroom.agent.checks import Check, check_host, check_server
from strongroom.agent.duties import DUTY, Duties
from strongroom.agent.host.view import describe_host
from strongroom.agent.jobs import WORKER, Jobs
from strongroom.agent.jobs.directory import JobRecord
from strongroom.agent.models import (
    DutyRequest,
    DutyView,
    HostView,
    JobQuery,
    RestorePoint,
    RootState,
    ServerView,
    StopQuery,
    Swap,
)
from strongroom.agent.routes import Route
from strongroom.agent.servers import Servers
from strongroom.agent.supervisor import Supervisor
from strongroom.datastores import (
    GaleraMember,
    set_stall_timeout,
)
from strongroom.errors import ConfigurationError
from strongroom.settings import Settings
from strongroom.system.directories import make_directory
from strongroom.system.locks import take_lock
from strongroom.worker.spec import BackupJob, JobRequest, JobView

log = structlog.get_logger()
NOTICE = 0.05
"""Seconds between two reads of a job that a caller waits for."""


class Agent:
    """Everything on one database host. Call ``start`` before ``app``, its API, is used; ``stop`` leaves servers and jobs running.

    ``root`` is the state directory (default: the service's data directory).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        root: Path | None = None,
        worker: Sequence[str] = WORKER,
        duty: Sequence[str] = DUTY,
    ) -> None:
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
        self.duties = Duties(settings, self.root / "agent" / "duties", server_of=self.servers.server, command=duty)
        self._supervisor = Supervisor(self.servers, self.jobs, self.duties)
        self.servers.watch.on_due = self._supervisor.wake
        self.on_change: Callable[[], None] = lambda: None
        """Called, from any thread, when the state of a server has changed."""
        self.servers.watch.on_change = self._tell_change
        self._lock: int | None = None
        self.app = _make_app(self)

    def start(self) -> None:
        """Find servers and jobs again, continue what was interrupted, and begin to supervise them.

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
            raise ConfigurationError(f"another agent uses {self.root}", remedy="Stop it, or use another data directory.")
        self.servers.load()
        self.jobs.load()
        self.duties.load()
        self.servers.resume_swaps()
        self._supervisor.start()

    def stop(self) -> None:
        """Stop supervising. Servers, jobs and duties keep running, and are found again at the next start."""
        self._supervisor.stop()
        self.jobs.close()
        self.servers.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def delete_server(self, server_id: str) -> None:
        """Cancel what runs on the server, end its duties, then remove it."""
        self.duties.delete_all(server_id)
        self.jobs.end_all(server_id)
        self.servers.delete(server_id)

    def host(self) -> HostView:
        """The host as it is now."""
        return describe_host(self.settings, self.jobs.running)

    def put_job(self, job_id: str, request: JobRequest) -> JobView:
        """Start the job, or find it; see ``Jobs.put``."""
        try:
            if isinstance(request.job, BackupJob) and request.job.desync and request.server and not self.jobs.knows(job_id):
                with self.servers.nodes.desynced(request.server, job_id):
                    return self.jobs.put(job_id, request)
            return self.jobs.put(job_id, request)
        finally:
            self._supervisor.wake()

    def put_duty(self, duty_id: str, request: DutyRequest) -> DutyView:
        """Make the duty as requested; see ``Duties.put``."""
        try:
            return self.duties.put(duty_id, request)
        finally:
            self._supervisor.wake()

    async def wait_job(self, job_id: str, query: JobQuery) -> JobView:
        """The job as soon as it has more than ``after`` events or has ended, at the latest after ``wait`` seconds."""
        deadline = time.monotonic() + query.wait
        while True:
            view = await asyncio.to_thread(self.jobs.view, job_id)
            if view.status != "running" or view.events > query.after or time.monotonic() >= deadline:
                return view
            await asyncio.sleep(NOTICE)

    def _tell_change(self) -> None:
        self.on_change()

    def _job_on(self, server_id: str) -> str | None:
        return self.jobs.running_on(server_id)

    def _after_job(self, record: JobRecord) -> None:
        if record.server is not None:
            self.servers.after_job(record.server)


def create_agent(settings: Settings, *, root: Path | None = None) -> Starlette:
    """The API of a new agent; its lifespan starts and stops the agent."""
    return Agent(settings, root=root).app


def _make_app(agent: Agent) -> Starlette:
    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(agent.start)
        try:
            yield
        finally:
            await asyncio.to_thread(agent.stop)

    return make_application(
        _handle_host(agent) | _handle_servers(agent) | _handle_nodes(agent) | _handle_administration(agent), lifespan
    )


_Handlers = dict[Route[Any], Handler]


def _handle_host(agent: Agent) -> _Handlers:
    return {
        routes.PUT_JOB: agent.put_job,
        routes.GET_JOB: agent.wait_job,
        routes.LIST_JOBS: agent.jobs.views,
        routes.CANCEL_JOB: agent.jobs.cancel,
        routes.PUT_DUTY: agent.put_duty,
        routes.GET_DUTY: agent.duties.view,
        routes.LIST_DUTIES: agent.duties.views,
        routes.DELETE_DUTY: agent.duties.delete,
        routes.GET_HOST: agent.host,
        routes.CHECK_HOST: partial(check_host, agent.settings),
        routes.COMPARE_PROFILE: agent.servers.copies.compare,
    }


def _handle_servers(agent: Agent) -> _Handlers:
    servers = agent.servers

    def stop(server: str, query: StopQuery) -> ServerView:
        return servers.stop(server, kill=query.kill)

    def swap(server: str, request: Swap) -> ServerView:
        return servers.swap(server, request.job, start=request.start, empty=request.empty)

    def undo_swap(server: str, request: Swap) -> ServerView:
        return servers.undo_swap(server, request.job)

    def check(server: str) -> list[Check]:
        return list(check_server(servers.server(server)))

    def create_point(server: str, point: RestorePoint) -> str:
        _, running = servers.serving(server)
        return datastores.get(running.datastore).require_logs().create_point(running, point.name)

    def activate(server: str) -> ServerView:
        servers.copies.activate(server)
        servers.after_job(server)
        return servers.view(server)

    return {
        routes.LIST_SERVERS: servers.views,
        routes.PUT_SERVER: servers.define,
        routes.GET_SERVER: servers.describe_server,
        routes.DELETE_SERVER: agent.delete_server,
        routes.START_SERVER: servers.start,
        routes.STOP_SERVER: stop,
        routes.RESTART_SERVER: servers.restart,
        routes.SWAP: swap,
        routes.UNDO_SWAP: undo_swap,
        routes.DISCARD_OLD: servers.discard_old,
        routes.CHECK_SERVER: check,
        routes.DESCRIBE_ACTIVATION: servers.copies.describe,
        routes.CREATE_POINT: create_point,
        routes.ACTIVATE: activate,
    }


def _handle_nodes(agent: Agent) -> _Handlers:
    servers, nodes = agent.servers, agent.servers.nodes

    def put(server: str, member: GaleraMember) -> ServerView:
        nodes.enroll(server, member)
        return servers.view(server)

    def advance(server: str, member: GaleraMember) -> ServerView:
        nodes.advance(server, member)
        return servers.view(server)

    def ask(question: Callable[..., Any]) -> Handler:
        """A handler that needs the node to answer SQL."""
        return lambda server, *arguments: question(*nodes.serving(server), *arguments)

    return {
        routes.PUT_GALERA: put,
        routes.PUT_EPOCH: advance,
        routes.GET_GALERA: nodes.view,
        routes.FIND_POSITION: nodes.position,
        routes.PROVE_STOPPED: nodes.prove_stopped,
        routes.LIST_UNREACHED: nodes.unreached,
        routes.PUT_SEED: nodes.seed,
        routes.WRITE_CANARY: ask(lambda clusters, server, canary: clusters.running.write_canary(server, canary.word)),
        routes.READ_CANARIES: ask(lambda clusters, server: clusters.running.read_canaries(server)),
        routes.DROP_CANARIES: ask(lambda clusters, server: clusters.running.drop_canaries(server)),
        routes.SUM_TABLES: ask(
            lambda clusters, server, request: clusters.running.sum_tables(server, tables=request.tables, at=request.at)
        ),
    }


def _handle_administration(agent: Agent) -> _Handlers:
    def ask(question: Callable[..., Any]) -> Handler:
        """A handler that needs the server to answer SQL."""
        return lambda server, *arguments: question(*agent.servers.serving(server), *arguments)

    return {
        routes.LIST_DATABASES: ask(lambda sql, server: sql.databases.list_all(server)),
        routes.CREATE_DATABASES: ask(lambda sql, server, new: sql.databases.create(server, new)),
        routes.DROP_DATABASE: ask(lambda sql, server, query: sql.databases.drop(server, query.name)),
        routes.LIST_USERS: ask(lambda sql, server: sql.users.list_all(server)),
        routes.CREATE_USERS: ask(lambda sql, server, new: sql.users.create(server, new)),
        routes.DROP_USER: ask(lambda sql, server, user: sql.users.drop(server, user.name, user.host)),
        routes.CHANGE_USER: ask(lambda sql, server, change, user: sql.users.change(server, user.name, user.host, change)),
        routes.GRANT: ask(lambda sql, server, databases, user: sql.users.grant(server, user.name, user.host, databases)),
        routes.REVOKE: ask(lambda sql, server, query: sql.users.revoke(server, query.name, query.host, query.database)),
        routes.GET_ROOT: ask(lambda sql, server: RootState(enabled=sql.superuser.is_enabled(server))),
        routes.ENABLE_ROOT: ask(lambda sql, server, account: sql.superuser.enable(server, account.password)),
        routes.DISABLE_ROOT: ask(lambda sql, server: sql.superuser.disable(server)),
    }
