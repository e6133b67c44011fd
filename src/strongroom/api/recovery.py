"""Extensions: ``/instances/{instance}/window`` and ``…/recovery-plan``: to which moments an instance can be restored, and how."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime

from strongroom.api.http.caller import MAX_PAGE, CallerDep, ControlDep, project_router
from strongroom.api.http.fields import Moment, Name, Segment, Text, View
from strongroom.errors import InvalidRequest
from strongroom.flows import SEARCHES, FoundEvent, RecoveryPlan, RecoveryWindow, Search, plan_recovery, search_log, show_window
from strongroom.identity import authorize

router = project_router("recovery")


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
    target: Annotated[
        Moment,
        Query(description="latest, a time with a zone, lsn:X, gtid:X, before-gtid:X or point:NAME."),
    ],
    in_place: Annotated[str | None, Query(description="Restore in place of this instance: id or unique name.")] = None,
    host: Annotated[
        str | None, Query(description="Host of the new instance, for administrators. Default: the host the service would choose.")
    ] = None,
    flavor: Annotated[str | None, Query(description="Flavor of the new instance. Default: the service's.")] = None,
    size: Annotated[int | None, Query(ge=1, lt=10**9, description="GB of the new instance. Default: what it needs.")] = None,
    tablespace: Annotated[list[Name], Query(description="PostgreSQL: tablespaces to restore to separate directories.")] = [],  # noqa: B006
) -> OneRecoveryPlan:
    """Extension: plan a restore of the instance's past to a moment; changes nothing. Refused (409) if it cannot be reached."""
    if in_place is not None and not (host is None and flavor is None and size is None):
        raise InvalidRequest(
            "a restore in place keeps host, flavor and size of the instance", remedy="Leave host, flavor and size out."
        )
    if host is not None:
        authorize(caller.principal, "POST /instances host")
    found = await plan_recovery(
        control,
        caller.project,
        instance,
        target,
        in_place=in_place,
        host=host,
        flavor=flavor,
        size=size,
        tablespaces=tablespace,
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
