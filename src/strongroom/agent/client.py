"""The agent's API from the side of its callers. What the agent refuses is raised here as the same error."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from strongroom import __version__
from strongroom.agent.checks import Check, CheckRequest
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
from strongroom.artifact import Notice
from strongroom.datastores import DatabaseSpec, GaleraMember, GaleraPosition, GaleraView, TableSums, UserChange, UserSpec
from strongroom.errors import (
    AgentBroken,
    AgentMismatch,
    HostSilent,
    HostTimeout,
    HostUntrusted,
    InvalidRequest,
    StrongroomError,
    Unavailable,
    from_dict,
)
from strongroom.worker.spec import JobRequest, JobView

T = TypeVar("T")
EMBEDDED = "http://agent"
PATIENCE = 900.0
"""Seconds for an answer."""
UNTIL_DONE = None
"""Stopping, starting and removing large servers takes as long as the settings of its host allow.

A connection that is dead breaks by itself. Whether an agent that hangs is given up is decided elsewhere (``require``).
"""
LOOK = 1.0
"""Seconds between two looks whether that is so."""
VERSION_HEADER = "Strongroom-Version"
"""In every answer of an agent that is a process of its own."""
LONGEST = 16 * 1024**2
"""Bytes of an answer. An agent that was broken into does not fill our memory."""


class AgentClient:
    """One method a route. Every method raises what the agent answered, or HostSilent, of which each cause has its own class.

    Needs no closing on an in-process transport, nor when it comes from a ``RemoteAgent``. ``host`` is for messages. ``require``
    raises HostSilent when the host is lost; it is called now and then during what takes as long as it takes.
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
        self._where = f"the agent of host {host} at {base_url}" if host else f"the agent at {base_url}"
        self._host = host
        self._connect = connect
        self._require = require
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        self._http = httpx.AsyncClient(base_url=base_url, transport=transport, headers=headers, trust_env=False)

    async def __aenter__(self) -> AgentClient:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    # --- jobs

    async def put_job(self, job_id: str, request: JobRequest) -> JobView:
        """Start the job, or find it when it was started before. Raises Busy when something else runs on its server."""
        return await self._call(JobView, "PUT", f"/jobs/{job_id}", body=request)

    async def get_job(self, job_id: str, *, wait: float = 0, after: int = 0) -> JobView:
        """The job as soon as it has more than ``after`` events or has ended, at the latest after ``wait`` seconds (up to 60)."""
        return await self._call(JobView, "GET", f"/jobs/{job_id}", wait=wait, after=after)

    async def jobs(self) -> list[JobView]:
        """Every job that the agent keeps."""
        return await self._call(list[JobView], "GET", "/jobs")

    async def cancel_job(self, job_id: str) -> JobView:
        """Begin to cancel; idempotent."""
        return await self._call(JobView, "DELETE", f"/jobs/{job_id}")

    # --- the host

    async def host(self) -> HostView:
        """The host now."""
        return await self._call(HostView, "GET", "/host")

    async def checks(self, request: CheckRequest) -> list[Check]:
        """What is wrong with the host for the jobs that the control plane sends it."""
        return await self._call(list[Check], "POST", "/checks", body=request)

    async def compare_profile(self, request: PlanRequest) -> list[Notice]:
        """What a restore meets there; changes nothing."""
        return await self._call(list[Notice], "POST", "/plan", body=request)

    # --- servers

    async def put_server(self, server_id: str, definition: ServerDefinition) -> ServerView:
        """Define the server; idempotent."""
        return await self._call(ServerView, "PUT", f"/servers/{server_id}", body=definition)

    async def servers(self) -> list[ServerView]:
        """Every server."""
        return await self._call(list[ServerView], "GET", "/servers")

    async def server(self, server_id: str) -> ServerView:
        """One server. Raises NotFound."""
        return await self._call(ServerView, "GET", f"/servers/{server_id}")

    async def start_server(self, server_id: str, start: Start | None = None) -> ServerView:
        """Start it and wait until it serves. Raises Conflict, ServerFailed."""
        return await self._call(ServerView, "POST", f"/servers/{server_id}/start", body=start, patience=UNTIL_DONE)

    async def stop_server(self, server_id: str, *, kill: bool = False) -> ServerView:
        """Stop it and wait until it is gone; with ``kill`` one that does not stop is killed, unless it was adopted."""
        query = {"kill": "true"} if kill else {}
        return await self._call(ServerView, "POST", f"/servers/{server_id}/stop", patience=UNTIL_DONE, **query)

    async def restart_server(self, server_id: str) -> ServerView:
        """Stop, start, wait."""
        return await self._call(ServerView, "POST", f"/servers/{server_id}/restart", patience=UNTIL_DONE)

    async def swap(self, server_id: str, job: str, *, start: bool = True, empty: bool = False) -> ServerView:
        """Put the data that restore job ``job`` prepared into place, and start on it. Raises ServerFailed: the old is back.

        With ``empty`` an empty directory takes the place of the data. Without ``start`` the server is stopped, and stays so.
        """
        return await self._call(
            ServerView, "POST", f"/servers/{server_id}/swap", body=Swap(job=job, start=start, empty=empty), patience=UNTIL_DONE
        )

    async def undo_swap(self, server_id: str, job: str) -> ServerView:
        """Put the data back that was there before swap ``job``, and leave the server stopped. Idempotent. Raises NotFound."""
        return await self._call(
            ServerView, "POST", f"/servers/{server_id}/swap/undo", body=Swap(job=job, start=False), patience=UNTIL_DONE
        )

    async def discard_old(self, server_id: str) -> ServerView:
        """Remove data that swaps have put aside."""
        return await self._call(ServerView, "POST", f"/servers/{server_id}/discard-old", patience=UNTIL_DONE)

    async def server_checks(self, server_id: str) -> list[Check]:
        """What stops or limits backups and restores of the server. Raises NotFound."""
        return await self._call(list[Check], "GET", f"/servers/{server_id}/checks")

    async def activation(self, server_id: str) -> Activation:
        """What an activation would enable. Raises NotFound."""
        return await self._call(Activation, "GET", f"/servers/{server_id}/activation")

    async def activate(self, server_id: str) -> ServerView:
        """Let an isolated copy run what it did at its source, and restart it. Idempotent. Raises ServerFailed."""
        return await self._call(ServerView, "POST", f"/servers/{server_id}/activate", patience=UNTIL_DONE)

    async def delete_server(self, server_id: str) -> None:
        """Remove a process server with its data, forget an adopted one; no error when it is gone already."""
        await self._call(None, "DELETE", f"/servers/{server_id}", patience=UNTIL_DONE)

    # --- nodes of Galera clusters

    async def put_galera(self, server_id: str, member: GaleraMember) -> ServerView:
        """Make the server a node of a cluster; its configuration is written at its next start. Idempotent.

        One whose data is of another epoch is stopped, killed if need be, and not started again before its data is replaced.
        Raises Conflict for an epoch older than that of its data.
        """
        return await self._call(ServerView, "PUT", f"/servers/{server_id}/galera", body=member, patience=UNTIL_DONE)

    async def advance_epoch(self, server_id: str, member: GaleraMember) -> ServerView:
        """Count the data of the stopped node as of the epoch of ``member``. Idempotent. Raises Busy, Conflict."""
        return await self._call(ServerView, "PUT", f"/servers/{server_id}/galera/epoch", body=member)

    async def galera(self, server_id: str) -> GaleraView:
        """The node as it is now, asked now. Raises NotFound when the server is not of a cluster."""
        return await self._call(GaleraView, "GET", f"/servers/{server_id}/galera")

    async def galera_position(self, server_id: str) -> GaleraPosition:
        """What the data of a stopped node holds, by the server's own ``--wsrep-recover``. Raises Busy while it runs."""
        return await self._call(GaleraPosition, "POST", f"/servers/{server_id}/galera/position", patience=UNTIL_DONE)

    async def prove_stopped(self, server_id: str) -> None:
        """Its process, its ports and every helper of it are gone. Ends helpers that were left. Raises ServerFailed."""
        await self._call(None, "POST", f"/servers/{server_id}/galera/prove-stopped", patience=UNTIL_DONE)

    async def unreached(self, server_id: str) -> dict[str, str]:
        """Peers that the host of this node does not reach, by address, and why."""
        return await self._call(dict[str, str], "GET", f"/servers/{server_id}/galera/unreached")

    async def seed(self, server_id: str, job: str, uuid: str) -> GaleraPosition:
        """Give what job ``job`` prepared the identity ``uuid`` of a new cluster, before it is swapped in.

        Starts it privately for that: its answer is the proof that a server comes up on it. Raises NotFound, ServerFailed.
        """
        return await self._call(
            GaleraPosition, "PUT", f"/servers/{server_id}/galera/seed", body=Seed(job=job, uuid=uuid), patience=UNTIL_DONE
        )

    async def write_canary(self, server_id: str, word: str) -> None:
        """Write a word through this node."""
        await self._call(None, "PUT", f"/servers/{server_id}/galera/canary", body=Canary(word=word))

    async def canaries(self, server_id: str) -> list[str]:
        """Words that this node reads, once it has all that the cluster had committed when it was asked (wsrep_sync_wait)."""
        return await self._call(list[str], "GET", f"/servers/{server_id}/galera/canary")

    async def drop_canaries(self, server_id: str) -> None:
        """Remove the words and their table."""
        await self._call(None, "DELETE", f"/servers/{server_id}/galera/canary")

    async def checksums(self, server_id: str, *, tables: Sequence[str] | None = None, at: int | None = None) -> TableSums:
        """Checksums of the tables of users that clusters replicate, or of these tables. Reads all their data.

        With ``at`` all are taken from one snapshot, made after this transaction if it comes within a few seconds.
        """
        wish = SumTables(tables=None if tables is None else list(tables), at=at)
        path = f"/servers/{server_id}/galera/checksums"
        return await self._call(TableSums, "POST", path, body=wish, patience=UNTIL_DONE)

    # --- SQL administration

    async def databases(self, server_id: str) -> list[DatabaseSpec]:
        """Databases of users."""
        return await self._call(list[DatabaseSpec], "GET", f"/servers/{server_id}/databases")

    async def create_databases(self, server_id: str, databases: Sequence[DatabaseSpec]) -> None:
        """Raises AlreadyExists, InvalidRequest."""
        await self._call(None, "POST", f"/servers/{server_id}/databases", body=list(databases))

    async def drop_database(self, server_id: str, name: str) -> None:
        """Raises NotFound."""
        await self._call(None, "DELETE", f"/servers/{server_id}/databases", name=name)

    async def users(self, server_id: str) -> list[UserSpec]:
        """Accounts of users, each with its databases."""
        return await self._call(list[UserSpec], "GET", f"/servers/{server_id}/users")

    async def create_users(self, server_id: str, users: Sequence[UserSpec]) -> None:
        """Raises AlreadyExists, InvalidRequest."""
        await self._call(None, "POST", f"/servers/{server_id}/users", body=list(users))

    async def drop_user(self, server_id: str, name: str, host: str = "%") -> None:
        """Raises NotFound."""
        await self._call(None, "DELETE", f"/servers/{server_id}/users", name=name, host=host)

    async def change_user(self, server_id: str, name: str, host: str, change: UserChange) -> None:
        """Another name, host or password. Raises NotFound, AlreadyExists, InvalidRequest."""
        await self._call(None, "PATCH", f"/servers/{server_id}/users", body=change, name=name, host=host)

    async def grant(self, server_id: str, name: str, host: str, databases: Sequence[str]) -> None:
        """Full rights on the databases. Raises NotFound."""
        await self._call(None, "PUT", f"/servers/{server_id}/grants", body=list(databases), name=name, host=host)

    async def revoke(self, server_id: str, name: str, host: str, database: str) -> None:
        """Raises NotFound."""
        await self._call(None, "DELETE", f"/servers/{server_id}/grants", name=name, host=host, database=database)

    async def root_enabled(self, server_id: str) -> bool:
        """Whether the administrator's account of the database can be used from outside."""
        return (await self._call(RootState, "GET", f"/servers/{server_id}/root")).enabled

    async def enable_root(self, server_id: str, password: str) -> str:
        """Open it with this password, or change the password; the account's name."""
        return await self._call(str, "PUT", f"/servers/{server_id}/root", body=RootAccount(password=password))

    async def disable_root(self, server_id: str) -> None:
        """Close it. Raises NotFound when it was not open."""
        await self._call(None, "DELETE", f"/servers/{server_id}/root")

    async def _call(
        self,
        kind: type[T] | None,
        method: str,
        path: str,
        *,
        body: Any = None,
        patience: float | None = PATIENCE,
        **query: str | float,
    ) -> T:
        if patience is not UNTIL_DONE or self._require is None:
            return await self._ask(kind, method, path, body, patience, query)
        work = asyncio.ensure_future(self._ask(kind, method, path, body, patience, query))
        try:
            while not (await asyncio.wait({work}, timeout=LOOK))[0]:
                self._require()
            return work.result()
        finally:
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await work

    async def _ask(
        self, kind: type[T] | None, method: str, path: str, body: Any, patience: float | None, query: dict[str, str | float]
    ) -> T:
        content = None if body is None else _adapter(type(body)).dump_json(body)
        limits = httpx.Timeout(patience, connect=self._connect)
        try:
            async with self._http.stream(method, path, content=content, params=query or None, timeout=limits) as response:
                answer = bytearray()
                async for piece in response.aiter_raw():
                    answer += piece
                    if len(answer) > LONGEST:
                        raise Unavailable(f"{self._where} answers with more than {LONGEST} bytes")
        except httpx.HTTPError as error:
            raise self._describe_silence(error) from error
        version = response.headers.get(VERSION_HEADER, __version__)
        try:
            if not response.is_error:
                return _adapter(kind).validate_json(bytes(answer)) if kind is not None else None  # type: ignore[return-value]
            refusal = json.loads(answer)["error"]
            assert isinstance(refusal, dict)
        except (ValidationError, ValueError, KeyError, TypeError, AssertionError):
            if version != __version__:
                raise self._mismatch(version) from None
            raise AgentBroken(
                f"unexpected response (HTTP {response.status_code}) from {self._where}",
                remedy=f"Look into the log of the agent{f' on {self._host}' if self._host else ''}.",
            ) from None
        refused = from_dict(refusal)
        if isinstance(refused, InvalidRequest) and NOT_UNDERSTOOD in refused.message and version != __version__:
            raise self._mismatch(version)
        raise refused

    def _describe_silence(self, error: httpx.HTTPError) -> StrongroomError:
        """Why there is no answer: one cause, and what helps."""
        text = str(error) or type(error).__name__
        reason = _tls_reason(error)
        if reason == "CERTIFICATE_VERIFY_FAILED":
            return HostUntrusted(
                f"what answers for {self._where} does not have the certificate that the host joined with",
                remedy=f"Is another machine or another agent at this address? {self._rejoin()}",
            )
        if reason:
            return HostUntrusted(
                f"{self._where} refuses the certificate of this control plane ({reason})",
                remedy=f"The control plane has other keys than when the host joined. {self._rejoin()}",
            )
        if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
            return HostTimeout(
                f"{self._where} was reached and did not answer in time",
                remedy="What it was asked may go on there: look at the load and at the log of the host.",
            )
        if isinstance(error, httpx.ReadError | httpx.RemoteProtocolError):
            return HostSilent(
                f"{self._where} cannot be reached: it ended the connection",
                remedy="Did its agent just stop? Or does it refuse this control plane, which has other keys than when the host "
                f"joined? {self._rejoin()}",
            )
        if isinstance(error, httpx.TimeoutException):
            text = "no connection in time"
        return HostSilent(
            f"{self._where} cannot be reached: {text}",
            remedy="Is the machine up, does `strongroom agent` run there, does the network work?",
        )

    def _mismatch(self, version: str) -> AgentMismatch:
        return AgentMismatch(
            f"{self._where} is of version {version}, and does not understand this service, of version {__version__}",
            remedy="Install the same version of Strongroom on the host and restart its agent.",
        )

    def _rejoin(self) -> str:
        return f"`strongroom host add {self._host or 'NAME'}` lets the host join anew."


NOT_UNDERSTOOD = "request not understood"
"""How an agent refuses a body that is not of its API."""


def _tls_reason(error: BaseException | None) -> str:
    """What TLS says of a connection that failed; nothing when it failed otherwise."""
    while error is not None:
        if isinstance(error, ssl.SSLError) and error.reason and ("CERT" in error.reason or "UNKNOWN_CA" in error.reason):
            return error.reason
        error = error.__cause__ or error.__context__
    return ""


def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
