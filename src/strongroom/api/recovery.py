"""Extensions: ``/instances/{instance}/window`` and ``…/recovery-plan``: to which moments an instance can be restored, and how."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime

from strongroom.api.databases.routes import connect_server
from strongroom.api.http.caller import MAX_PAGE, CallerDep, ControlDep, project_router
from strongroom.api.http.fields import Moment, Name, OwnBody, Segment, Text, View
from strongroom.api.http.placement import PlacementDep
from strongroom.flows import SEARCHES, FoundEvent, RecoveryPlan, RecoveryWindow, Search, plan_recovery, search_log, show_window

router = project_router("recovery")


class NewPoint(OwnBody):
    """The name of a restore point."""

    name: Name


class CreatePoint(OwnBody):
    """Body of a create."""

    restore_point: NewPoint


class PointView(View):
    """A restore point in the log of the server. It can be restored as soon as the log up to it is archived."""

    name: str
    position: str


class OnePoint(View):
    """Reply about a restore point."""

    restore_point: PointView


class OneWindow(View):
    """Reply about what can be restored."""

    window: RecoveryWindow


class OneRecoveryPlan(View):
    """Reply with the plan of a restore to a moment."""

    plan: RecoveryPlan


class ManyEvents(View):
    """Reply with what was found in a log."""

    events: list[FoundEvent]


@router.get("/instances/{instance}/window")
def window(instance: Segment, caller: CallerDep, control: ControlDep) -> OneWindow:
    """Extension: to which moments the instance can be restored, and every gap with its cause. A deleted instance by its id."""
    return OneWindow(window=show_window(control, caller.project, instance))


@router.get("/instances/{instance}/recovery-plan")
async def plan(
    instance: Segment,
    caller: CallerDep,
    control: ControlDep,
    placement: PlacementDep,
    target: Annotated[
        Moment, Query(description="latest, a time with a zone, lsn:X, gtid:X, before-gtid:X or point:NAME.")
    ] = "latest",
    in_place: Annotated[str | None, Query(description="Restore in place of this instance: id or unique name.")] = None,
) -> OneRecoveryPlan:
    """Extension: plan a restore of the instance's past to a moment; changes nothing. Refused (409) if it cannot be reached."""
    placement.check(caller, in_place)
    found = await plan_recovery(
        control,
        caller.project,
        instance,
        target,
        in_place=in_place,
        host=placement.host,
        flavor=placement.flavor,
        size=placement.size,
        tablespaces=placement.tablespaces,
    )
    if not caller.principal.is_admin:
        found = found.model_copy(update={"restore": found.restore.model_copy(update={"host": None})})
    return OneRecoveryPlan(plan=found)


@router.get("/instances/{instance}/log-events")
def events(
    instance: Segment,
    caller: CallerDep,
    control: ControlDep,
    kind: Annotated[list[Search], Query(description="Only of these kinds. Default: all.")] = [],  # noqa: B006
    table: Annotated[Text | None, Query(description="Only of this table, with or without its database.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Not before this time.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Not after this time.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="At most this many.")] = MAX_PAGE,
) -> ManyEvents:
    """Extension: when tables were dropped, truncated or deleted from, by the log archive of the instance; newest first."""
    found = search_log(
        control, caller.project, instance, kinds=kind or SEARCHES, table=table, since=since, until=until, limit=limit
    )
    return ManyEvents(events=found)


@router.post("/instances/{instance}/restore-points")
async def create_point(instance: Segment, body: CreatePoint, caller: CallerDep, control: ControlDep) -> OnePoint:
    """Extension: write a named restore point into the log of a running server; PostgreSQL only."""
    name = body.restore_point.name
    async with connect_server(control, caller.project, instance) as (agent, row):
        position = await agent.create_restore_point(row.id, name)
    return OnePoint(restore_point=PointView(name=name, position=position))
