"""``/backup_strategies``: the container that backups of an instance, or of the whole project, go to."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Query, Response
from pydantic import ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.api.http.caller import Caller, CallerDep, ControlDep, accepted, project_router
from strongroom.api.http.fields import Body, Container, Text, View
from strongroom.catalog import Strategy
from strongroom.errors import Forbidden, NotFound
from strongroom.flows import find_instance

router = project_router("backup strategies")


class NewStrategy(Body):
    """A strategy to set."""

    model_config = ConfigDict(extra="forbid")

    swift_container: Container
    instance_id: Text = ""


class CreateStrategy(Body):
    """Body of a create."""

    backup_strategy: NewStrategy


class StrategyView(View):
    """A strategy; ``instance_id`` is empty if it applies to the whole project."""

    project_id: str
    instance_id: str
    backend: str
    swift_container: str


class OneStrategy(View):
    """Reply about one strategy."""

    backup_strategy: StrategyView


class ManyStrategies(View):
    """Reply with all strategies."""

    backup_strategies: list[StrategyView]


@router.post("/backup_strategies", status_code=202)
def create(body: CreateStrategy, caller: CallerDep, control: ControlDep) -> OneStrategy:
    """Set the strategy of an instance, or of the project."""
    requested = body.backup_strategy
    project = caller.owner(control, "instance", requested.instance_id) if requested.instance_id else caller.project
    with control.catalog.write() as session:
        instance_id = find_instance(session, project, requested.instance_id).id if requested.instance_id else ""
        row = session.merge(Strategy(project=project, instance_id=instance_id, container=requested.swift_container))
        return OneStrategy(backup_strategy=_view(row, control.settings.storage.driver))


@router.get("/backup_strategies")
def index(
    caller: CallerDep,
    control: ControlDep,
    instance_id: Annotated[str | None, Query(description="Id or unique name.")] = None,
    project_id: Annotated[str | None, Query(description="Another project; administrators only.")] = None,
    all_projects: Annotated[bool, Query(description="Extension: list all projects; administrators only.")] = False,
) -> ManyStrategies:
    """Strategies of the project."""
    query = select(Strategy).order_by(Strategy.created)
    if not all_projects:
        query = query.where(Strategy.project == _project(caller, project_id))
    elif not caller.principal.is_admin:
        raise _forbid_other_project()
    with control.catalog.read() as session:
        if instance_id is not None:
            query = query.where(Strategy.instance_id == _instance_id(session, caller.project, instance_id))
        rows = session.scalars(query).all()
    return ManyStrategies(backup_strategies=[_view(row, control.settings.storage.driver) for row in rows])


@router.delete("/backup_strategies", status_code=202)
def delete(
    caller: CallerDep,
    control: ControlDep,
    instance_id: Annotated[str, Query(description="Id or unique name. Default: the strategy of the project.")] = "",
    project_id: Annotated[str | None, Query(description="Another project; administrators only.")] = None,
) -> Response:
    """Delete a strategy; not an error if there is none."""
    project = caller.owner(control, "instance", instance_id) if project_id is None else _project(caller, project_id)
    with control.catalog.write() as session:
        key = _instance_id(session, project, instance_id) if instance_id else ""
        row = session.get(Strategy, (project, key))
        if row is not None:
            session.delete(row)
    return accepted()


def _project(caller: Caller, asked: str | None) -> str:
    if asked is None or asked == caller.project:
        return caller.project
    if not caller.principal.is_admin:
        raise _forbid_other_project()
    return asked


def _forbid_other_project() -> Forbidden:
    return Forbidden("only administrators may see or change the strategies of other projects")


def _instance_id(session: Session, project: str, ref: str) -> str:
    """Strategies outlive instances, so any UUID is valid."""
    try:
        return find_instance(session, project, ref).id
    except NotFound:
        try:
            return str(UUID(ref))
        except ValueError:
            pass
        raise


def _view(row: Strategy, backend: str) -> StrategyView:
    return StrategyView(project_id=row.project, instance_id=row.instance_id, backend=backend, swift_container=row.container)
