"""Pages of rows, and further data that the views of a whole page need, each in one query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar, cast

from sqlalchemy import Integer, Select, String, and_, bindparam, exists, func, literal, not_, or_, select
from sqlalchemy.orm import Session, aliased

from strongroom.catalog._tables import Backup, Cluster, Host, Instance, Job, Table, now
from strongroom.errors import InvalidRequest

SILENT_AFTER = "silent_after"
"""Key of ``Session.info``: seconds without a report after which a host counts as unreachable."""

Row = TypeVar("Row", Instance, Backup, Job, Cluster)

# Statements are built once, with parameters: building one takes longer than running it.
_BUSY = select(Backup.instance_id).where(Backup.status.in_(Backup.RUNNING))
_HOSTS = select(Host.name, Host.seen)
_NAMES = select(Backup.id, Backup.name).where(Backup.id.in_(bindparam("ids", expanding=True)))
_CHAINS = Backup.chain_id.in_(bindparam("chains", expanding=True))
_UNDAMAGED = func.coalesce(Backup.verified["ok"].as_boolean(), literal(True))
"""The newest verification found no damage, or there was no verification."""
_GOOD = and_(Backup.status.in_(Backup.RESTORABLE), Backup.deleted.is_(None), _UNDAMAGED)
_LINKS = select(Backup.id, Backup.parent_id, _GOOD).where(_CHAINS)
_DAMAGED = func.coalesce(Backup.pages["damaged"].as_integer(), literal(0))
_HARMED = select(Backup.chain_id).where(_CHAINS, _DAMAGED > 0).distinct()
_HARM = select(Backup.id, Backup.parent_id, _DAMAGED).where(_CHAINS)
_PARENT = aliased(Backup)
_DOUBTFUL = (
    select(Backup.chain_id)
    .where(_CHAINS, or_(not_(_GOOD), and_(Backup.parent_id.is_not(None), ~exists().where(_PARENT.id == Backup.parent_id))))
    .distinct()
)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: at most ``limit`` rows, after the one with id ``marker``."""

    limit: int
    marker: str | None = None


def newest_first(
    session: Session,
    table: type[Row],
    page: Page,
    project: str | None,
    filters: Mapping[str, str | bool | None] | None = None,
    *,
    deleted: bool = False,
) -> tuple[list[Row], str | None]:
    """A page of rows of ``project`` (None: of all projects), newest first, and the marker of the next page.

    ``deleted``: deleted rows instead of existing ones. ``filters`` are columns and their values; None means null.
    Raises InvalidRequest for an unknown marker and for one of another project.
    A marker stays valid if its row is deleted. Rows that are added or deleted between two pages neither repeat nor hide others.
    The results have all columns but are read-only and not bound to the session, which is twice as fast.
    """
    wanted = {**(filters or {}), **({} if project is None else {"project": project})}
    values: dict[str, object] = {**wanted, "rows": page.limit + 1}
    if page.marker is not None:
        last = session.get(table, page.marker)
        if last is None or project not in (None, last.project):
            raise InvalidRequest(
                f"marker {page.marker[:100]} is not the id of a row of this list",
                remedy="Take it from the link `next` of a page.",
            )
        values |= {"last_created": last.created, "last_id": last.id}
    given = tuple(sorted(name for name, value in wanted.items() if value is not None))
    query = _newest_first(table, given, tuple(sorted(set(wanted) - set(given))), deleted, page.marker is not None)
    rows = cast("list[Row]", session.execute(query, values).all())
    return rows[: page.limit], rows[page.limit - 1].id if len(rows) > page.limit else None


@lru_cache(256)
def _newest_first(
    table: type[Table], filters: tuple[str, ...], empty: tuple[str, ...], deleted: bool, marked: bool
) -> Select[Any]:
    column = table.__table__.c
    query = select(*column).where(
        *(column[name] == bindparam(name) for name in filters), *(column[name].is_(None) for name in empty)
    )
    if "deleted" in column:
        query = query.where(column.deleted.is_not(None) if deleted else column.deleted.is_(None))
    if marked:
        created = bindparam("last_created", type_=column.created.type)
        older = column.id < bindparam("last_id", type_=String)
        query = query.where(or_(column.created < created, and_(column.created == created, older)))
    return query.order_by(column.created.desc(), column.id.desc()).limit(bindparam("rows", type_=Integer))


