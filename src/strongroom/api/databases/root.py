"""``/instances/{instance}/root``: the database's administrator user, which can connect from outside only if enabled."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import Response
from fastapi.concurrency import run_in_threadpool
from pydantic import AfterValidator, Field, StringConstraints

from strongroom.api.databases.routes import connect_server
from strongroom.api.http.caller import CallerDep, ControlDep, project_router
from strongroom.api.http.fields import Body, Segment, View, require_plain
from strongroom.catalog import Instance, now
from strongroom.flows import Site

router = project_router("databases and users")


class RootPassword(Body):
    """The password to set. If it is empty or missing, one is generated."""

    password: Annotated[str, StringConstraints(max_length=1024), AfterValidator(require_plain)] = Field("", repr=False)


class RootEnabled(View):
    """Whether root can connect from outside."""

    rootEnabled: bool


class RootUser(View):
    """The root user with its password, which is never shown again."""

    name: str
    password: str


class OneRootUser(View):
    """Reply to an enable."""

    user: RootUser


@router.get("/instances/{instance}/root")
async def show(instance: Segment, caller: CallerDep, control: ControlDep) -> RootEnabled:
    """Whether root is enabled. A restored instance has the state at the time of the backup."""
    async with connect_server(control, caller.project, instance) as (agent, row):
        return RootEnabled(rootEnabled=await agent.root_enabled(row.id))


@router.post("/instances/{instance}/root")
async def enable(instance: Segment, caller: CallerDep, control: ControlDep, body: RootPassword | None = None) -> OneRootUser:
    """Enable root, or change its password."""
    password = (body.password if body else "") or secrets.token_urlsafe(24)
    async with connect_server(control, caller.project, instance) as (agent, row):
        name = await agent.enable_root(row.id, password)
    await run_in_threadpool(_remember, control, row.id, caller.principal.user)
    return OneRootUser(user=RootUser(name=name, password=password))


def _remember(control: Site, instance: str, user: str) -> None:
    with control.catalog.write() as session:
        row = session.get(Instance, instance)
        if row is not None and row.root_enabled is None:
            row.root_enabled, row.root_enabled_by = now(), user


@router.delete("/instances/{instance}/root", status_code=204)
async def disable(instance: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Disable root; an error (404) if it is not enabled."""
    async with connect_server(control, caller.project, instance) as (agent, row):
        await agent.disable_root(row.id)
    return Response(status_code=204)
