"""``/instances/{instance}/databases``: executed immediately by the agent of the instance's host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from strongroom.agent.client import AgentClient
from strongroom.api.databases.requests import DatabaseBody, database_specs
from strongroom.api.http.caller import CallerDep, ControlDep, PageDep, accepted, make_page_of_names, project_router
from strongroom.api.http.fields import Body, Link, Segment, View
from strongroom.catalog import Instance
from strongroom.errors import Busy, ServerFailed
from strongroom.flows import Site, find_instance, refresh_instance

router = project_router("databases and users")


class CreateDatabases(Body):
    """Body of a create."""

    databases: list[DatabaseBody]


class DatabaseView(View):
    """A database."""

    name: str
    character_set: str | None = None
    collate: str | None = None


class ManyDatabases(View):
    """Reply with a page of databases."""

    databases: list[DatabaseView]
    links: list[Link] = Field(default_factory=list)


@asynccontextmanager
async def connect_server(control: Site, project: str, instance: str) -> AsyncIterator[tuple[AgentClient, Instance]]:
    """The agent and the instance. Raises NotFound; Busy if the server is not running or does not answer."""

    def find() -> Instance:
        refresh_instance(control, project, instance)
        with control.catalog.read() as session:
            return find_instance(session, project, instance)

    row = await run_in_threadpool(find)
    if row.task is not None:
        raise Busy(f"instance {row.name} ({row.id}) is not ready: it is in {row.task}", remedy="Try again when it is ACTIVE.")
    if row.state != "running":
        raise Busy(
            f"instance {row.name} ({row.id}) is not ready: its server is {row.state}",
            remedy=f"Start it with `strongroom instance start {row.name}`.",
        )
    async with control.agents.client(row.host) as agent:
        try:
            yield agent, row
        except ServerFailed as error:
            raise Busy(f"instance {row.name} ({row.id}) does not answer: {error.message}", remedy=error.remedy) from None


@router.get("/instances/{instance}/databases", response_model_exclude_unset=True)
async def index(instance: Segment, request: Request, caller: CallerDep, control: ControlDep, page: PageDep) -> ManyDatabases:
    """Databases of the instance by name, without system databases."""
    async with connect_server(control, caller.project, instance) as (agent, row):
        found = {d.name: d for d in await agent.databases(row.id)}
    names, links = make_page_of_names(request, page, found)
    reply = ManyDatabases(databases=[DatabaseView(**found[name].model_dump()) for name in names])
    if links:
        reply.links = links
    return reply


@router.post("/instances/{instance}/databases", status_code=202)
async def create(instance: Segment, body: CreateDatabases, caller: CallerDep, control: ControlDep) -> Response:
    """Create databases."""
    specs = database_specs(body.databases)
    async with connect_server(control, caller.project, instance) as (agent, row):
        if specs:
            await agent.create_databases(row.id, specs)
    return accepted()


@router.delete("/instances/{instance}/databases/{name}", status_code=202)
async def delete(instance: Segment, name: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Drop a database."""
    async with connect_server(control, caller.project, instance) as (agent, row):
        await agent.drop_database(row.id, name)
    return accepted()