def newest_jobs(session: Session, owner: type[Instance] | type[Backup] | type[Cluster], ids: Iterable[str]) -> dict[str, str]:
    """The id of the newest job of each instance, backup or cluster; those without a job are omitted."""
    found = session.execute(_newest_jobs(owner), {"ids": list(ids)})
    return {key: job for key, job in found if job is not None}


@lru_cache(3)
def _newest_jobs(owner: type[Instance] | type[Backup] | type[Cluster]) -> Select[Any]:
    subject = {Instance: Job.instance_id, Backup: Job.backup_id, Cluster: Job.cluster_id}[owner]
    newest = select(Job.id).where(subject == owner.id).order_by(Job.created.desc(), Job.id.desc()).limit(1).scalar_subquery()
    return select(owner.id, newest).where(owner.id.in_(bindparam("ids", expanding=True)))


def backup_names(session: Session, jobs: Iterable[Job]) -> dict[str, str]:
    """Names of the jobs' backups by id, including deleted backups."""
    ids = {job.backup_id for job in jobs if job.backup_id}
    return {row.id: row.name for row in session.execute(_NAMES, {"ids": list(ids)})} if ids else {}


def being_backed_up(session: Session) -> set[str]:
    """Ids of the instances with a running backup."""
    return {instance_id for instance_id in session.scalars(_BUSY) if instance_id}


def silent_hosts(session: Session) -> set[str]:
    """Names of the unreachable hosts: their agent has not reported for ``hosts.silent_after`` seconds."""
    limit = now() - timedelta(seconds=session.info[SILENT_AFTER])
    return {name for name, seen in session.execute(_HOSTS) if seen is None or seen < limit}


def broken_chains(session: Session, backups: Sequence[Backup]) -> dict[str, str]:
    """The ids of the backups that cannot be restored, each with the id of the backup that is the cause.

    The cause is the backup itself or one that it depends on: it is not COMPLETED or RESTORED, it is missing, or a verification
    found it damaged.
    """
    doubtful = set(session.scalars(_DOUBTFUL, {"chains": list({backup.chain_id for backup in backups})}))
    if not doubtful:
        return {}
    links = {key: (parent, is_good) for key, parent, is_good in session.execute(_LINKS, {"chains": list(doubtful)})}
    broken: dict[str, str] = {}
    for backup in (b for b in backups if b.chain_id in doubtful):
        at: str | None = backup.id
        seen: set[str] = set()
        while at is not None:
            parent, is_good = links.get(at, (None, False))
            if not is_good or at in seen:
                broken[backup.id] = at
                break
            seen.add(at)
            at = parent
    return broken


def damaged_pages(session: Session, backups: Sequence[Backup]) -> dict[str, int]:
    """How many damaged pages were found when a backup and those that it depends on were taken; zeros are omitted."""
    harmed = set(session.scalars(_HARMED, {"chains": list({backup.chain_id for backup in backups})}))
    if not harmed:
        return {}
    links = {key: (parent, damaged) for key, parent, damaged in session.execute(_HARM, {"chains": list(harmed)})}
    found: dict[str, int] = {}
    for backup in (b for b in backups if b.chain_id in harmed):
        at: str | None = backup.id
        seen: set[str] = set()
        while at is not None and at in links and at not in seen:
            seen.add(at)
            at, damaged = links[at]
            found[backup.id] = found.get(backup.id, 0) + damaged
    return {key: damaged for key, damaged in found.items() if damaged}


def installed(session: Session) -> dict[str, dict[str, str]]:
    """The versions that the hosts can run: datastore → series → newest version."""
    found: dict[str, dict[str, str]] = {}
    for host in session.scalars(select(Host).order_by(Host.name)):
        for version in host.view.get("versions", []):
            numbers = found.setdefault(version["datastore"], {})
            numbers[version["series"]] = max(numbers.get(version["series"], ""), version["number"], key=in_order)
    return {name: dict(sorted(series.items(), key=lambda s: in_order(s[0]))) for name, series in sorted(found.items())}


def in_order(version: str) -> list[int]:
    """The sort key of a version, so that 10.6 comes before 10.11."""
    return [int(part) if part.isdecimal() else 0 for part in version.split(".")]
