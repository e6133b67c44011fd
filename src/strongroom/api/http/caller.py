"""What handlers ask for: the control, the caller, a page, and the reply to something that takes time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, partial, wraps
from typing import Annotated, ParamSpec, cast
from urllib.parse import quote, urlencode

from fastapi import Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute

from strongroom.api.http.fields import SLASH, Link, View
from strongroom.api.http.gate import PRINCIPAL
from strongroom.catalog import Backup, Cluster, Instance, Job
from strongroom.catalog.find import owner_of
from strongroom.catalog.queries import Page
from strongroom.errors import Forbidden
from strongroom.flows import Site
from strongroom.identity import Method, Principal, authorize

MAX_PAGE = 1000
"""Rows of a page, by default and at most: the stock client looks names up on the first page only."""
JOB_HEADER = "Strongroom-Job"
PREFIX = "/v1.0/{project}"
"""What the path of every route of a project begins with."""


async def _control(request: Request) -> Site:
    control: Site = request.app.state.control
    principal: Principal | None = request.scope.get(PRINCIPAL)
    return control.on_behalf(principal.token) if principal else control


ControlDep = Annotated[Site, Depends(_control)]
P = ParamSpec("P")


def looking(handler: Callable[P, Response]) -> Callable[P, Awaitable[Response]]:
    """For a handler that only looks into the catalog (its parameter ``control``).

    SQLite is asked at once: readers wait for nobody there, and threads that take turns cost three times what they do. One at a
    time, and between two the loop sees who has come: first come, first served. Any other database is waited for in a thread.
    """

    @wraps(handler)
    async def answer(*args: P.args, **kwargs: P.kwargs) -> Response:
        control = cast(Site, kwargs["control"])
        if not control.catalog.is_local:
            return await run_in_threadpool(handler, *args, **kwargs)
        async with control.turn:
            await asyncio.sleep(0)
            return handler(*args, **kwargs)

    return answer


@lru_cache(4096)
def _links(base: str, project: str, collection: str, item: str) -> tuple[Link, Link]:
    name = quote(item, safe="")
    return (
        Link(href=f"{base}/v1.0/{quote(project, safe='')}/{collection}/{name}", rel="self"),
        Link(href=f"{base}/{collection}/{name}", rel="bookmark"),
    )


OWNED: dict[str, type[Instance] | type[Backup] | type[Job] | type[Cluster]] = {
    "cluster": Cluster,
    "instance": Instance,
    "backup": Backup,
    "job": Job,
}
"""Parameters of paths that name a thing of a project."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, about what project, and under which address the service is known to them."""

    principal: Principal
    base: str
    project: str
    """That of the path; when an administrator names a thing of another project by its id, that of its owner."""
    may_operate: Callable[[], bool]
    """Whether paths and commands of the host may be named."""

    def links(self, collection: str, item: str) -> list[Link]:
        """The two links that things of Trove have."""
        return list(_links(self.base, self.principal.project, collection, item))

    def owner(self, control: Site, noun: str, ref: str) -> str:
        """The project in which a thing (``noun`` of OWNED) is to be looked for: its owner's if an administrator names its id."""
        if not self.principal.everywhere:
            return self.project
        with control.catalog.read() as session:
            return owner_of(session, OWNED[noun], self.project, ref) or self.project


ProjectSegment = Annotated[str, Path(description="Id of the project.")]


async def authorized(request: Request, control: ControlDep, project: ProjectSegment) -> Caller:
    """Who asks, and may. Every route of a project depends on it. Raises Forbidden.

    ``project`` is there for the page that describes the API; the gate has looked at it.
    """
    principal: Principal = request.scope[PRINCIPAL]
    method: Method = request.app.state.method
    route: APIRoute = request.scope["route"]
    authorize(principal, route_name(request.method, route))
    caller = Caller(
        principal,
        base=str(request.base_url).rstrip("/"),
        project=principal.project,
        may_operate=partial(method.may_operate, request, principal),
    )
    for noun in OWNED if principal.everywhere else ():
        if noun in request.path_params:
            ref = request.path_params[noun].replace(SLASH, "/")
            owner = partial(caller.owner, control, noun, ref)
            return replace(caller, project=owner() if control.catalog.is_local else await run_in_threadpool(owner))
    return caller


def route_name(method: str, route: APIRoute) -> str:
    """The name that the rules have for it."""
    return f"{method} {route.path_format.removeprefix(PREFIX)}"


async def _page(
    limit: Annotated[int, Query(ge=1, description=f"Rows of a page, at most {MAX_PAGE}.")] = MAX_PAGE,
    marker: Annotated[str | None, Query(max_length=600, description="Where the page before ended.")] = None,
) -> Page:
    return Page(min(limit, MAX_PAGE), marker)


async def _listed(
    caller: Annotated[Caller, Depends(authorized)],
    project_id: Annotated[str | None, Query(description="Of this project; for administrators.")] = None,
    all_projects: Annotated[bool, Query(description="Of all projects; for administrators.")] = False,
) -> str | None:
    """The project of which things are to be listed; None: of all."""
    if project_id is None and not all_projects:
        return caller.project
    if not caller.principal.is_admin:
        raise Forbidden(
            "only administrators may list the things of other projects", remedy="Leave project_id and all_projects out."
        )
    return project_id


CallerDep = Annotated[Caller, Depends(authorized)]
PageDep = Annotated[Page, Depends(_page)]
ListedDep = Annotated[str | None, Depends(_listed)]


def next_links(request: Request, page: Page, marker: str) -> list[Link]:
    """The link to the next page, with the filters of this one."""
    query = urlencode({**request.query_params, "limit": page.limit, "marker": marker})
    return [Link(href=f"{str(request.base_url).rstrip('/')}{request.scope['raw_path'].decode('latin-1')}?{query}", rel="next")]


def reply(view: View) -> Response:
    """The view as it is: FastAPI would check it once more, on another thread. Only fields that were set appear."""
    return Response(view.__pydantic_serializer__.to_json(view, exclude_unset=True), media_type="application/json")


def accepted(job: Job | None = None) -> Response:
    """202 and nothing more; the header names the job that was started."""
    headers = {JOB_HEADER: job.id} if job else None
    return Response(status_code=202, headers=headers, media_type="application/json")


def page_of_names(request: Request, page: Page, names: Iterable[str]) -> tuple[list[str], list[Link]]:
    """A page of what is listed by name, and the link to the next one, if there is one. The marker is the last name."""
    rest = sorted(name for name in names if page.marker is None or name > page.marker)
    shown = rest[: page.limit]
    return shown, next_links(request, page, shown[-1]) if len(rest) > page.limit else []
