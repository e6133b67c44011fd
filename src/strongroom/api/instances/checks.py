"""``/instances/{instance}/checks`` and ``…/activation``: checks of one server by its agent."""

from __future__ import annotations

from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from strongroom.api.http.caller import CallerDep, ControlDep, project_router
from strongroom.api.http.fields import Segment, View
from strongroom.catalog import Instance
from strongroom.flows import Site, find_instance

router = project_router("instances")


class Enabled(View):
    """Something that is disabled in an isolated copy."""

    item: str
    message: str
    remedy: str


class ActivationView(View):
    """The effects of an activation."""

    isolated: bool
    enables: list[Enabled]


class OneActivation(View):
    """Reply about an activation."""

    activation: ActivationView


class ServerCheck(View):
    """A finding."""

    level: str = Field(description="ok, warning, error.")
    message: str
    remedy: str


class ServerChecks(View):
    """Reply with all findings."""

    checks: list[ServerCheck]


async def _find(control: Site, project: str, instance: str) -> Instance:
    def find() -> Instance:
        with control.catalog.read() as session:
            return find_instance(session, project, instance)

    return await run_in_threadpool(find)


@router.get("/instances/{instance}/activation")
async def activation(instance: Segment, caller: CallerDep, control: ControlDep) -> OneActivation:
    """Extension: what the action `activate` would enable; changes nothing."""
    row = await _find(control, caller.project, instance)
    async with control.agents.client(row.host) as agent:
        found = await agent.activation(row.id)
    enables = [Enabled(item=notice.item, message=notice.message, remedy=notice.remedy) for notice in found.enables]
    return OneActivation(activation=ActivationView(isolated=found.isolated, enables=enables))


@router.get("/instances/{instance}/checks")
async def checks(instance: Segment, caller: CallerDep, control: ControlDep) -> ServerChecks:
    """Extension: problems that prevent or limit backups and restores of the server. Changes nothing."""
    row = await _find(control, caller.project, instance)
    async with control.agents.client(row.host) as agent:
        found = await agent.server_checks(row.id)
    return ServerChecks(checks=[ServerCheck(level=c.level, message=c.message, remedy=c.remedy) for c in found])
