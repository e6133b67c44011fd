"""Brakes: reasons why retention of a database waits for a confirmation. When in doubt, nothing is removed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Confirmation, Expiration
from strongroom.flows.retention.holdings import Holdings, belongs_to
from strongroom.protection.backups import History
from strongroom.protection.retention import needs_confirmation

SHRINK = 0.5
"""A full below this part of the usual size is suspicious: the database may have been emptied."""
_MOST_FULLS = 1000
_UNFINISHED = (*Backup.RUNNING, "FAILED")


@dataclass(frozen=True, slots=True)
class Brake:
    """Why retention of a database waits."""

    kind: str
    """clock, shrink or mass."""
    message: str
    what: str
    """What is confirmed. It changes when there is something else to confirm."""

    @property
    def code(self) -> str:
        """The code that ``retention confirm`` sends, so that users confirm only what they were shown."""
        return hashlib.sha256(f"{self.kind} {self.what}".encode()).hexdigest()[:12]


def find_brake(session: Session, holdings: Holdings, history: History, due: Collection[str], *, jump: str) -> Brake | None:
    """Why nothing may be removed for the database now. ``due``: the expired backups that a sweep would remove."""
    if jump:
        return Brake("clock", jump, jump.partition(" by ")[0])
    if (shrunken := _find_shrunken_full(session, holdings)) is not None:
        message = f"the newest full backup, {shrunken.newest}, has less than half the size of {shrunken.before}"
        return Brake("shrink", message, shrunken.first)
    waiting = [key for key in due if not _has_confirmed(holdings.marks.get(key))]
    removals = [found for key in due if (found := history.find(key)) is not None]
    chain = max((history.count_ancestors(backup) + 1 for backup in history.backups), default=1)
    if holdings.policy is not None:
        chain = min(chain, holdings.policy.spec.chain_length)
    if waiting and needs_confirmation(history, removals, max_chain=chain):
        good = sum(history.is_good(backup) for backup in history.backups)
        gone = sum(history.is_good(backup) for backup in removals)
        return Brake("mass", f"{gone} of {good} good backups would be removed", " ".join(sorted(due)))
    return None


@dataclass(frozen=True, slots=True)
class _Shrunken:
    """Consecutive full backups that are suspiciously small."""

    first: str
    """Id of the first of them. A confirmation of it accepts the size from then on."""
    newest: str
    before: str
    """Names of the newest of them, and of the last full of the usual size."""


def _find_shrunken_full(session: Session, holdings: Holdings) -> _Shrunken | None:
    """The newest full and those before it, if they are suspiciously small and none of them was confirmed or verified.

    Each full is compared with the last one that was not suspicious, because a second small full proves nothing.
    Removed fulls count, too: the one that was confirmed or verified may have been removed.
    """
    own = [b for b in holdings.candidates if b.kind == "full" and b.status == "COMPLETED" and b.source is None]
    newest = max(own, key=lambda backup: backup.finished or backup.created, default=None)
    if holdings.database is None or newest is None:
        return None
    confirmed = session.get(Confirmation, (holdings.database.id, "shrink"))
    before: _Full | None = None
    first: _Full | None = None
    for full in _list_fulls(session, holdings.database.id):
        is_trusted = full.is_verified or (confirmed is not None and confirmed.what == full.id)
        if before is not None and full.size < before.size * SHRINK and not is_trusted:
            first = first or full
        else:
            before, first = full, None
        if full.id == newest.id:
            break
    return _Shrunken(first.id, newest.name, before.name) if first is not None and before is not None else None


@dataclass(frozen=True, slots=True)
class _Full:
    """The size of a full backup."""

    id: str
    name: str
    size: int
    """Bytes before compression, which do not depend on the codec."""
    is_verified: bool


def _list_fulls(session: Session, database_id: str) -> list[_Full]:
    """The full backups of the database, oldest first, including removed ones."""
    at = func.coalesce(Backup.finished, Backup.created)
    columns = (Backup.id, Backup.name, func.coalesce(Backup.raw_size, Backup.stored_size, 0), Backup.verified)
    fulls = (belongs_to(database_id), Backup.kind == "full", Backup.source.is_(None), Backup.status.not_in(_UNFINISHED))
    newest = session.execute(select(*columns).where(*fulls).order_by(at.desc(), Backup.id.desc()).limit(_MOST_FULLS))
    found = [_Full(key, name, size, bool(verified and verified["ok"])) for key, name, size, verified in newest if size]
    return found[::-1]


def _has_confirmed(mark: Expiration | None) -> bool:
    return mark is not None and mark.confirmed_by is not None
