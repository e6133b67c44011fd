"""About the service itself: version documents, health, checks."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from pydantic import Field
from sqlalchemy import select

from strongroom.agent.checks import Check, CheckRequest, check_service
from strongroom.api.http.caller import CallerDep, ControlDep, project_router
from strongroom.api.http.fields import Link, View
from strongroom.errors import StrongroomError
from strongroom.flows import Site, check_hosts, check_request

open_router = APIRouter(tags=["service"])
"""Routes that need no principal."""
router = project_router("service")


class VersionDocument(View):
    """A version of the API."""

    id: str
    status: str
    updated: str
    links: list[Link]


class Versions(View):
    """Versions of the API."""

    versions: list[VersionDocument]


class OneVersionDocument(View):
    """Reply about the one version."""

    version: VersionDocument


class CheckView(View):
    """A finding on a host or in the service itself."""

    host: str = Field(description="Name of the host, or `service` for the service itself.")
    name: str
    level: str = Field(description="ok, warning or error.")
    message: str
    remedy: str


class ManyChecks(View):
    """Reply with all checks."""

    checks: list[CheckView]


def _document(request: Request) -> VersionDocument:
    link = Link(rel="self", href=f"{str(request.base_url).rstrip('/')}/v1.0/")
    return VersionDocument(id="v1.0", status="CURRENT", updated="2012-08-01T00:00:00Z", links=[link])


@open_router.get("/")
def versions(request: Request) -> Versions:
    """Versions of the API; answers as soon as the service is ready."""
    return Versions(versions=[_document(request)])


@open_router.get("/v1.0")
@open_router.get("/v1.0/")
def version(request: Request) -> OneVersionDocument:
    """The current version."""
    return OneVersionDocument(version=_document(request))


@open_router.get("/healthcheck", response_class=PlainTextResponse)
def healthcheck(control: ControlDep) -> str:
    """Returns OK if the catalog answers."""
    with control.catalog.read() as session:
        session.execute(select(1))
    return "OK"


@router.get("/checks")
async def checks(caller: CallerDep, control: ControlDep) -> ManyChecks:
    """Extension: check the service's configuration, every host, and access to the store."""
    own = await asyncio.to_thread(check_service, control.settings)
    requests = await asyncio.to_thread(
        lambda: {name: check_request(control, caller.project, name) for name in control.agents.names}
    )
    found = await asyncio.gather(*(_checks(control, name, request) for name, request in requests.items()))
    return ManyChecks(
        checks=[_view(SERVICE, check) for check in [*own, *await asyncio.to_thread(check_hosts, control)]]
        + [check for of_host in found for check in of_host]
    )


SERVICE = "service"
"""Shown as the host in checks of the service itself."""


def _view(host: str, check: Check) -> CheckView:
    return CheckView(host=host, name=check.name, level=check.level, message=check.message, remedy=check.remedy)


async def _checks(control: Site, host: str, request: CheckRequest) -> list[CheckView]:
    try:
        async with control.agents.client(host) as agent:
            found = await agent.checks(request)
    except StrongroomError as error:
        return [CheckView(host=host, name="agent", level="error", message=error.message, remedy=error.remedy)]
    return [_view(host, check) for check in found]
