"""``/policies``: create, list, show, change, delete, attach, pause, run; ``/schedules``: what runs next and what ran."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query, Response
from pydantic import AwareDatetime
from sqlalchemy import select

from strongroom.api.http.caller import MAX_PAGE, Caller, CallerDep, ControlDep, ListedDep, accepted, project_router, reply
from strongroom.api.http.fields import Segment
from strongroom.api.policies.requests import CreatePolicy, PolicyAction, UpdatePolicy
from strongroom.api.policies.views import (
    ManyPolicies,
    ManyRuns,
    ManySchedules,
    OnePolicy,
    past_run_view,
    policy_views,
    schedule_view,
)
from strongroom.catalog import Policy
from strongroom.errors import InvalidRequest
from strongroom.flows import (
    Site,
    attach_policy,
    create_policy,
    delete_policy,
    detach_policy,
    find_attachable,
    find_owner,
    find_policy,
    list_runs,
    list_schedules,
    pause_policy,
    resume_policy,
    run_policy,
    update_policy,
)
from strongroom.protection.policy import PolicySpec

router = project_router("policies")


@router.post("/policies", response_model=OnePolicy)
def create(body: CreatePolicy, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: create a policy. It does nothing until it is attached."""
    settings = PolicySpec.model_validate(body.policy.model_dump(exclude={"name"}))
    return _show(control, caller, create_policy(control, caller.project, body.policy.name, settings).id)


@router.get("/policies", response_model=ManyPolicies)
def index(control: ControlDep, project: ListedDep) -> Response:
    """Extension: policies by name."""
    query = select(Policy).order_by(Policy.name, Policy.id)
    with control.catalog.read() as session:
        rows = session.scalars(query if project is None else query.where(Policy.project == project)).all()
        seen = ManyPolicies(policies=policy_views(session, rows))
    return reply(seen)


@router.get("/policies/{policy}", response_model=OnePolicy)
def show(policy: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: one policy, by name or id."""
    return _show(control, caller, policy)


@router.patch("/policies/{policy}", response_model=OnePolicy)
def update(policy: Segment, body: UpdatePolicy, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: change settings. After a change of schedules or time zone, due times count from now."""
    changes = body.policy.model_dump(mode="json", exclude_unset=True)
    name = changes.pop("name", None)
    return _show(control, caller, update_policy(control, caller.project, policy, changes, name=name).id)


@router.delete("/policies/{policy}", status_code=202)
def delete(policy: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: delete a policy. Refused (409) while it is attached."""
    delete_policy(control, caller.project, policy)
    return accepted()


@router.post("/policies/{policy}/action", status_code=202)
def act(policy: Segment, body: PolicyAction, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: attach, detach, pause or resume a policy, or run it now for one database."""
    if len(body.model_fields_set) != 1:
        raise InvalidRequest("the body must name one action", remedy="Actions are attach, detach, pause, resume and run.")
    if body.run is not None:
        _, job = run_policy(control, caller.project, policy, body.run.database, body.run.kind)
        return accepted(job)
    if body.attach is not None:
        attach_policy(control, caller.project, policy, body.attach.databases, whole_project=body.attach.whole_project)
    elif body.detach is not None:
        detach_policy(control, caller.project, policy, body.detach.databases, whole_project=body.detach.whole_project)
    elif body.pause is not None:
        pause_policy(control, caller.project, policy, reason=body.pause.reason, until=body.pause.until)
    else:
        resume_policy(control, caller.project, policy)
    return accepted()


@router.get("/schedules", response_model=ManySchedules)
def schedules(
    caller: CallerDep,
    control: ControlDep,
    project: ListedDep,
    policy: Annotated[str | None, Query(description="Only of this policy: name or id.")] = None,
    database: Annotated[str | None, Query(description="Only of this instance or cluster: id or unique name.")] = None,
) -> Response:
    """Extension: the schedules of all instances and clusters: next run, last run, missed runs."""
    with control.catalog.read() as session:
        policy_id = find_policy(session, caller.project, policy).id if policy is not None else None
        key = find_attachable(session, caller.project, database).id if database is not None else None
        found = list_schedules(session, project, policy_id)
    return reply(ManySchedules(schedules=[schedule_view(state) for state in found if key in (None, state.database.id)]))


@router.get("/schedules/runs", response_model=ManyRuns)
def runs(
    caller: CallerDep,
    control: ControlDep,
    project: ListedDep,
    policy: Annotated[str | None, Query(description="Only of this policy: name or id.")] = None,
    database: Annotated[str | None, Query(description="Only of this instance or cluster: id or unique name.")] = None,
    outcome: Annotated[
        Literal["running", "succeeded", "failed", "cancelled", "missed"] | None, Query(description="Only with this outcome.")
    ] = None,
    since: Annotated[AwareDatetime | None, Query(description="Only those that were due since this time.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="At most this many.")] = MAX_PAGE,
) -> Response:
    """Extension: past runs of policies, also those that were missed, the one that was due last first."""
    with control.catalog.read() as session:
        found = list_runs(
            session,
            project,
            policy_id=find_policy(session, caller.project, policy).id if policy is not None else None,
            database_id=find_owner(session, caller.project, database).id if database is not None else None,
            outcome=outcome,
            since=since,
            limit=limit,
        )
    return reply(ManyRuns(runs=[past_run_view(past) for past in found]))


def _show(control: Site, caller: Caller, policy: str) -> Response:
    with control.catalog.read() as session:
        (seen,) = policy_views(session, [find_policy(session, caller.project, policy)])
    return reply(OnePolicy(policy=seen))
