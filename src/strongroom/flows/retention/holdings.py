"""The backups of one database with everything that a decision about them depends on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import ColumnElement, case, or_, select
from sqlalchemy.orm import Session, defer

from strongroom.catalog import Backup, Cluster, Expiration, Instance, Policy, PolicyRun, Run, now
from strongroom.catalog.find import unfinished_jobs
from strongroom.catalog.policies import Attachments, Database
from strongroom.flows.backups.sources import find_registered
from strongroom.flows.backups.verification import level_of
from strongroom.flows.retention.clocks import read_served
from strongroom.flows.retention.holds import list_holds
from strongroom.protection.backups import History, KnownBackup, State
from strongroom.protection.logs import find_demanded_start
from strongroom.protection.policy import PolicySpec
from strongroom.protection.retention import FUTURE, Decision, decide

GOING = ("DELETING", "DELETE_FAILED", "DELETED")
_UNUSED = [defer(column) for column in (Backup.profile, Backup.witness, Backup.positions, Backup.pages, Backup.description)]
_COLUMNS = (
    Backup.id,
    Backup.cluster_id,
    Backup.instance_id,
    Backup.parent_id,
    Backup.status,
    Backup.trashed,
    Backup.protected,
    Backup.source,
    Backup.verified,
    Backup.stored_size,
    Backup.created,
    case((Backup.status == "DELETE_FAILED", Backup.updated)).label("updated"),
    Backup.started,
    Backup.finished,
)
"""The columns that decisions need. Reading only these takes a fifth of the time and memory of reading whole backups."""
_LATE = timedelta(minutes=5)
"""Added to the spread. A backup that was requested later belongs to the day of its start, not to that of its nominal time."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the catalog contains about the backups of one database."""

    database: Database | None
    """None: the catalog does not contain it."""
    policy: Policy | None
    policy_since: datetime
    """When this policy was attached or last changed."""
    backups: tuple[Backup, ...]
    """All that exist, including those that are being deleted."""
    marks: dict[str, Expiration]
    holds: frozenset[str]
    registered: frozenset[str]
    """Ids of backups to whose artifact a registered backup refers. The rules keep them; a user may delete them."""
    in_use: frozenset[str]
    """Ids of backups that a running job writes or reads."""
    served: int
    """How many seconds the service has run."""
    nominal: dict[str, datetime]
    """Nominal times of the runs that took the backups, by id."""

    @property
    def candidates(self) -> list[Backup]:
        """The backups to which the rules apply: all but those that are being deleted or that a user has deleted."""
        return [backup for backup in self.backups if backup.status not in GOING and not backup.trashed]

    def to_history(self, present: Collection[str] | None, *, with_deleted: bool = False) -> History:
        """The candidates in the form that the rules need.

        ``present``: ids of the backups whose manifest is in the store; None: that was not checked. A failed backup with a
        manifest is omitted, because it is not known yet whether it is complete. ``with_deleted``: include the backups that a user
        has deleted, and that can still be undeleted.
        """
        known = [
            describe_backup(backup, present, self.nominal)
            for backup in (self.backups if with_deleted else self.candidates)
            if backup.status not in GOING and not (backup.status == "FAILED" and present is not None and backup.id in present)
        ]
        return History(known)

    def decide(self, history: History, at: datetime, spec: PolicySpec) -> dict[str, Decision]:
        """What the rules of the policy decide for each candidate. A job that reads a backup delays its removal, not its mark."""
        start = find_demanded_start(history, spec, at)
        holds = self.holds | self.registered
        return decide(history, spec.rules, zone=spec.time_zone, now=at, holds=holds, window_start=start)


def describe_backup(backup: Backup, present: Collection[str] | None, nominal: Mapping[str, datetime]) -> KnownBackup:
    """The backup in the form that the rules need. ``nominal``: nominal times of the runs that took backups, by id."""
    begin = backup.started or backup.created
    point = backup.finished or begin
    if backup.created - begin > FUTURE:  # the clock of its host is behind, because no backup begins before it is requested
        begin, point = backup.created, max(point, backup.created)
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
        point=point,
        parent=backup.parent_id,
        state=state,
        damaged=verified is not None and not verified["ok"],
        verified=verified is not None and bool(verified["ok"]) and level_of(verified) != "sizes",
        imported=not is_own,
        stored_size=backup.stored_size or 0,
    )


def belongs_to(database_id: str) -> ColumnElement[bool]:
    """The condition for backups of this instance or cluster."""
    return or_(Backup.cluster_id == database_id, (Backup.instance_id == database_id) & Backup.cluster_id.is_(None))


@dataclass(frozen=True, slots=True)
class Shared:
    """Facts about the backups of all databases."""

    held: frozenset[str]
    """Ids of backups that users hold."""
    registered: frozenset[str]
    in_use: frozenset[str]
    served: int
    """How many seconds the service has run."""


def load_shared(session: Session) -> Shared:
    """Read these facts."""
    registered = find_registered(session)
    used = list_backups_in_use(session)
    used |= {registered[key] for key in used if key in registered}
    return Shared(frozenset(list_holds(session)), frozenset(registered.values()), used, read_served(session))


