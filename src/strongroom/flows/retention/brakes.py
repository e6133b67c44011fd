"""Brakes: retention of a database waits for the confirmation of a person. When in doubt, nothing is removed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Confirmation, Expiration
from strongroom.flows.retention.holdings import Holdings
from strongroom.protection.backups import History
from strongroom.protection.retention import needs_confirmation

SHRINK = 0.5
"""A full below this part of the one before is suspicious: the database may have been emptied."""


@dataclass(frozen=True, slots=True)
class Brake:
    """Why retention of a database waits."""

    kind: str
    """clock, shrink or mass."""
    message: str
    what: str
    """What a person confirms: differs when there is something else to confirm."""

    @property
    def code(self) -> str:
        """What ``retention confirm`` names, so that nobody confirms what he has not seen."""
        return hashlib.sha256(f"{self.kind} {self.what}".encode()).hexdigest()[:12]


def find_brake(session: Session, holdings: Holdings, history: History, due: Collection[str], *, jump: str) -> Brake | None:
    """Why nothing may be removed for the database now. ``due``: the expired backups that a sweep would remove."""
    if jump:
        return Brake("clock", jump, jump.partition(" by ")[0])
    key = holdings.database.id if holdings.database else ""
    if (shrunk := _find_shrunken_full(holdings)) is not None and not _is_confirmed(session, key, "shrink", shrunk.id):
        return Brake("shrink", f"the newest full backup, {shrunk.name}, has less than half the size of the one before", shrunk.id)
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


def _find_shrunken_full(holdings: Holdings) -> Backup | None:
    """The newest full, if it is suspiciously small and was not verified."""
    fulls = [b for b in holdings.judged if b.kind == "full" and b.status == "COMPLETED" and b.source is None]
    newest: Sequence[Backup] = sorted(fulls, key=lambda backup: backup.finished or backup.created)[-2:]
    if len(newest) < 2 or (newest[1].verified and newest[1].verified["ok"]):
        return None
    before, last = (_size(backup) for backup in newest)
    return newest[1] if before and last < before * SHRINK else None


def _size(backup: Backup) -> int:
    """Bytes before compression, which is the same whatever the codec is."""
    return backup.raw_size or backup.stored_size or 0


def _has_confirmed(mark: Expiration | None) -> bool:
    return mark is not None and mark.confirmed_by is not None


def _is_confirmed(session: Session, database_id: str, kind: str, what: str) -> bool:
    row = session.get(Confirmation, (database_id, kind))
    return row is not None and row.what == what
