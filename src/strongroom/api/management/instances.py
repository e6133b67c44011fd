"""``/mgmt/instances``: the instances of all projects, for administrators."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import ConfigDict, Field
from sqlalchemy.orm import Session

from strongroom.api.http.caller import Caller, CallerDep, ControlDep, PageDep, accepted, make_next_links, project_router
from strongroom.api.http.fields import Body, Link, Segment, View, format_naive
from strongroom.api.instances.routes import ClusteredQuery, cluster_filter
from strongroom.api.instances.views import InstanceView, make_views
from strongroom.catalog import Instance
from strongroom.catalog.queries import newest_first
from strongroom.errors import InvalidRequest, Unsupported
from strongroom.flows import Site, find_instance
from strongroom.flows.kinds.lifecycle import request_action, request_reset

router = project_router("management")

UNSUPPORTED = ("rebuild", "migrate", "update")
"""Trove's actions on virtual machines; there are none here."""


class ServerOf(View):
    """Trove's view of the virtual machine; here, of the server process."""

    id: str | None
    name: str
    status: str = Field(description="The state reported by the agent: new, stopped, starting, running, swapping, failed.")
    tenant_id: str
    host: str


class ManagedInstance(InstanceView):
    """An instance, with Trove's fields for administrators."""

    server: ServerOf
    service_status: str
    task_description: str
    deleted: bool
    deleted_at: str | None


class OneManagedInstance(View):
    """Reply about one instance."""

    instance: ManagedInstance


class ManyManagedInstances(View):
    """Reply with a page of instances."""

    instances: list[ManagedInstance]
    links: list[Link] = Field(default_factory=list)


class ManagementAction(Body):
    """Exactly one action."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    reboot: dict[str, Any] = Field(default_factory=dict, description="Restarts the server process.")
    stop: dict[str, Any] = Field(default_factory=dict)
    reset_task_status: dict[str, Any] = Field(default_factory=dict, alias="reset-task-status")


@router.get("/mgmt/instances", response_model_exclude_unset=True)
def index(
    request: Request,
    caller: CallerDep,
    control: ControlDep,
    page: PageDep,
    project_id: Annotated[str | None, Query(description="Only this project.")] = None,
    deleted: Annotated[bool, Query(description="List deleted instances instead.")] = False,
    include_clustered: ClusteredQuery = False,
) -> ManyManagedInstances:
    """Instances of all projects, newest first."""
    with control.catalog.read() as session:
        rows, marker = newest_first(session, Instance, page, project_id, cluster_filter(include_clustered), deleted=deleted)
        reply = ManyManagedInstances(instances=_views(session, rows, caller, control))
    if marker:
        reply.links = make_next_links(request, page, marker)
    return reply


@router.get("/mgmt/instances/{instance}", response_model_exclude_unset=True)
def show(instance: Segment, caller: CallerDep, control: ControlDep) -> OneManagedInstance:
    """One instance of any project, by id or unique name."""
    with control.catalog.read() as session:
        (seen,) = _views(session, [find_instance(session, None, instance)], caller, control)
    return OneManagedInstance(instance=seen)


@router.post("/mgmt/instances/{instance}/action", status_code=202)
def act(instance: Segment, body: ManagementAction, caller: CallerDep, control: ControlDep) -> Response:
    """Restart or stop the server, or abandon the instance's current task."""
    asked = body.model_fields_set | set(body.model_extra or {})
    known = "Actions are reboot, stop, reset-task-status."
    if len(asked) != 1:
        raise InvalidRequest(f"the body must name one action, not {len(asked)}", remedy=known)
    with control.catalog.read() as session:
        row = find_instance(session, None, instance)
    match asked.pop():
        case "reboot":
            return accepted(request_action(control, row.project, row.id, "restart"))
        case "stop":
            return accepted(request_action(control, row.project, row.id, "stop"))
        case "reset_task_status":
            request_reset(control, row.project, row.id)
            return accepted()
        case name if name in UNSUPPORTED:
            raise Unsupported(f"action {name} is not supported: instances are processes, not virtual machines", remedy=known)
        case name:
            raise InvalidRequest(f"there is no action {name[:64]!r}", remedy=known)


def _views(session: Session, rows: list[Instance], caller: Caller, control: Site) -> list[ManagedInstance]:
    seen = make_views(session, rows, caller, control.settings.service.region)
    return [_managed(view, row) for view, row in zip(seen, rows, strict=True)]


def _managed(view: InstanceView, row: Instance) -> ManagedInstance:
    return ManagedInstance(
        **{name: getattr(view, name) for name in view.model_fields_set},
        server=ServerOf(id=view.server_id, name=row.name, status=row.state, tenant_id=row.project, host=row.host),
        service_status=view.operating_status,
        task_description=row.task or "No tasks for the instance.",
        deleted=row.deleted is not None,
        deleted_at=format_naive(row.deleted) if row.deleted else None,
    )
