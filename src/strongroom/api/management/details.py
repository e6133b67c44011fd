"""``/mgmt/instances/{instance}/…``: details of one instance and its host, for administrators."""

from __future__ import annotations

from fastapi import Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from strongroom.api.http.caller import CallerDep, ControlDep, project_router
from strongroom.api.http.fields import Segment, View, format_naive
from strongroom.catalog import Host, Instance
from strongroom.errors import Unsupported
from strongroom.flows import Site, find_instance

router = project_router("management")

NEVER, NOBODY = "Never", "Nobody"


class RootHistory(View):
    """When root was first enabled, and by whom; `Never` and `Nobody` if not through this service."""

    id: str
    enabled: str
    user: str


class OneRootHistory(View):
    """Reply about root."""

    root_history: RootHistory


class Hardware(View):
    """The host of the instance."""

    num_cpus: int
    mem_total: int = Field(description="MB.")


class OneHardware(View):
    """Reply about the host."""

    hwinfo: Hardware


def _find(control: Site, instance: str) -> tuple[Instance, Host | None]:
    with control.catalog.read() as session:
        row = find_instance(session, None, instance)
        return row, session.get(Host, row.host)


@router.get("/mgmt/instances/{instance}/root")
def root(instance: Segment, caller: CallerDep, control: ControlDep) -> OneRootHistory:
    """When root was first enabled, and by whom."""
    row, _ = _find(control, instance)
    enabled = format_naive(row.root_enabled) if row.root_enabled else NEVER
    return OneRootHistory(root_history=RootHistory(id=row.id, enabled=enabled, user=row.root_enabled_by or NOBODY))


@router.get("/mgmt/instances/{instance}/hwinfo")
def hardware(instance: Segment, caller: CallerDep, control: ControlDep) -> OneHardware:
    """Cores and memory of the host, as last reported by its agent."""
    _, host = _find(control, instance)
    view = host.view if host else {}
    return OneHardware(hwinfo=Hardware(num_cpus=view.get("cores", 0), mem_total=view.get("memory_bytes", 0) >> 20))


@router.get("/mgmt/instances/{instance}/rpc_ping", status_code=204)
async def ping(instance: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Check that the host's agent answers."""
    row, _ = await run_in_threadpool(_find, control, instance)
    async with control.agents.client(row.host) as agent:
        await agent.host()
    return Response(status_code=204)


@router.get("/mgmt/instances/{instance}/diagnostics", status_code=501)
def diagnostics(instance: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Always refused."""
    _find(control, instance)
    raise Unsupported("guest diagnostics are not supported", remedy="See `strongroom check`.")
