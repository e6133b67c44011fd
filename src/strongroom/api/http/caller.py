"""Parameters of handlers (control, caller, page) and their replies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache, partial, wraps
from typing import Annotated, Any, ParamSpec, cast
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from strongroom.api.http.fields import SLASH, Link, View
from strongroom.api.http.gate import PRINCIPAL
from strongroom.catalog import Backup, Cluster, Instance, Job, Policy
from strongroom.catalog.find import owner_of
from strongroom.catalog.queries import Page
from strongroom.errors import Forbidden, InvalidRequest
from strongroom.flows import Site
from strongroom.identity import Method, Principal, authorize

MAX_PAGE = 1000
"""Rows per page, default and maximum: the stock client looks up names only on the first page."""
JOB_HEADER = "Strongroom-Job"
PREFIX = "/v1.0/{project}"
"""Prefix of the path of every route in a project."""


async def _control(request: Request) -> Site:
    control: Site = request.app.state.control
    principal: Principal | None = request.scope.get(PRINCIPAL)
    return control.on_behalf(principal.token) if principal else control


ControlDep = Annotated[Site, Depends(_control)]
P = ParamSpec("P")


def reads_catalog(handler: Callable[P, Response]) -> Callable[P, Awaitable[Response]]:
    """Decorate a handler that only reads the catalog of its parameter ``control``.

    SQLite is read in the event loop: readers never wait there, and threads would take three times as long. Handlers take
    turns, and the loop runs between two of them. Any other database is read in a thread.
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


OWNED: dict[str, type[Instance] | type[Backup] | type[Job] | type[Cluster] | type[Policy]] = {
    "cluster": Cluster,
    "instance": Instance,
    "backup": Backup,
    "job": Job,
    "policy": Policy,
}
"""Path parameters that name a resource of a project."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The user, the project, and the base URL of the service in this request."""

    principal: Principal
    base: str
    project: str
    """The project in the path, or the owner's project if an administrator gives the id of another project's resource."""
    may_operate: Callable[[], bool]
    """Whether the caller may specify paths and commands of the host."""

    def links(self, collection: str, item: str) -> list[Link]:
        """The links ``self`` and ``bookmark`` of a resource."""
        return list(_links(self.base, self.principal.project, collection, item))

    def owner(self, control: Site, noun: str, ref: str) -> str:
        """The project in which to find a resource (``noun`` of OWNED): the owner's if an administrator gives its id."""
        if not self.principal.everywhere:
            return self.project
        with control.catalog.read() as session:
            return owner_of(session, OWNED[noun], self.project, ref) or self.project


ProjectSegment = Annotated[str, Path(description="Id of the project.")]


async def authorized(request: Request, control: ControlDep, project: ProjectSegment) -> Caller:
    """The authorized caller. Every route in a project depends on it. Raises Forbidden.

    ``project`` is only declared for the OpenAPI description; the gate has checked it.
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


class _Route(APIRoute):
    """A route that shares the dependencies of its handler with the other routes: they use 8 KB each."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _share_dependencies(self.dependant)


_shared: dict[tuple[object, str | None], Dependant] = {}
"""What FastAPI knows of a dependency, by its function and the name of the parameter."""


def _share_dependencies(dependant: Dependant) -> None:
    dependant.dependencies[:] = [_shared.setdefault((each.call, each.name), each) for each in dependant.dependencies]
    for each in dependant.dependencies:
        _share_dependencies(each)


def project_router(tag: str) -> APIRouter:
    """A router for routes in a project. Its routes are added to the application as they are.

    FastAPI's ``include_router`` would build each of them once more on the first request, which takes 9 MB.
    """
    return APIRouter(prefix=PREFIX, dependencies=[Depends(authorized)], tags=[tag], route_class=_Route)


def route_name(method: str, route: APIRoute) -> str:
    """The name of the route in the authorization rules."""
    return f"{method} {route.path_format.removeprefix(PREFIX)}"


async def _page(
    limit: Annotated[int, Query(ge=1, description=f"Rows per page, at most {MAX_PAGE}.")] = MAX_PAGE,
    marker: Annotated[str | None, Query(max_length=600, description="Last item of the previous page.")] = None,
) -> Page:
    return Page(min(limit, MAX_PAGE), marker)


async def _listed(
    caller: Annotated[Caller, Depends(authorized)],
    project_id: Annotated[str | None, Query(description="List this project; administrators only.")] = None,
    all_projects: Annotated[bool, Query(description="List all projects; administrators only.")] = False,
) -> str | None:
    """The project to list; None: all."""
    if project_id is None and not all_projects:
        return caller.project
    if not caller.principal.is_admin:
        raise Forbidden("only administrators may list other projects", remedy="Leave project_id and all_projects out.")
    return project_id


CallerDep = Annotated[Caller, Depends(authorized)]
PageDep = Annotated[Page, Depends(_page)]
ListedDep = Annotated[str | None, Depends(_listed)]


def require_known_value(name: str, value: str, known: Sequence[str]) -> str:
    """The value of a filter. Raises InvalidRequest, with a suggestion, if no row can have it."""
    if value in known:
        return value
    by_word = {word.lower(): word for word in known}
    close = get_close_matches(value.lower()[:64], by_word, n=1)
    hint = f"Did you mean {by_word[close[0]]}? " if close else ""
    raise InvalidRequest(f"query parameter {name}: {value[:64]!r} is unknown", remedy=f"{hint}Known are: {', '.join(known)}.")


def make_next_links(request: Request, page: Page, marker: str) -> list[Link]:
    """The link to the next page, with the filters of this one."""
    query = urlencode({**request.query_params, "limit": page.limit, "marker": marker})
    return [Link(href=f"{str(request.base_url).rstrip('/')}{request.scope['raw_path'].decode('latin-1')}?{query}", rel="next")]


def reply(view: View) -> Response:
    """Serialize the view without FastAPI's second validation in a thread. Only fields that were set appear."""
    return Response(view.__pydantic_serializer__.to_json(view, exclude_unset=True), media_type="application/json")


def accepted(job: Job | None = None) -> Response:
    """An empty reply 202 whose header contains the id of the job."""
    headers = {JOB_HEADER: job.id} if job else None
    return Response(status_code=202, headers=headers, media_type="application/json")


def make_page_of_names(request: Request, page: Page, names: Iterable[str]) -> tuple[list[str], list[Link]]:
    """One page of a list sorted by name, and the link to the next page, if any. The marker is the last name."""
    rest = sorted(name for name in names if page.marker is None or name > page.marker)
    shown = rest[: page.limit]
    return shown, make_next_links(request, page, shown[-1]) if len(rest) > page.limit else []
