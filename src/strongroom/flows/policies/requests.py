"""Requests of users for policies: create, change, attach, pause, run now, delete."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog import Attachment, Cluster, Instance, Job, Policy, PolicyRun, Schedule, now
from strongroom.catalog.find import find_cluster, find_instance
from strongroom.catalog.policies import Database, detach, detach_all, find_policy, policy_of
from strongroom.errors import AlreadyExists, Conflict, InvalidRequest, NotFound, Unsupported
from strongroom.flows.clusters.backup import is_synced
from strongroom.flows.hosts.fresh import refresh_instance, refresh_nodes
from strongroom.flows.policies.attempts import begin_attempt
from strongroom.flows.policies.coverage import drop_due_runs, restart_schedules
from strongroom.flows.policies.ends import find_database, remove_schedule
from strongroom.flows.policies.runs import new_run
from strongroom.flows.records import check_name
from strongroom.flows.site import Site
from strongroom.identity import asker
from strongroom.protection.policy import PolicySpec
from strongroom.protection.runs import Kind

_LONGEST_PAUSE = timedelta(days=36_525)
_TIMES = ("full", "incremental", "time_zone")
"""Settings whose change makes nominal times count from the change."""


def create_policy(site: Site, project: str, name: str, spec: PolicySpec) -> Policy:
    """Add a policy. It does nothing until it is attached. Raises InvalidRequest, AlreadyExists, Unsupported."""
    check_name(name, "policy")
    require_store(site, spec)
    user = asker.get()[:255]
    with site.catalog.write() as session:
        _require_free(session, project, name)
        policy = Policy(id=str(uuid.uuid4()), project=project, name=name, document=spec.model_dump(mode="json"))
        policy.created_by = policy.updated_by = user
        policy.paused_by = policy.paused_reason = ""
        session.add(policy)
        session.flush()
    return policy


def update_policy(site: Site, project: str, ref: str, changes: Mapping[str, Any], *, name: str | None = None) -> Policy:
    """Change settings of a policy; what ``changes`` omits stays. Raises NotFound, InvalidRequest, AlreadyExists."""
    with site.catalog.write() as session:
        policy = find_policy(session, project, ref)
        _refuse_if_declared(policy)
        spec = PolicySpec.model_validate({**policy.document, **changes})
        require_store(site, spec)
        before = (policy.name, policy.document)
        if name is not None and name != policy.name:
            check_name(name, "policy")
            _require_free(session, project, name)
            policy.name = name
        change_settings(session, policy, spec)
        if before != (policy.name, policy.document):  # a change delays removals, so the same settings again are none
            _note_change(policy)
    site.follow_policies()
    return policy


def change_settings(session: Session, policy: Policy, spec: PolicySpec) -> None:
    """Set the settings. New schedules count from now."""
    document = spec.model_dump(mode="json")
    if not any(policy.document.get(field) != document[field] for field in _TIMES):
        policy.document = document
        return
    moment = now()
    drop_due_runs(session, policy, moment)
    policy.document, policy.anchor = document, moment
    session.flush()
    restart_schedules(session, policy, moment)


def delete_policy(site: Site, project: str, ref: str) -> None:
    """Delete a policy that applies to no existing database. Raises NotFound, Conflict."""
    with site.catalog.write() as session:
        policy = find_policy(session, project, ref)
        _refuse_if_declared(policy)
        attached = list_attached(session, policy)
        if attached:
            raise Conflict(
                f"policy {policy.name} is attached to {', '.join(attached[:10])}",
                remedy=f"Detach it first: `strongroom policy detach {policy.name} …`.",
            )
        detach_all(session, policy)
        for schedule in session.scalars(select(Schedule).where(Schedule.policy_id == policy.id)):
            remove_schedule(session, schedule)
        session.delete(policy)
    site.follow_policies()


def attach_policy(site: Site, project: str, ref: str, databases: Sequence[str], *, whole_project: bool = False) -> Policy:
    """Attach the policy to instances and clusters, and to the project's databases without a policy of their own.

    It replaces the one that was attached. Raises NotFound, Conflict, Unsupported.
    """
    with site.catalog.write() as session:
        policy = find_policy(session, project, ref)
        keys = [find_attachable(session, project, name).id for name in databases] + ([""] if whole_project else [])
        if not keys:
            raise InvalidRequest("no database was named", remedy="Name instances or clusters, or attach it to the project.")
        for key in keys:
            row = session.get(Attachment, (project, key))
            if row is None or row.policy_id != policy.id:
                session.merge(
                    Attachment(project=project, database_id=key, policy_id=policy.id, created=now(), created_by=asker.get()[:255])
                )
    site.follow_policies()
    return policy


def detach_policy(site: Site, project: str, ref: str, databases: Sequence[str], *, whole_project: bool = False) -> Policy:
    """Detach the policy. The databases then have the project's policy, if there is one. Raises NotFound, Conflict."""
    with site.catalog.write() as session:
        policy = find_policy(session, project, ref)
        names = {find_attachable(session, project, name).id: name for name in databases} | (
            {"": "the project"} if whole_project else {}
        )
        if not names:
            raise InvalidRequest("no database was named", remedy="Name instances or clusters, or detach it from the project.")
        for key, name in names.items():
            row = session.get(Attachment, (project, key))
            if row is None or row.policy_id != policy.id:
                raise Conflict(
                    f"policy {policy.name} is not attached to {name}",
                    remedy=f"`strongroom policy show {policy.name}` shows to what it is attached.",
                )
            detach(session, row)
    site.follow_policies()
    return policy


