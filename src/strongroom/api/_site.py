"""About the service itself: version documents, health, checks."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from pydantic import Field
from sqlalchemy import select

from strongroom.api._caller import CallerDep, ControlDep
from strongroom.api._fields import Link, View
from strongroom.errors import StrongroomError
from strongroom.flows import Control

open_router = APIRouter(tags=["service"])
"""Routes that need no principal."""
router = APIRouter(tags=["service"])


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
    """Something that was looked at on a host."""

    host: str
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
    """The one version."""
    return OneVersionDocument(version=_document(request))


@open_router.get("/healthcheck", response_class=PlainTextResponse)
def healthcheck(control: ControlDep) -> str:
    """OK when the catalog answers."""
    with control.catalog.read() as session:
        session.execute(select(1))
    return "OK"


@router.get("/checks")
async def checks(caller: CallerDep, control: ControlDep) -> ManyChecks:
    """Extension: what every agent finds when it looks at its configuration, tools, store and permissions."""
    found = await asyncio.gather(*(_checks(control, name) for name in control.hosts))
    return ManyChecks(checks=[check for of_host in found for check in of_host])


async def _checks(control: Control, host: str) -> list[CheckView]:
    try:
        async with control.agent(host) as agent:
            found = await agent.checks()
    except StrongroomError as error:
        return [CheckView(host=host, name="agent", level="error", message=error.message, remedy=error.remedy)]
    return [CheckView(host=host, name=c.name, level=c.level, message=c.message, remedy=c.remedy) for c in found]
