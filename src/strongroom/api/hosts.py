"""``/hosts``: machines with an agent, for administrators; and the route by which new hosts join."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from strongroom.agent.joining import JoinReply, JoinRequest
from strongroom.api.http.caller import CallerDep, ControlDep, project_router
from strongroom.api.http.fields import Body, Ref, Segment, View, format_iso
from strongroom.catalog import Host, Instance
from strongroom.catalog.queries import silent_hosts
from strongroom.errors import NotFound
from strongroom.flows import (
    Site,
    host_problem,
    join_host,
    request_host,
    request_reclaim,
    request_remove_host,
    stop_unknown_server,
    unknown_servers,
)

open_router = APIRouter(tags=["hosts"])
"""Routes without a principal: a host joins with a token."""
router = project_router("hosts")


class InstalledView(View):
    """A database that is installed on a host."""

    datastore: str
    series: str
    number: str


class HostView(View):
    """A machine with an agent."""

    name: str
    hostname: str
    status: str = Field(description="up, silent (unreachable), or new (has not joined yet).")
    problem: str = Field("", description="Why it is unreachable, or any other problem; empty if there is none.")
    version: str = Field(description="Version of Strongroom.")
    cores: int
    memory_bytes: int
    free_bytes: int
    pool: str
    versions: list[InstalledView]
    jobs_running: int
    embedded: bool = Field(description="Its agent is part of the service.")
    url: str | None = Field(description="URL of its agent, if it has joined.")
    instances: int = Field(description="Number of instances on it.")
    last_seen: str | None


class OneHost(View):
    """Reply about one host."""

    host: HostView


class ManyHosts(View):
    """Reply with all hosts."""

    hosts: list[HostView]


class UnknownServer(View):
    """A server on a host that belongs to no instance."""

    id: str
    name: str
    datastore: str
    series: str
    runtime: str
    state: str
    data_dir: str
    data_bytes: int


class UnknownServers(View):
    """Reply with all unknown servers of a host."""

    servers: list[UnknownServer]


class Reclaimed(View):
    """The instance of a reclaimed server."""

    id: str
    name: str
    tenant_id: str


class OneReclaimed(View):
    """Reply to a reclaim."""

    instance: Reclaimed


class NewHost(Body):
    """A host to add."""

    name: Ref


class AddHost(Body):
    """Body of an add."""

    host: NewHost


class Invitation(View):
    """The token with which a host joins, valid once and until ``expires``. It is never shown again."""

    name: str
    token: str
    expires: str


class OneInvitation(View):
    """Reply to an add."""

    invitation: Invitation


@router.get("/hosts")
def index(caller: CallerDep, control: ControlDep) -> ManyHosts:
    """Extension: machines with an agent."""
    with control.catalog.read() as session:
        rows = list(session.scalars(select(Host).order_by(Host.name)))
        return ManyHosts(hosts=_views(session, control, rows))


@router.get("/hosts/{host}")
def show(host: Segment, caller: CallerDep, control: ControlDep) -> OneHost:
    """Extension: one host."""
    with control.catalog.read() as session:
        row = session.get(Host, host)
        if row is None:
            raise NotFound(f"host {host} cannot be found", remedy="See `strongroom host list`.")
        (view,) = _views(session, control, [row])
    return OneHost(host=view)


@router.post("/hosts", status_code=201)
def add(body: AddHost, caller: CallerDep, control: ControlDep) -> OneInvitation:
    """Extension: create a token with which a new host joins, or a known host joins again."""
    token, until = request_host(control, body.host.name)
    return OneInvitation(invitation=Invitation(name=token.name, token=str(token), expires=format_iso(until)))


@router.delete("/hosts/{host}", status_code=204)
def remove(
    host: Segment,
    caller: CallerDep,
    control: ControlDep,
    force: Annotated[
        bool, Query(description="Remove it even if it is unreachable and has instances, which are removed from the catalog.")
    ] = False,
) -> Response:
    """Extension: remove a host. The service stops contacting its agent."""
    request_remove_host(control, host, force=force)
    return Response(status_code=204)


@router.get("/hosts/{host}/servers")
def servers(host: Segment, caller: CallerDep, control: ControlDep) -> UnknownServers:
    """Extension: servers of a host that belong to no instance, for example after `host remove --force`."""
    return UnknownServers(
        servers=[
            UnknownServer(data_dir=str(view.data_dir), **view.model_dump(include=_SHOWN))
            for view in unknown_servers(control, host)
        ]
    )


_SHOWN = {"id", "name", "datastore", "series", "runtime", "state", "data_bytes"}


@router.post("/hosts/{host}/servers/{server}/reclaim")
def reclaim(host: Segment, server: Segment, caller: CallerDep, control: ControlDep) -> OneReclaimed:
    """Extension: turn an unknown server into an instance again: its former one, or a new one in this project."""
    row = request_reclaim(control, caller.project, host, server)
    return OneReclaimed(instance=Reclaimed(id=row.id, name=row.name, tenant_id=row.project))


@router.post("/hosts/{host}/servers/{server}/stop", status_code=204)
async def stop(host: Segment, server: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: stop an unknown server. Its data remains."""
    await stop_unknown_server(control, host, server)
    return Response(status_code=204)


@open_router.post("/join")
def join(body: JoinRequest, control: ControlDep) -> JoinReply:
    """Extension: a host joins with its token. Both sides use it to prove their certificates; it is never sent."""
    return join_host(control, body)


def _views(session: Session, control: Site, rows: list[Host]) -> list[HostView]:
    silent = silent_hosts(session)
    living = select(Instance.host, func.count()).where(Instance.deleted.is_(None)).group_by(Instance.host)
    counts = {row[0]: row[1] for row in session.execute(living)}
    return [
        _view(row, row.name in silent, control.agents.embedded(row.name), counts.get(row.name, 0), host_problem(control, row))
        for row in rows
    ]


def _view(row: Host, silent: bool, embedded: bool, instances: int, problem: str) -> HostView:
    view = row.view
    return HostView(
        name=row.name,
        hostname=view.get("hostname", ""),
        status="new" if not (embedded or row.url) else "silent" if silent else "up",
        problem=problem,
        version=view.get("version", ""),
        cores=view.get("cores", 0),
        memory_bytes=view.get("memory_bytes", 0),
        free_bytes=view.get("free_bytes", 0),
        pool=view.get("pool", ""),
        versions=[
            InstalledView(datastore=v["datastore"], series=v["series"], number=v["number"]) for v in view.get("versions", [])
        ],
        jobs_running=view.get("jobs_running", 0),
        embedded=embedded,
        url=row.url,
        instances=instances,
        last_seen=format_iso(row.seen),
    )
