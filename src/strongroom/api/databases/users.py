"""``/instances/{instance}/users``: users and their databases. In the path, a user is ``name`` (host ``%``) or ``name@host``."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request, Response
from pydantic import Field, model_validator

from strongroom import datastores
from strongroom.api.databases.requests import DatabaseRef, HostName, Password, UserBody, UserName, parse_user, user_specs
from strongroom.api.databases.routes import connect_server
from strongroom.api.http.caller import CallerDep, ControlDep, PageDep, accepted, make_page_of_names, project_router
from strongroom.api.http.fields import Body, Link, Segment, View
from strongroom.catalog import Instance
from strongroom.datastores import UserChange, UserSpec
from strongroom.errors import NotFound

router = project_router("databases and users")


class CreateUsers(Body):
    """Body of a create."""

    users: list[UserBody]


class Grant(Body):
    """Body of a grant."""

    databases: list[DatabaseRef]


class UserAttributes(Body):
    """Changes; missing fields are not changed."""

    name: UserName = ""
    host: HostName = ""
    password: Password = Field("", repr=False)

    @model_validator(mode="after")
    def _some(self) -> UserAttributes:
        if not (self.name or self.host or self.password):
            raise ValueError("must contain a name, a host or a password")
        return self


class ChangeUser(Body):
    """Body of a change."""

    user: UserAttributes


class NewPassword(Body):
    """A new password of a user."""

    name: UserName
    host: HostName | None = None
    password: Password = Field(repr=False)


class ChangePasswords(Body):
    """Body of a change of passwords."""

    users: list[NewPassword]


class DatabaseNameView(View):
    """A database that the user may use."""

    name: str


class UserView(View):
    """A user, without the password."""

    name: str
    host: str
    databases: list[DatabaseNameView]


class OneUser(View):
    """Reply about one user."""

    user: UserView


class ManyUsers(View):
    """Reply with a page of users."""

    users: list[UserView]
    links: list[Link] = Field(default_factory=list)


class UserDatabases(View):
    """Reply with the databases of a user."""

    databases: list[DatabaseNameView]


@router.get("/instances/{instance}/users/{user}/databases")
async def grants(instance: Segment, user: Segment, caller: CallerDep, control: ControlDep) -> UserDatabases:
    """Databases that the user may use."""
    async with connect_server(control, caller.project, instance) as (agent, row):
        return UserDatabases(databases=_view(find_user(row, await agent.users(row.id), user)).databases)


@router.put("/instances/{instance}/users/{user}/databases", status_code=202)
async def grant(instance: Segment, user: Segment, body: Grant, caller: CallerDep, control: ControlDep) -> Response:
    """Grant the user full rights on databases."""
    async with connect_server(control, caller.project, instance) as (agent, row):
        spec = find_user(row, await agent.users(row.id), user)
        if body.databases:
            await agent.grant(row.id, spec.name, spec.host, [d.name for d in body.databases])
    return accepted()


@router.delete("/instances/{instance}/users/{user}/databases/{database}", status_code=202)
async def revoke(instance: Segment, user: Segment, database: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Revoke the rights on a database."""
    async with connect_server(control, caller.project, instance) as (agent, row):
        spec = find_user(row, await agent.users(row.id), user)
        await agent.revoke(row.id, spec.name, spec.host, database)
    return accepted()


@router.get("/instances/{instance}/users", response_model_exclude_unset=True)
async def index(instance: Segment, request: Request, caller: CallerDep, control: ControlDep, page: PageDep) -> ManyUsers:
    """Users of the instance by name, without system users."""
    async with connect_server(control, caller.project, instance) as (agent, row):
        found = {f"{u.name}@{u.host}": u for u in await agent.users(row.id)}
    names, links = make_page_of_names(request, page, found)
    reply = ManyUsers(users=[_view(found[name]) for name in names])
    if links:
        reply.links = links
    return reply


@router.post("/instances/{instance}/users", status_code=202)
async def create(instance: Segment, body: CreateUsers, caller: CallerDep, control: ControlDep) -> Response:
    """Create users with full rights on their databases."""
    specs = user_specs(body.users)
    async with connect_server(control, caller.project, instance) as (agent, row):
        if specs:
            await agent.create_users(row.id, specs)
    return accepted()


@router.put("/instances/{instance}/users", status_code=202)
async def change_passwords(instance: Segment, body: ChangePasswords, caller: CallerDep, control: ControlDep) -> Response:
    """Change passwords: of all the users, or of none if one does not exist."""
    async with connect_server(control, caller.project, instance) as (agent, row):
        known = await agent.users(row.id)
        specs = [(_one(known, w.name, w.host or "%"), w.password) for w in body.users]
        for spec, password in specs:
            await agent.change_user(row.id, spec.name, spec.host, UserChange(password=password))
    return accepted()


@router.put("/instances/{instance}/users/{user}", status_code=202)
async def change(instance: Segment, user: Segment, body: ChangeUser, caller: CallerDep, control: ControlDep) -> Response:
    """Change a user's name, host or password; its rights remain."""
    requested = UserChange(name=body.user.name or None, host=body.user.host or None, password=body.user.password or None)
    async with connect_server(control, caller.project, instance) as (agent, row):
        spec = find_user(row, await agent.users(row.id), user)
        await agent.change_user(row.id, spec.name, spec.host, requested)
    return accepted()


@router.get("/instances/{instance}/users/{user}")
async def show(instance: Segment, user: Segment, caller: CallerDep, control: ControlDep) -> OneUser:
    """One user."""
    async with connect_server(control, caller.project, instance) as (agent, row):
        return OneUser(user=_view(find_user(row, await agent.users(row.id), user)))


@router.delete("/instances/{instance}/users/{user}", status_code=202)
async def delete(instance: Segment, user: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Drop a user."""
    async with connect_server(control, caller.project, instance) as (agent, row):
        spec = find_user(row, await agent.users(row.id), user)
        await agent.drop_user(row.id, spec.name, spec.host)
    return accepted()


def find_user(row: Instance, users: Sequence[UserSpec], ref: str) -> UserSpec:
    """Find the user in a path. Raises NotFound."""
    return _one(users, *parse_user(ref, hosts=datastores.get(row.datastore).require_administration().users_have_hosts))


def _one(users: Sequence[UserSpec], name: str, host: str) -> UserSpec:
    for user in users:
        if (user.name, user.host) == (name, host):
            return user
    others = [f"{user.name}@{user.host}" for user in users if user.name == name]
    raise NotFound(
        f"user {name}@{host} cannot be found",
        remedy=f"Name the host: {', '.join(others)}." if others else "See `strongroom user list`.",
    )


def _view(user: UserSpec) -> UserView:
    return UserView(name=user.name, host=user.host, databases=[DatabaseNameView(name=d) for d in user.databases])
