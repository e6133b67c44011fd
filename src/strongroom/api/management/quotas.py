"""``/mgmt/quotas/{owner}``: limits and usage of a project; ``/limits``: those of the caller's project."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict

from strongroom.api.http.caller import CallerDep, ControlDep, project_router
from strongroom.api.http.fields import Body, Segment, View
from strongroom.catalog import Quota, quotas
from strongroom.errors import Forbidden, InvalidRequest, NotFound

router = project_router("quotas")

MOST = 2**53
Limit = Annotated[int, Strict(), Field(ge=-1, le=MOST)]


class QuotaView(View):
    """A resource; ``limit`` -1: no limit."""

    resource: str = Field(description="instances, ram (MB), volumes (GB), backups.")
    in_use: int
    reserved: int = Field(0, description="Always 0: requested resources count as in use immediately.")
    limit: int


class ManyQuotas(View):
    """Reply with every resource."""

    quotas: list[QuotaView]


class ChangeQuotas(Body):
    """New limits by resource; -1: no limit."""

    quotas: dict[str, Limit]


class ChangedQuotas(View):
    """The limits that were set."""

    quotas: dict[str, int]


class AbsoluteLimits(View):
    """-1: no limit."""

    verb: str
    max_instances: int
    max_ram: int
    max_volumes: int
    max_backups: int


class Limits(View):
    """Limits of the project; the first is the absolute one."""

    limits: list[AbsoluteLimits]


@router.get("/limits")
def limits(caller: CallerDep, control: ControlDep) -> Limits:
    """Limits of the project."""
    with control.catalog.read() as session:
        most = quotas.limits(session, caller.project, control.settings)
    return Limits(limits=[AbsoluteLimits(verb="ABSOLUTE", **{f"max_{resource}": limit for resource, limit in most.items()})])


@router.get("/mgmt/quotas/{owner}")
def show(owner: Segment, caller: CallerDep, control: ControlDep) -> ManyQuotas:
    """Limits and usage of a project; for other projects, administrators only."""
    if owner != caller.project and not caller.principal.is_admin:
        raise Forbidden("only administrators may see the quotas of other projects")
    with control.catalog.read() as session:
        most = quotas.limits(session, owner, control.settings)
        used = quotas.in_use(session, owner, control.settings)
    return ManyQuotas(quotas=[QuotaView(resource=name, in_use=used[name], reserved=0, limit=most[name]) for name in most])


@router.put("/mgmt/quotas/{owner}")
def update(owner: Segment, body: ChangeQuotas, caller: CallerDep, control: ControlDep) -> ChangedQuotas:
    """Set the limits of a project. Existing resources beyond them remain."""
    if not body.quotas:
        raise InvalidRequest("quotas: name at least one resource", remedy=f"Resources are {', '.join(quotas.RESOURCES)}.")
    if len(owner) > 255:
        raise InvalidRequest("the id of the project has more than 255 characters")
    for resource in body.quotas:
        if resource not in quotas.RESOURCES:
            raise NotFound(
                f"quota resource {resource[:64]!r} cannot be found", remedy=f"Resources are {', '.join(quotas.RESOURCES)}."
            )
    with control.catalog.write() as session:
        for resource, limit in body.quotas.items():
            session.merge(Quota(project=owner, resource=resource, hard_limit=limit))
    return ChangedQuotas(quotas=body.quotas)
