"""Pages of rows, and what the views of a whole page need besides, each in one query."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from strongroom.catalog._tables import Backup, Host, Instance, Job, now
from strongroom.errors import InvalidRequest

SILENT = timedelta(seconds=90)
"""A host that was not heard of for this long is silent (Trove's limit for a guest)."""

Row = TypeVar("Row", Instance, Backup, Job)


@dataclass(frozen=True, slots=True)
class Page:
    """What to show of a list: at most ``limit`` rows, after the one with id ``marker``."""

    limit: int
    marker: str | None = None


def newest_first(
    session: Session, table: type[Row], page: Page, project: str | None, *conditions: ColumnElement[bool]
) -> tuple[list[Row], str | None]:
    """A page of rows of ``project`` (None: of all), newest first, and the marker of the next one.

    Raises InvalidRequest for an unknown marker, and in the same way for one of another project.
    The marker stays good when its row is deleted meanwhile, and rows that come or go neither repeat nor hide others.
    """
    if project is not None:
        conditions = (*conditions, table.project == project)
    query = select(table).where(*conditions).order_by(table.created.desc(), table.id.desc()).limit(page.limit + 1)
    if page.marker is not None:
        last = session.get(table, page.marker)
        if last is None or project not in (None, last.project):
            raise InvalidRequest(
                f"marker {page.marker[:100]} is not the id of a row of this list",
                remedy="Take it from the link `next` of a page.",
            )
        query = query.where(or_(table.created < last.created, and_(table.created == last.created, table.id < last.id)))
    rows = list(session.scalars(query))
    return rows[: page.limit], rows[page.limit - 1].id if len(rows) > page.limit else None


def newest_jobs(session: Session, owner: type[Instance] | type[Backup], ids: Iterable[str]) -> dict[str, str]:
    """Id of the newest job about each of the instances or backups; those that never had one are left out."""
    subject = Job.instance_id if owner is Instance else Job.backup_id
    newest = select(Job.id).where(subject == owner.id).order_by(Job.created.desc(), Job.id.desc()).limit(1).scalar_subquery()
    found = session.execute(select(owner.id, newest).where(owner.id.in_(list(ids))))
    return {key: job for key, job in found if job is not None}


def being_backed_up(session: Session) -> set[str]:
    """Ids of the instances of which a backup is running."""
    running = select(Backup.instance_id).where(Backup.status.in_(Backup.RUNNING))
    return {instance_id for instance_id in session.scalars(running) if instance_id}


def is_silent(host: Host) -> bool:
    """Whether the agent of the host was not heard of for too long."""
    return _is_silent(host.seen)


def _is_silent(seen: datetime | None) -> bool:
    return seen is None or now() - seen > SILENT


def silent_hosts(session: Session) -> set[str]:
    """Names of the hosts that are silent."""
    return {name for name, seen in session.execute(select(Host.name, Host.seen)) if _is_silent(seen)}


def broken_chains(session: Session, backups: Iterable[Backup]) -> set[str]:
    """Ids of those backups that cannot be restored: not COMPLETED or RESTORED themselves, or standing on one that is not."""
    wanted = list(backups)
    good = and_(Backup.status.in_(Backup.RESTORABLE), Backup.deleted.is_(None))
    chains = select(Backup.id, Backup.parent_id, good).where(Backup.chain_id.in_({b.chain_id for b in wanted}))
    links = {key: (parent, is_good) for key, parent, is_good in session.execute(chains)}
    broken = set()
    for backup in wanted:
        at: str | None = backup.id
        seen: set[str] = set()
        while at is not None:
            parent, is_good = links.get(at, (None, False))
            if not is_good or at in seen:
                broken.add(backup.id)
                break
            seen.add(at)
            at = parent
    return broken


def installed(session: Session) -> dict[str, dict[str, str]]:
    """What the hosts can run: datastore → series → newest full version number."""
    found: dict[str, dict[str, str]] = {}
    for host in session.scalars(select(Host).order_by(Host.name)):
        for version in host.view.get("versions", []):
            numbers = found.setdefault(version["datastore"], {})
            numbers[version["series"]] = max(numbers.get(version["series"], ""), version["number"], key=in_order)
    return {name: dict(sorted(series.items(), key=lambda s: in_order(s[0]))) for name, series in sorted(found.items())}


def in_order(version: str) -> list[int]:
    """Sort key of a version: 10.6 comes before 10.11."""
    return [int(part) if part.isdecimal() else 0 for part in version.split(".")]
