"""``/instances/{instance}/databases``: the agent of the instance's host does the work, at once."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from strongroom.agent.client import AgentClient
from strongroom.api._accounts import DatabaseBody, database_specs
from strongroom.api._caller import CallerDep, ControlDep, PageDep, accepted, page_of_names
from strongroom.api._fields import Body, Link, View
from strongroom.catalog import Instance
from strongroom.errors import Busy
from strongroom.flows import Control, find_instance

router = APIRouter(tags=["databases and users"])


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


async def server_of(control: Control, project: str, instance: str) -> tuple[AgentClient, str]:
    """The agent and the server's id there. Raises NotFound; Busy when the server cannot be asked now."""

    def find() -> Instance:
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
    return control.agent(row.host), row.id


@router.get("/instances/{instance}/databases", response_model_exclude_unset=True)
async def index(instance: str, request: Request, caller: CallerDep, control: ControlDep, page: PageDep) -> ManyDatabases:
    """Databases of the instance by name, without the system's own."""
    agent, server = await server_of(control, caller.project, instance)
    found = {d.name: d for d in await agent.databases(server)}
    names, links = page_of_names(request, page, found)
    reply = ManyDatabases(databases=[DatabaseView(**found[name].model_dump()) for name in names])
    if links:
        reply.links = links
    return reply


@router.post("/instances/{instance}/databases", status_code=202)
async def create(instance: str, body: CreateDatabases, caller: CallerDep, control: ControlDep) -> Response:
    """Create databases."""
    specs = database_specs(body.databases)
    agent, server = await server_of(control, caller.project, instance)
    if specs:
        await agent.create_databases(server, specs)
    return accepted()


@router.delete("/instances/{instance}/databases/{name:path}", status_code=202)
async def delete(instance: str, name: str, caller: CallerDep, control: ControlDep) -> Response:
    """Drop a database."""
    agent, server = await server_of(control, caller.project, instance)
    await agent.drop_database(server, name)
    return accepted()
