"""What handlers ask for: the control, the caller, a page, and the reply to something that takes time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import Depends, Query, Request, Response

from strongroom.api._fields import Link, Segment
from strongroom.catalog import Job
from strongroom.catalog.queries import Page
from strongroom.errors import InvalidRequest
from strongroom.flows import Control
from strongroom.identity import Principal

MAX_PAGE = 1000
"""Rows of a page, by default and at most: the stock client looks names up on the first page only."""
JOB_HEADER = "Strongroom-Job"


def _control(request: Request) -> Control:
    control: Control = request.app.state.control
    return control


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and under which address the service is known to them."""

    principal: Principal
    base: str

    @property
    def project(self) -> str:
        """The project of the request."""
        return self.principal.project

    def links(self, collection: str, item: str) -> list[Link]:
        """The two links that things of Trove have."""
        return [
            Link(href=f"{self.base}/v1.0/{quote(self.project, safe='')}/{collection}/{quote(item, safe='')}", rel="self"),
            Link(href=f"{self.base}/{collection}/{quote(item, safe='')}", rel="bookmark"),
        ]


def _caller(request: Request, project: Segment) -> Caller:
    if len(project) > 255 or any(ord(c) < 32 or ord(c) == 127 for c in project):
        raise InvalidRequest("the id of the project has more than 255 characters, or control characters in it")
    principal: Principal = request.app.state.method.authenticate(request, project)
    return Caller(principal, str(request.base_url).rstrip("/"))


def _page(
    limit: Annotated[int, Query(ge=1, description=f"Rows of a page, at most {MAX_PAGE}.")] = MAX_PAGE,
    marker: Annotated[str | None, Query(max_length=600, description="Where the page before ended.")] = None,
) -> Page:
    return Page(min(limit, MAX_PAGE), marker)


ControlDep = Annotated[Control, Depends(_control)]
CallerDep = Annotated[Caller, Depends(_caller)]
PageDep = Annotated[Page, Depends(_page)]


def next_links(request: Request, page: Page, marker: str) -> list[Link]:
    """The link to the next page, with the filters of this one."""
    query = urlencode({**request.query_params, "limit": page.limit, "marker": marker})
    return [Link(href=f"{str(request.base_url).rstrip('/')}{request.scope['raw_path'].decode('latin-1')}?{query}", rel="next")]


def accepted(job: Job | None = None) -> Response:
    """202 and nothing more; the header names the job that was started."""
    headers = {JOB_HEADER: job.id} if job else None
    return Response(status_code=202, headers=headers, media_type="application/json")


def page_of_names(request: Request, page: Page, names: Iterable[str]) -> tuple[list[str], list[Link]]:
    """A page of what is listed by name, and the link to the next one, if there is one. The marker is the last name."""
    rest = sorted(name for name in names if page.marker is None or name > page.marker)
    shown = rest[: page.limit]
    return shown, next_links(request, page, shown[-1]) if len(rest) > page.limit else []
