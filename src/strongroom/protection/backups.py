"""A backup as the rules see it, and what its chain makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class State(StrEnum):
    """What is known of a backup."""

    RUNNING = "running"
    """Its job has not ended."""
    STORED = "stored"
    """COMPLETED, and its manifest is in the store."""
    FAILED = "failed"
    """Its job failed; it may have left objects in the store."""
    MISSING = "missing"
    """COMPLETED, but the store does not have its manifest."""


@dataclass(frozen=True, slots=True)
class KnownBackup:
    """One backup of an instance or a cluster. Times are aware."""

    id: str
    started: datetime
    """The nominal time of its run, or when it was started: names its calendar period."""
    point: datetime
    """What it restores to: the end of the backup. Its age counts from here."""
    parent: str | None = None
    state: State = State.STORED
    damaged: bool = False
    """The newest verification found damage in it."""
    verified: bool = False
    """The newest verification read it and found nothing wrong."""
    imported: bool = False
    """Somebody else wrote it: it is never removed from the store."""
    stored_size: int = 0
    """Bytes in the store."""


class History:
    """All known backups of one instance or cluster. Linear in their number; chains of any length."""

    def __init__(self, backups: Iterable[KnownBackup]) -> None:
        """Raises ValueError if two have the same id."""
        self.backups = tuple(sorted(backups, key=lambda backup: (backup.started, backup.id)))
        self._by_id = {backup.id: backup for backup in self.backups}
        if len(self._by_id) != len(self.backups):
            raise ValueError("two backups have the same id")
        self._ancestors: dict[str, int] = {}
        self._good: dict[str, bool] = {}
        self._verified: dict[str, bool] = {}
        for backup in self.backups:
            self._judge(backup)

    def find(self, backup_id: str) -> KnownBackup | None:
        """The backup with this id."""
        return self._by_id.get(backup_id)

    def list_chain(self, backup: KnownBackup) -> Sequence[KnownBackup]:
        """The backup and its ancestors, child first, as far as they are known."""
        chain, seen = [backup], {backup.id}
        while (parent := self._by_id.get(chain[-1].parent or "")) is not None and parent.id not in seen:
            chain.append(parent)
            seen.add(parent.id)
        return chain

    def parent_of(self, backup: KnownBackup) -> KnownBackup | None:
        """What it is based on, if that is known."""
        return self._by_id.get(backup.parent or "")

    def is_good(self, backup: KnownBackup) -> bool:
        """Whether it can be restored as far as is known: it and every ancestor are stored and not damaged."""
        return self._good[backup.id]

    def is_verified(self, backup: KnownBackup) -> bool:
        """Whether it is good, and every link of its chain was verified."""
        return self._verified[backup.id]

    def count_ancestors(self, backup: KnownBackup) -> int:
        """Number of its known ancestors."""
        return self._ancestors[backup.id]

    def _judge(self, backup: KnownBackup) -> None:
        """Judge the backup after those ancestors that were not judged yet; without recursion, and in a circle nothing is good."""
        waiting: dict[str, KnownBackup] = {}
        current: KnownBackup | None = backup
        while current is not None and current.id not in self._ancestors and current.id not in waiting:
            waiting[current.id] = current
            current = self._by_id.get(current.parent or "")
        for link in reversed(waiting.values()):
            is_base = link.parent is None
            parent = link.parent or ""
            self._ancestors[link.id] = self._ancestors[parent] + 1 if parent in self._ancestors else 0
            is_stored = link.state is State.STORED and not link.damaged
            self._good[link.id] = is_stored and (is_base or self._good.get(parent, False))
            self._verified[link.id] = self._good[link.id] and link.verified and (is_base or self._verified.get(parent, False))