def pause_policy(site: Site, project: str, ref: str, *, reason: str, until: datetime | None = None) -> Policy:
    """Pause the policy: no runs begin until ``until``, or until it is resumed. Raises NotFound, InvalidRequest."""
    if not reason.strip():
        raise InvalidRequest("a pause needs a reason", remedy='Give one, for example --reason "migration of the storage".')
    if until is not None and until <= now():
        raise InvalidRequest(f"the end of the pause ({until:%Y-%m-%d %H:%M %Z}) has passed", remedy="Give a later time.")
    if until is not None and until > now() + _LONGEST_PAUSE:
        raise InvalidRequest(
            f"the end of the pause ({until:%Y-%m-%d}) is more than 100 years away",
            remedy="Leave it out to pause until the policy is resumed.",
        )
    with site.catalog.write() as session:
        policy = find_policy(session, project, ref)
        policy.paused, policy.paused_until = now(), until
        policy.paused_by, policy.paused_reason = asker.get()[:255], reason.strip()[:255]
        _note_change(policy)
    return policy


def resume_policy(site: Site, project: str, ref: str) -> Policy:
    """Resume the policy with the next run; runs that were due during the pause are skipped. Raises NotFound, Conflict."""
    with site.catalog.write() as session:
        policy = find_policy(session, project, ref)
        if policy.paused is None:
            raise Conflict(f"policy {policy.name} is not paused", remedy="There is nothing to resume.")
        moment = now()
        if policy.is_paused(moment):
            drop_due_runs(session, policy, moment)
            restart_schedules(session, policy, moment)
        policy.paused = policy.paused_until = None
        policy.paused_by = policy.paused_reason = ""
        _note_change(policy)
    site.follow_policies()
    return policy


def run_policy(site: Site, project: str, ref: str, database: str, kind: Kind | None = None) -> tuple[PolicyRun, Job]:
    """Take a backup now with the policy's settings, in addition to its schedules. ``kind``: by default that of the schedules.

    Raises NotFound, Conflict, Busy and what a request for a backup raises.
    """
    moment = now()
    with site.catalog.read() as session:
        found = find_attachable(session, project, database)
    if isinstance(found, Cluster):
        refresh_nodes(site, project, found.id, unless=is_synced)
    else:
        refresh_instance(site, project, found.id)
    with site.catalog.write() as session:
        policy = find_policy(session, project, ref)
        row = find_attachable(session, project, found.id)
        if (applies := policy_of(session, row)) is None or applies.id != policy.id:
            other = f"policy {applies.name}" if applies else "no policy"
            raise Conflict(
                f"{other} applies to {row.name}, not policy {policy.name}",
                remedy=f"Attach it: `strongroom policy attach {policy.name} {row.name}`.",
            )
        run_kind = kind or ("incremental" if policy.spec.incremental else "full")
        run = new_run(policy, row, moment, run_kind, by_hand=True)
        run.id = str(uuid.uuid4())  # another request is another run
        _, job = begin_attempt(session, site, run, row, policy, moment)
        session.add(run)
        schedule = session.get(Schedule, row.id)
        if schedule is not None and schedule.run_id is None:
            schedule.run_id = run.id
    site.start(job)
    return run, job


def find_attachable(session: Session, project: str, ref: str) -> Database:
    """The instance or cluster with this id or unique name. Raises NotFound, Conflict, Unsupported (a node)."""
    found: list[Database] = []
    for find in (find_instance, find_cluster):
        try:
            found.append(find(session, project, ref))
        except NotFound:
            continue
    if not found:
        raise NotFound(
            f"there is no instance and no cluster {ref}", remedy="See `strongroom instance list` and `strongroom cluster list`."
        )
    if len(found) > 1:
        raise Conflict(f"an instance and a cluster are named {ref}", remedy="Use the id.")
    row = found[0]
    if isinstance(row, Instance) and row.cluster_id is not None:
        raise Unsupported(
            f"instance {row.name} is a node of a cluster; policies are attached to clusters",
            remedy=f"Name the cluster: {row.cluster_id}.",
        )
    return row


def list_attached(session: Session, policy: Policy) -> list[str]:
    """Names of the existing databases that the policy is attached to; ``the project`` if it is its default."""
    keys = session.scalars(select(Attachment.database_id).where(Attachment.policy_id == policy.id)).all()
    rows = [find_database(session, key) for key in keys if key]
    return (["the project"] if "" in keys else []) + sorted(row.name for row in rows if row is not None)


def describe_type(row: Database) -> str:
    """``instance`` or ``cluster``."""
    return "cluster" if isinstance(row, Cluster) else "instance"


def require_store(site: Site, spec: PolicySpec) -> None:
    """Raise Unsupported if the service cannot use the store without a user, and the policy has schedules or a log archive."""
    if not site.settings.storage.by_token:
        return
    if spec.full or spec.incremental:
        raise Unsupported(
            "the service can use the store only on behalf of a user, so it cannot take backups on a schedule",
            remedy='Set storage.auth = "service", or leave the schedules out.',
        )
    if spec.log_archive:
        raise Unsupported(
            "the service can use the store only on behalf of a user, whose token ends, so it cannot archive logs",
            remedy='Set storage.auth = "service", or leave the log archive out.',
        )


def _refuse_if_declared(policy: Policy) -> None:
    if policy.declared:
        raise Conflict(
            f"policy {policy.name} is declared in the configuration file",
            remedy=f"Change [policies.{policy.name}] there and restart the service.",
        )


def _require_free(session: Session, project: str, name: str) -> None:
    if session.scalars(select(Policy.id).where(Policy.project == project, Policy.name == name)).first() is not None:
        raise AlreadyExists(
            f"there is a policy {name} in this project", remedy=f"Change it: `strongroom policy update {name} …`."
        )


def _note_change(policy: Policy) -> None:
    policy.updated, policy.updated_by = now(), asker.get()[:255]
