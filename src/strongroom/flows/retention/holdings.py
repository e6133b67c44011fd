"""The backups of one database as the rules see them, and what the rules decide."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session, defer

from strongroom.catalog import Attachment, Backup, Cluster, Expiration, Instance, Policy, PolicyRun, Run, now
from strongroom.catalog.find import unfinished_jobs
from strongroom.catalog.policies import owner_id, policy_of, read_detached
from strongroom.flows.backups.verification import level_of
from strongroom.flows.retention.holds import list_holds
from strongroom.flows.retention.marks import find_marks
from strongroom.protection.backups import History, KnownBackup, State
from strongroom.protection.policy import PolicySpec
from strongroom.protection.retention import Decision, decide

Database = Instance | Cluster
GOING = ("DELETING", "DELETE_FAILED", "DELETED")
_UNUSED = [defer(column) for column in (Backup.profile, Backup.witness, Backup.positions, Backup.pages, Backup.description)]
_LATE = timedelta(minutes=5)
"""Beyond the spread: a run that began later is named by its start, not by its nominal time."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the catalog knows of the backups of one database."""

    database: Database | None
    """None: nobody knows it any more."""
    policy: Policy | None
    policy_since: datetime
    """When this policy was attached or last changed."""
    backups: tuple[Backup, ...]
    """Those that exist, with those that are being deleted."""
    marks: dict[str, Expiration]
    holds: frozenset[str]
    in_use: frozenset[str]
    """Those that a running job writes or reads."""
    nominal: dict[str, datetime]
    """Nominal times of the runs that took them."""

    @property
    def judged(self) -> list[Backup]:
        """Those that the rules are applied to: not those that are being deleted, or that a person has deleted."""
        return [backup for backup in self.backups if backup.status not in GOING and not backup.trashed]

    def to_history(self, present: Collection[str] | None) -> History:
        """The backups as the rules see them. ``present``: ids of those whose manifest was found; None: they were not looked for.

        A failed backup with a manifest is left out: nobody knows yet whether it is complete.
        """
        known = [
            describe_backup(backup, present, self.nominal)
            for backup in self.judged
            if not (backup.status == "FAILED" and present is not None and backup.id in present)
        ]
        return History(known)

    def decide(self, history: History, at: datetime, spec: PolicySpec) -> dict[str, Decision]:
        """What the rules of the policy make of them. Jobs that read a backup stop its removal, not its mark."""
        return decide(history, spec.rules, zone=spec.time_zone, now=at, holds=self.holds)


def describe_backup(backup: Backup, present: Collection[str] | None, nominal: Mapping[str, datetime]) -> KnownBackup:
    """A backup as the rules see it. ``nominal``: nominal times of the runs that took backups."""
    begin = backup.started or backup.created
    is_own = backup.source is None and backup.status != "RESTORED"
    state = State.STORED
    if backup.status in Backup.RUNNING:
        state = State.RUNNING
    elif backup.status == "FAILED":
        state = State.FAILED
    elif is_own and present is not None and backup.id not in present:
        state = State.MISSING
    verified = backup.verified
    return KnownBackup(
        id=backup.id,
        started=nominal.get(backup.id, begin),
        point=backup.finished or begin,
        parent=backup.parent_id,
        state=state,
        damaged=verified is not None and not verified["ok"],
        verified=verified is not None and bool(verified["ok"]) and level_of(verified) != "sizes",
        imported=not is_own,
        stored_size=backup.stored_size or 0,
    )


def belongs_to(database_id: str) -> ColumnElement[bool]:
    """Whether a backup is of this instance or cluster."""
    return or_(Backup.cluster_id == database_id, (Backup.instance_id == database_id) & Backup.cluster_id.is_(None))


def load_holdings(session: Session, database_id: str) -> Holdings:
    """What the catalog knows of the backups of an instance or a cluster."""
    existing = (
        select(Backup)
        .where(belongs_to(database_id), Backup.deleted.is_(None))
        .order_by(Backup.created, Backup.id)
        .options(*_UNUSED)
    )
    backups = tuple(session.scalars(existing))
    database = session.get(Instance, database_id) or session.get(Cluster, database_id)
    ids = [backup.id for backup in backups]
    policy, since = find_last_policy(session, database)
    return Holdings(
        database=database,
        policy=policy,
        policy_since=since,
        backups=backups,
        marks=find_marks(session, ids),
        holds=frozenset(list_holds(session)) | {backup.id for backup in backups if backup.protected},
        in_use=list_used(session),
        nominal=_find_nominal_times(session, database_id, backups, policy) if policy else {},
    )


def find_last_policy(session: Session, database: Database | None) -> tuple[Policy | None, datetime]:
    """The policy of a database, and since when it is what it is; of a deleted database, the policy that it had then.

    None where that is not certain.
    """
    policy = policy_of(session, database) if database else None
    if database is None or policy is None:
        return None, now()
    owner = owner_id(database)
    attached = session.get(Attachment, (database.project, owner))
    since = attached.created if attached is not None else read_detached(session, owner)
    if attached is None and (attached := session.get(Attachment, (database.project, ""))) is not None:
        since = max(since, attached.created) if since else attached.created
    if since is None or (database.deleted is not None and since > database.deleted):
        return None, now()
    return policy, max(policy.updated, since)


def list_used(session: Session) -> frozenset[str]:
    """Ids of the backups that jobs, or restores of clusters that were cut off, write or read."""
    used: set[str] = set()
    for job in unfinished_jobs(session):
        used |= {job.backup_id} if job.backup_id else set()
        used |= set(job.params.get("chain") or ()) if isinstance(job.params.get("chain"), list) else set()
    cut_off = select(Run.backup_id).where(Run.phase.not_in(Run.OVER), Run.backup_id.is_not(None))
    return frozenset(used | {key for key in session.scalars(cut_off) if key})


def _find_nominal_times(session: Session, database_id: str, backups: Collection[Backup], policy: Policy) -> dict[str, datetime]:
    """The nominal time of each backup that a schedule took in time."""
    runs = session.execute(
        select(PolicyRun.backup_id, PolicyRun.nominal).where(
            PolicyRun.database_id == database_id, PolicyRun.by_hand.is_(False), PolicyRun.backup_id.is_not(None)
        )
    )
    due = {key: nominal for key, nominal in runs if key}
    latest = policy.spec.spread + _LATE
    return {b.id: due[b.id] for b in backups if b.id in due and timedelta(0) <= b.created - due[b.id] <= latest}