def load_holdings(session: Session, database_id: str) -> Holdings:
    """The holdings of an instance or a cluster."""
    own = select(Backup).where(belongs_to(database_id), Backup.deleted.is_(None))
    existing = own.order_by(Backup.created, Backup.id).options(*_UNUSED)
    backups = {database_id: list(session.scalars(existing))}
    return _make_all(session, [database_id], backups, load_shared(session))[database_id]


def load_many_holdings(session: Session, database_ids: Sequence[str], shared: Shared) -> dict[str, Holdings]:
    """The holdings of many databases, by id. Their backups are rows with only ``_COLUMNS``, in no order."""
    existing = select(*_COLUMNS).where(Backup.deleted.is_(None))
    backups: dict[str, list[Backup]] = {key: [] for key in database_ids}
    for row in session.execute(existing.where(Backup.instance_id.in_(database_ids), Backup.cluster_id.is_(None))):
        backups[row.instance_id].append(cast("Backup", row))
    for row in session.execute(existing.where(Backup.cluster_id.in_(database_ids))):
        backups[row.cluster_id].append(cast("Backup", row))
    return _make_all(session, database_ids, backups, shared)


def _make_all(
    session: Session, database_ids: Sequence[str], backups: Mapping[str, Sequence[Backup]], shared: Shared
) -> dict[str, Holdings]:
    """The holdings with these backups. The number of queries does not depend on the number of databases."""
    databases: dict[str, Database] = {}
    databases |= {row.id: row for row in session.scalars(select(Cluster).where(Cluster.id.in_(database_ids)))}
    databases |= {row.id: row for row in session.scalars(select(Instance).where(Instance.id.in_(database_ids)))}
    attachments = Attachments(session, databases.values())
    of_them = or_(Backup.instance_id.in_(database_ids), Backup.cluster_id.in_(database_ids))
    marked = select(Expiration).where(Expiration.backup_id.in_(select(Backup.id).where(of_them)))
    marks = {row.backup_id: row for row in session.scalars(marked)}
    due = _find_due_times(session, database_ids)
    found = {}
    for key in database_ids:
        rows, database = tuple(backups[key]), databases.get(key)
        policy, since = find_last_policy(attachments, database)
        found[key] = Holdings(
            database=database,
            policy=policy,
            policy_since=since,
            backups=rows,
            marks={backup.id: marks[backup.id] for backup in rows if backup.id in marks},
            holds=shared.held | {backup.id for backup in rows if backup.protected},
            registered=shared.registered,
            in_use=shared.in_use,
            served=shared.served,
            nominal=_find_nominal_times(rows, due.get(key, {}), policy.spec.spread) if policy and key in due else {},
        )
    return found


def make_imported_holdings(backups: tuple[Backup, ...], marks: dict[str, Expiration], shared: Shared) -> Holdings:
    """The holdings of imported backups, which belong to no database."""
    return Holdings(
        database=None,
        policy=None,
        policy_since=now(),
        backups=backups,
        marks=marks,
        holds=shared.held,
        registered=shared.registered,
        in_use=shared.in_use,
        served=shared.served,
        nominal={},
    )


def find_last_policy(attachments: Attachments, database: Database | None) -> tuple[Policy | None, datetime]:
    """The policy of a database, and when it was attached or last changed; for a deleted database, the policy that it had then.

    None if that policy is not known for certain.
    """
    policy = attachments.policy_of(database) if database else None
    if database is None or policy is None:
        return None, now()
    since = attachments.since(database)
    if since is None or (database.deleted is not None and since > database.deleted):
        return None, now()
    return policy, max(policy.updated, since)


def list_backups_in_use(session: Session) -> frozenset[str]:
    """Ids of the backups that unfinished jobs, or interrupted restores of clusters, write or read."""
    used: set[str] = set()
    for job in unfinished_jobs(session):
        used |= {job.backup_id} if job.backup_id else set()
        used |= set(job.params.get("chain") or ()) if isinstance(job.params.get("chain"), list) else set()
    cut_off = select(Run.backup_id).where(Run.phase.not_in(Run.OVER), Run.backup_id.is_not(None))
    return frozenset(used | {key for key in session.scalars(cut_off) if key})


def _find_due_times(session: Session, database_ids: Sequence[str]) -> dict[str, dict[str, datetime]]:
    """The nominal time of each scheduled backup, by database and backup."""
    found: dict[str, dict[str, datetime]] = {}
    runs = select(PolicyRun.database_id, PolicyRun.backup_id, PolicyRun.nominal).where(
        PolicyRun.database_id.in_(database_ids), PolicyRun.by_hand.is_(False), PolicyRun.backup_id.is_not(None)
    )
    for database_id, backup_id, nominal in session.execute(runs):
        found.setdefault(database_id, {})[backup_id or ""] = nominal
    return found


def _find_nominal_times(backups: Collection[Backup], due: Mapping[str, datetime], spread: timedelta) -> dict[str, datetime]:
    """The nominal time of each scheduled backup that was requested in time."""
    latest = spread + _LATE
    return {b.id: due[b.id] for b in backups if b.id in due and timedelta(0) <= b.created - due[b.id] <= latest}
