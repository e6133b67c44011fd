"""The backups of one instance or cluster in numbers, for a monitoring system. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from strongroom.protection.backups import History, KnownBackup, State
from strongroom.protection.retention import FUTURE
from strongroom.protection.status import Condition, Finding, Level, Subject, find_newest_proof


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest backup of one kind that can be restored."""

    point: datetime
    """The moment that it restores."""
    seconds: float
    """How long it took."""
    raw_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Measures:
    """The backups of one database in numbers, from what the store contains."""

    condition: Condition
    """The most severe one."""
    level: Level
    newest: Mapping[str, Newest]
    """By kind: ``full``, ``incremental``."""
    oldest: datetime | None
    """The oldest moment that can be restored."""
    verified: datetime | None
    """The newest moment whose whole chain was verified."""
    chain: int
    """Number of backups in the chain of the newest."""
    counts: Mapping[str, int]
    """Number of backups by state: ``restorable``, ``damaged``, ``missing``, ``broken`` (a parent is), ``running``, ``failed``."""
    max_age: timedelta | None
    """The limits of its policy; None: there is none."""
    max_proof_age: timedelta | None
    max_loss: timedelta | None
    """How much of its log may be lost; None: its policy wants no log archive, or the server does not run."""
    read: datetime | None
    """When its store was last read completely."""


def measure(subject: Subject, findings: Sequence[Finding], raw_bytes: Mapping[str, int], at: datetime) -> Measures:
    """The measures of a database. ``findings``: what ``judge`` made of it; ``raw_bytes``: sizes by id of the backup."""
    history = subject.history
    good = [backup for backup in history.backups if history.is_good(backup) and backup.point <= at + FUTURE]
    newest: dict[str, KnownBackup] = {}
    for backup in sorted(good, key=lambda backup: backup.point):
        newest["full" if backup.parent is None else "incremental"] = backup
    last = max(newest.values(), key=lambda backup: backup.point, default=None)
    limits = subject.limits
    return Measures(
        condition=findings[0].condition,
        level=findings[0].level,
        newest={
            kind: Newest(
                point=backup.point,
                seconds=max(0.0, (backup.point - backup.started).total_seconds()),
                raw_bytes=raw_bytes.get(backup.id, 0),
                stored_bytes=backup.stored_size,
            )
            for kind, backup in newest.items()
        },
        oldest=min((backup.point for backup in good), default=None),
        verified=find_newest_proof(history, at),
        chain=len(history.list_chain(last)) if last else 0,
        counts=Counter(_name_state(history, backup) for backup in history.backups),
        max_age=limits.max_age if limits else None,
        max_proof_age=limits.max_proof_age if limits else None,
        max_loss=subject.lag.allowed if subject.lag else None,
        read=subject.facts_at,
    )


def _name_state(history: History, backup: KnownBackup) -> str:
    if backup.state is not State.STORED:
        return str(backup.state)
    if backup.damaged:
        return "damaged"
    return "restorable" if history.is_good(backup) else "broken"
