"""Policies and schedules in replies."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, SkipValidation
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.api.http.fields import Instant, RowView, View, format_iso
from strongroom.catalog import Attachment, Policy, PolicyRun, now
from strongroom.errors import InvalidRequest
from strongroom.flows import PastRun, ScheduleState, describe_type, find_database, preview_runs
from strongroom.protection.clock import find_zone
from strongroom.protection.policy import PolicySpec
from strongroom.protection.schedule import warn_about


class AttachedView(View):
    """An instance or cluster that the policy is attached to."""

    id: str
    name: str
    type: str = Field(description="instance or cluster.")


class PauseView(View):
    """A pause of the schedules."""

    since: str
    by: str
    reason: str
    until: str | None


class UpcomingView(View):
    """A time at which a run is due."""

    at: str = Field(description="UTC.")
    local: str = Field(description="In the policy's time zone.")
    kind: str = Field(description="full or incremental.")


class PolicyView(View):
    """A policy."""

    id: str
    name: str
    project_id: str
    settings: SkipValidation[PolicySpec]
    declared: bool = Field(description="The configuration file declares it: it cannot be changed here.")
    attached: list[AttachedView]
    whole_project: bool = Field(description="It applies to all databases of the project without a policy of their own.")
    paused: PauseView | None
    next_runs: list[UpcomingView] = Field(description="The next due times, without the spread.")
    warnings: list[str] = Field(description="What its author may not have meant.")
    created: str
    created_by: str
    updated: str
    updated_by: str


class OnePolicy(View):
    """Reply about one policy."""

    policy: PolicyView


class ManyPolicies(View):
    """Reply with all policies."""

    policies: list[PolicyView]


class RunView(RowView):
    """A run; or several in a row that were missed for one reason."""

    id: str
    due: Instant = Field(validation_alias="nominal", description="When it was due; of several, the first.")
    last_due: Instant = Field(validation_alias="last")
    count: int
    kind: str = Field(description="full or incremental, as the schedule has it; the backup shows what was taken.")
    outcome: str = Field(description="running, succeeded, failed, cancelled, missed.")
    reason: str
    by_hand: bool = Field(description="A user asked for it, in addition to the schedules.")
    attempts: int
    job_id: str | None
    backup_id: str | None
    finished: Instant | None


class PastRunView(RunView):
    """A run, with the names of what it concerns."""

    project_id: str
    database_id: str
    database_name: str = Field(description="Empty if nothing is known of it any more.")
    database_type: str = Field(description="instance or cluster.")
    policy_id: str
    policy_name: str = Field(description="Empty if it was deleted.")
    backup_name: str = Field(description="Of the newest attempt; empty if there is none.")


class ManyRuns(View):
    """Reply with runs."""

    runs: list[PastRunView]


class ScheduleView(View):
    """The schedule of one instance or cluster."""

    database_id: str
    database_name: str
    database_type: str = Field(description="instance or cluster.")
    project_id: str
    policy_id: str
    policy_name: str
    next_run: str | None = Field(description="When the next run begins; null while it waits for its first full backup.")
    next_kind: str
    waiting: str = Field(description="Why a run that is due does not begin yet.")
    paused: bool
    last_run: RunView | None = Field(description="The newest run that began.")
    last_missed: RunView | None = Field(description="The newest run that was missed since then.")


class ManySchedules(View):
    """Reply with schedules."""

    schedules: list[ScheduleView]


def policy_views(session: Session, policies: Sequence[Policy]) -> list[PolicyView]:
    """The policies, with what they are attached to."""
    attached: dict[str, list[str]] = {}
    for row in session.scalars(select(Attachment).where(Attachment.policy_id.in_([policy.id for policy in policies]))):
        attached.setdefault(row.policy_id, []).append(row.database_id)
    return [_view(session, policy, attached.get(policy.id, [])) for policy in policies]


def _view(session: Session, policy: Policy, keys: list[str]) -> PolicyView:
    databases = [row for key in keys if key and (row := find_database(session, key)) is not None]
    try:
        zone, next_runs = find_zone(policy.spec.time_zone), preview_runs(policy)
        schedules = [schedule for schedule in (policy.plan.full, policy.plan.incremental) if schedule is not None]
        warnings = [warning for schedule in schedules if (warning := warn_about(schedule))]
    except InvalidRequest as error:
        zone, next_runs, warnings = None, [], [f"no run begins: {error.message}"]
    return PolicyView(
        id=policy.id,
        name=policy.name,
        project_id=policy.project,
        settings=policy.spec,
        declared=policy.declared,
        attached=[
            AttachedView(id=row.id, name=row.name, type=describe_type(row)) for row in sorted(databases, key=lambda row: row.name)
        ],
        whole_project="" in keys,
        paused=PauseView(
            since=format_iso(policy.paused),
            by=policy.paused_by,
            reason=policy.paused_reason,
            until=format_iso(policy.paused_until),
        )
        if policy.is_paused(now())
        else None,
        next_runs=[
            UpcomingView(at=format_iso(at), local=f"{at.astimezone(zone):%Y-%m-%d %H:%M %Z}", kind=kind) for at, kind in next_runs
        ],
        warnings=warnings,
        created=format_iso(policy.created),
        created_by=policy.created_by,
        updated=format_iso(policy.updated),
        updated_by=policy.updated_by,
    )


def schedule_view(state: ScheduleState) -> ScheduleView:
    """The schedule of one database."""
    return ScheduleView(
        database_id=state.database.id,
        database_name=state.database.name,
        database_type=describe_type(state.database),
        project_id=state.schedule.project,
        policy_id=state.policy.id,
        policy_name=state.policy.name,
        next_run=format_iso(state.next_run),
        next_kind=state.next_kind,
        waiting=state.schedule.waiting,
        paused=state.is_paused,
        last_run=run_view(state.last_run),
        last_missed=run_view(state.last_missed),
    )


def run_view(run: PolicyRun | None) -> RunView | None:
    """One run."""
    return RunView.of(run) if run is not None else None


def past_run_view(past: PastRun) -> PastRunView:
    """One run, with names."""
    run, database = past.run, past.database
    return PastRunView(
        **dict(RunView.of(run)),
        project_id=run.project,
        database_id=run.database_id,
        database_name=database.name if database is not None else "",
        database_type=describe_type(database) if database is not None else "",
        policy_id=run.policy_id,
        policy_name=past.policy_name,
        backup_name=past.backup_name,
    )
