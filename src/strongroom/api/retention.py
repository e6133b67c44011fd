"""Extensions: ``/retention`` (what becomes of each backup, and why), ``/removals`` (what was removed), ``/protection``."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime, Field
from sqlalchemy import select

from strongroom.api.http.caller import MAX_PAGE, Caller, CallerDep, ControlDep, ListedDep, project_router
from strongroom.api.http.fields import Instant, OwnBody, Ref, RowView, Segment, View
from strongroom.catalog import Removal
from strongroom.flows import (
    RETENTION,
    Outlook,
    Overview,
    Site,
    Waiting,
    confirm_retention,
    find_owner,
    show_protection,
    show_retention,
)

router = project_router("retention")


class OneOutlook(View):
    """Reply about the retention of a database."""

    retention: Outlook


class Confirmation(OwnBody):
    """What is confirmed."""

    code: Ref = Field(description="`waiting.code` of the retention: what the caller has seen.")


class Confirm(OwnBody):
    """Body of a confirmation."""

    confirm: Confirmation


class OneWaiting(View):
    """What was confirmed."""

    confirmed: Waiting


class RemovalView(RowView):
    """A backup that was removed."""

    id: str = Field(validation_alias="backup_id")
    name: str
    instance_name: str
    kind: str
    stored_size: int | None
    created: Instant | None
    marked: Instant | None = Field(description="When it was deleted or expired; null: it was removed at once.")
    removed: Instant | None
    reason: str
    asked_by: str = Field(description="Who deleted it or confirmed its removal; empty: retention.")
    policy: str
    policy_changed_by: str = Field(description="Who had changed the policy last.")


class ManyRemovals(View):
    """Reply with removals."""

    removals: list[RemovalView]


class OneOverview(View):
    """Reply about the status of all databases."""

    protection: Overview


@router.get("/retention/{instance}")
def show(
    instance: Segment,
    caller: CallerDep,
    control: ControlDep,
    at: Annotated[AwareDatetime | None, Query(description="Simulate this time: with the backups of all runs until then.")] = None,
    policy: Annotated[Ref | None, Query(description="Simulate another policy: name or id.")] = None,
) -> OneOutlook:
    """Extension: for each backup of an instance or cluster, why it is kept or goes. Changes nothing."""
    return OneOutlook(retention=show_retention(control, _project(caller, control, instance), instance, at=at, policy=policy))


@router.post("/retention/{instance}/confirm")
def confirm(instance: Segment, body: Confirm, caller: CallerDep, control: ControlDep) -> OneWaiting:
    """Extension: let retention continue although a brake has stopped it."""
    project = _project(caller, control, instance)
    confirmed = confirm_retention(control, project, instance, body.confirm.code, is_admin=caller.principal.is_admin)
    control.alarm.wake(RETENTION)
    return OneWaiting(confirmed=confirmed)


@router.get("/removals")
def removals(
    caller: CallerDep,
    control: ControlDep,
    project: ListedDep,
    database: Annotated[Ref | None, Query(description="Only of this instance or cluster: id or unique name.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="At most this many.")] = MAX_PAGE,
) -> ManyRemovals:
    """Extension: backups that were removed, the newest removal first."""
    query = select(Removal).order_by(Removal.removed.desc(), Removal.backup_id).limit(limit)
    if project is not None:
        query = query.where(Removal.project == project)
    with control.catalog.read() as session:
        if database is not None:
            query = query.where(Removal.database_id == find_owner(session, _project(caller, control, database), database).id)
        rows = session.scalars(query).all()
    return ManyRemovals(removals=[RemovalView.of(row) for row in rows])


@router.get("/protection")
def protection(control: ControlDep, project: ListedDep) -> OneOverview:
    """Extension: how well each database is protected, from what the stores contain."""
    return OneOverview(protection=show_protection(control, project))


def _project(caller: Caller, control: Site, ref: str) -> str:
    """The project in which to find the database."""
    found = caller.owner(control, "instance", ref)
    return found if found != caller.project else caller.owner(control, "cluster", ref)
