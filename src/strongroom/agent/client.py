"""The client of the agent's API. What the agent refuses is raised here as the same error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

import httpx

from strongroom.agent import routes
from strongroom.agent.checks import Check, CheckRequest
from strongroom.agent.connection import Connection
from strongroom.agent.models import (
    AccountQuery,
    Activation,
    Canary,
    DatabaseQuery,
    DutyRequest,
    DutyView,
    GrantQuery,
    HostView,
    JobQuery,
    PlanRequest,
    RestorePoint,
    RootAccount,
    Seed,
    ServerDefinition,
    ServerView,
    Start,
    StopQuery,
    SumTables,
    Swap,
)
from strongroom.artifact import Notice
from strongroom.datastores import DatabaseSpec, GaleraMember, GaleraPosition, GaleraView, TableSums, UserChange, UserSpec
from strongroom.worker.spec import JobRequest, JobView

EMBEDDED = "http://agent"


class AgentClient:
    """One method for each route. A method raises what the agent answered, or HostSilent, of which each cause has its own class.

    Need not be closed on an in-process transport, nor if it comes from a ``RemoteAgent``. ``host`` is for messages. ``require``
    raises HostSilent when the host is lost; it is called every second during slow requests.
    """

    def __init__(
        self,
        base_url: str = EMBEDDED,
        *,
        host: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
        connect: float = 10,
        require: Callable[[], None] | None = None,
    ) -> None:
        self._connection = Connection(base_url, host=host, transport=transport, connect=connect, require=require)
        self._call = self._connection.call

    async def __aenter__(self) -> AgentClient:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    # --- jobs

    async def put_job(self, job_id: str, request: JobRequest) -> JobView:
        """Start the job, or find it when it was started before. Raises Busy when something else runs on its server."""
        return await self._call(routes.PUT_JOB, job_id, body=request)

    async def get_job(self, job_id: str, *, wait: float = 0, after: int = 0) -> JobView:
        """The job as soon as it has more than ``after`` events or has ended, at the latest after ``wait`` seconds (up to 60)."""
        return await self._call(routes.GET_JOB, job_id, query=JobQuery(wait=wait, after=after))

    async def jobs(self) -> list[JobView]:
        """Every job that the agent keeps."""
        return await self._call(routes.LIST_JOBS)

    async def cancel_job(self, job_id: str) -> JobView:
        """Begin to cancel; idempotent."""
        return await self._call(routes.CANCEL_JOB, job_id)

    # --- long-lived duties

    async def put_duty(self, duty_id: str, request: DutyRequest) -> DutyView:
        """Make a duty as requested; idempotent. Raises InvalidRequest, Conflict, NotFound."""
        return await self._call(routes.PUT_DUTY, duty_id, body=request)

    async def duty(self, duty_id: str) -> DutyView:
        """One duty. Raises NotFound."""
        return await self._call(routes.GET_DUTY, duty_id)

    async def duties(self) -> list[DutyView]:
        """Every duty."""
        return await self._call(routes.LIST_DUTIES)

    async def delete_duty(self, duty_id: str) -> None:
        """Stop a duty and remove it; a missing one is no error. Raises Busy."""
        await self._call(routes.DELETE_DUTY, duty_id)

    # --- the host

    async def host(self) -> HostView:
        """The host now."""
        return await self._call(routes.GET_HOST)

    async def checks(self, request: CheckRequest) -> list[Check]:
        """What would keep jobs of the control plane from working on this host."""
        return await self._call(routes.CHECK_HOST, body=request)

    async def compare_profile(self, request: PlanRequest) -> list[Notice]:
        """What a restore would meet there. Changes nothing."""
        return await self._call(routes.COMPARE_PROFILE, body=request)

    # --- servers

    async def put_server(self, server_id: str, definition: ServerDefinition) -> ServerView:
        """Define the server; idempotent."""
        return await self._call(routes.PUT_SERVER, server_id, body=definition)

    async def servers(self) -> list[ServerView]:
        """Every server."""
        return await self._call(routes.LIST_SERVERS)

    async def server(self, server_id: str) -> ServerView:
        """One server, as it is now: one that was not healthy is asked again. Raises NotFound."""
        return await self._call(routes.GET_SERVER, server_id)

    async def start_server(self, server_id: str, start: Start | None = None) -> ServerView:
        """Start it and wait until it serves. Raises Conflict, ServerFailed."""
        return await self._call(routes.START_SERVER, server_id, body=start or Start())

    async def stop_server(self, server_id: str, *, kill: bool = False) -> ServerView:
        """Stop it and wait until it has ended. With ``kill``, a server that does not stop is killed, unless it was adopted."""
        return await self._call(routes.STOP_SERVER, server_id, query=StopQuery(kill=kill))

    async def restart_server(self, server_id: str) -> ServerView:
        """Stop, start, wait."""
        return await self._call(routes.RESTART_SERVER, server_id)

    async def swap(self, server_id: str, job: str, *, start: bool = True, empty: bool = False) -> ServerView:
        """Swap in the data that restore job ``job`` prepared, and start. Raises ServerFailed if the previous data is back.

        With ``empty``, an empty directory replaces the data. Without ``start``, the server is stopped and stays so.
        """
        return await self._call(routes.SWAP, server_id, body=Swap(job=job, start=start, empty=empty))

    async def undo_swap(self, server_id: str, job: str) -> ServerView:
        """Put the data back that was there before swap ``job``, and leave the server stopped. Idempotent. Raises NotFound."""
        return await self._call(routes.UNDO_SWAP, server_id, body=Swap(job=job, start=False))

    async def discard_old(self, server_id: str) -> ServerView:
        """Remove the previous data that restores have kept."""
        return await self._call(routes.DISCARD_OLD, server_id)

    async def server_checks(self, server_id: str) -> list[Check]:
        """What stops or limits backups and restores of the server. Raises NotFound."""
        return await self._call(routes.CHECK_SERVER, server_id)

    async def activation(self, server_id: str) -> Activation:
        """What an activation would enable. Raises NotFound."""
        return await self._call(routes.DESCRIBE_ACTIVATION, server_id)

    async def activate(self, server_id: str) -> ServerView:
        """Let an isolated copy run what it did at its source, and restart it. Idempotent. Raises ServerFailed."""
        return await self._call(routes.ACTIVATE, server_id)

    async def delete_server(self, server_id: str) -> None:
        """Remove a server of the agent with its data, or forget an adopted one. A missing one is no error."""
        await self._call(routes.DELETE_SERVER, server_id)

    # --- nodes of Galera clusters

    async def put_galera(self, server_id: str, member: GaleraMember) -> ServerView:
        """Make the server a node of a cluster; its configuration is written at its next start. Idempotent.

        If its data is of another epoch, it is stopped (or killed) and not started again before its data is replaced.
        Raises Conflict for an epoch older than that of its data.
        """
        return await self._call(routes.PUT_GALERA, server_id, body=member)

    async def advance_epoch(self, server_id: str, member: GaleraMember) -> ServerView:
        """Count the data of the stopped node as of the epoch of ``member``. Idempotent. Raises Busy, Conflict."""
        return await self._call(routes.PUT_EPOCH, server_id, body=member)

    async def galera(self, server_id: str) -> GaleraView:
        """The node as it is now. Raises NotFound if the server is not in a cluster."""
        return await self._call(routes.GET_GALERA, server_id)

    async def galera_position(self, server_id: str) -> GaleraPosition:
        """The position of a stopped node, from the server's own ``--wsrep-recover``. Raises Busy while it runs."""
        return await self._call(routes.FIND_POSITION, server_id)

    async def prove_stopped(self, server_id: str) -> None:
        """Prove that its process and helpers have ended and its ports are free. Ends helpers that remain. Raises ServerFailed."""
        await self._call(routes.PROVE_STOPPED, server_id)

    async def unreached(self, server_id: str) -> dict[str, str]:
        """Peers that the host of this node does not reach: the cause by address."""
        return await self._call(routes.LIST_UNREACHED, server_id)

    async def seed(self, server_id: str, job: str, uuid: str) -> GaleraPosition:
        """Give what job ``job`` prepared the identity ``uuid`` of a new cluster, before it is swapped in.

        Starts a private server for that, whose answer proves that a server starts on the data. Raises NotFound, ServerFailed.
        """
        return await self._call(routes.PUT_SEED, server_id, body=Seed(job=job, uuid=uuid))

    async def write_canary(self, server_id: str, word: str) -> None:
        """Write a word through this node."""
        await self._call(routes.WRITE_CANARY, server_id, body=Canary(word=word))

    async def canaries(self, server_id: str) -> list[str]:
        """Words that this node reads, after it has applied what the cluster has committed (wsrep_sync_wait)."""
        return await self._call(routes.READ_CANARIES, server_id)

    async def drop_canaries(self, server_id: str) -> None:
        """Remove the words and their table."""
        await self._call(routes.DROP_CANARIES, server_id)

    async def checksums(self, server_id: str, *, tables: Sequence[str] | None = None, at: int | None = None) -> TableSums:
        """Checksums of the tables of users that clusters replicate, or of these tables. Reads all their data.

        With ``at`` all are taken from one snapshot, made after this transaction if it comes within a few seconds.
        """
        request = SumTables(tables=None if tables is None else list(tables), at=at)
        return await self._call(routes.SUM_TABLES, server_id, body=request)

    # --- SQL administration

    async def databases(self, server_id: str) -> list[DatabaseSpec]:
        """Databases of users."""
        return await self._call(routes.LIST_DATABASES, server_id)

    async def create_databases(self, server_id: str, databases: Sequence[DatabaseSpec]) -> None:
        """Raises AlreadyExists, InvalidRequest."""
        await self._call(routes.CREATE_DATABASES, server_id, body=list(databases))

    async def drop_database(self, server_id: str, name: str) -> None:
        """Raises NotFound."""
        await self._call(routes.DROP_DATABASE, server_id, query=DatabaseQuery(name=name))

    async def users(self, server_id: str) -> list[UserSpec]:
        """Users, each with its databases."""
        return await self._call(routes.LIST_USERS, server_id)

    async def create_users(self, server_id: str, users: Sequence[UserSpec]) -> None:
        """Raises AlreadyExists, InvalidRequest."""
        await self._call(routes.CREATE_USERS, server_id, body=list(users))

    async def drop_user(self, server_id: str, name: str, host: str = "%") -> None:
        """Raises NotFound."""
        await self._call(routes.DROP_USER, server_id, query=AccountQuery(name=name, host=host))

    async def change_user(self, server_id: str, name: str, host: str, change: UserChange) -> None:
        """Another name, host or password. Raises NotFound, AlreadyExists, InvalidRequest."""
        await self._call(routes.CHANGE_USER, server_id, body=change, query=AccountQuery(name=name, host=host))

    async def grant(self, server_id: str, name: str, host: str, databases: Sequence[str]) -> None:
        """Full rights on the databases. Raises NotFound."""
        await self._call(routes.GRANT, server_id, body=list(databases), query=AccountQuery(name=name, host=host))

    async def revoke(self, server_id: str, name: str, host: str, database: str) -> None:
        """Raises NotFound."""
        await self._call(routes.REVOKE, server_id, query=GrantQuery(name=name, host=host, database=database))

    async def create_restore_point(self, server_id: str, name: str) -> str:
        """Write a restore point into the log of the server; its position. Raises Unsupported, InvalidRequest."""
        return await self._call(routes.CREATE_POINT, server_id, body=RestorePoint(name=name))

    async def root_enabled(self, server_id: str) -> bool:
        """Whether the administrator's account of the database can be used from outside."""
        return (await self._call(routes.GET_ROOT, server_id)).enabled

    async def enable_root(self, server_id: str, password: str) -> str:
        """Open it with this password, or change the password; the account's name."""
        return await self._call(routes.ENABLE_ROOT, server_id, body=RootAccount(password=password))

    async def disable_root(self, server_id: str) -> None:
        """Close it. Raises NotFound when it was not open."""
        await self._call(routes.DISABLE_ROOT, server_id)
