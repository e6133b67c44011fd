"""Chains of backups: the parent of the next incremental, and whether a chain can be restored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.artifact import Positions
from strongroom.catalog import Backup, Expiration, Instance
from strongroom.catalog.find import (
    chain_of,
)
from strongroom.errors import Conflict, InvalidRequest
from strongroom.worker.spec import TOOK_FULL

ChainLimit = Callable[[Sequence[Backup]], str | None]
"""Why a chain, the full first, must not become longer; None if it may."""


def no_limit(_chain: Sequence[Backup]) -> str | None:
    """Every chain may become longer."""
    return None


def newest_parent(session: Session, instance: Instance, limit: ChainLimit = no_limit) -> tuple[Backup | None, str | None]:
    """The newest usable backup of the instance, or None and the reason."""
    completed = _newest_first(
        session.scalars(
            select(Backup).where(
                Backup.instance_id == instance.id,
                Backup.deleted.is_(None),
                Backup.status == "COMPLETED",
                Backup.id.not_in(select(Expiration.backup_id)),
            )
        ).all()
    )
    if not completed:
        return None, "a full was taken: the instance has no completed backup"
    fitting = _without_refused([b for b in completed if instance.lineage is None or b.lineage in (None, instance.lineage)])
    ended: tuple[Backup, str] | None = None
    for backup in fitting:
        try:
            chain = chain_of(session, backup)
        except InvalidRequest:
            continue
        if any(link.status != "COMPLETED" for link in chain):
            continue
        if ended is not None and chain[0].created <= ended[0].created:
            continue  # without writes, the end of a chain and the full after it have the same position: look only for the latter
        damaged = next((link for link in chain if link.is_damaged), None)
        if damaged is not None:
            return None, f"a full was taken: {describe_damage(damaged)}"
        why = limit(chain)
        if why is None:
            return backup, None
        ended = ended or (chain[0], why)
    if ended is not None:
        return None, f"a full was taken: {ended[1]}"
    if fitting:
        return None, "a full was taken: every chain of the instance is incomplete"
    return None, "a full was taken: the data of the instance was replaced after its last backup"


def _without_refused(backups: Sequence[Backup]) -> list[Backup]:
    """The backups without those that are older than the newest full that was taken because a parent was unusable.

    After a rollback of the server or a reset of its log, the positions of older backups may be ahead of all newer ones. Each
    incremental would choose one of them as its parent and become a full.
    """
    fulls = [b for b in backups if b.kind == "full" and (b.reason or "").startswith(TOOK_FULL)]
    if not fulls:
        return list(backups)
    newest = max(fulls, key=lambda b: b.created)
    return [b for b in backups if b.chain_id == newest.id or b.created > newest.created]


def describe_damage(backup: Backup) -> str:
    assert backup.verified is not None
    return f"a verification found backup {backup.name} ({backup.id}) damaged: {backup.verified['message']}"


def _newest_first(backups: Sequence[Backup]) -> list[Backup]:
    """Sorted by position in the server's history, then children before parents: clocks may go back, these do not."""
    depths = _count_ancestors(backups)
    return sorted(
        backups, key=lambda b: (Positions.model_validate(b.positions or {}).reached, depths[b.id], b.created), reverse=True
    )


def _count_ancestors(backups: Sequence[Backup]) -> dict[str, int]:
    """How many of ``backups`` each of them depends on."""
    parents = {backup.id: backup.parent_id for backup in backups}
    depths: dict[str, int] = {}
    for backup in backups:
        path: list[str] = []
        at: str | None = backup.id
        while at in parents and at not in depths and at not in path[-1:]:
            path.append(at)
            at = parents[at]
            if len(path) > len(parents):
                break  # a circle: the chain is refused elsewhere
        depth = depths.get(at or "", -1)
        for link in reversed(path):
            depth += 1
            depths[link] = depth
    return depths


def refuse_unless_restorable(session: Session, backup: Backup) -> None:
    """Raise Conflict unless the backup and all its parents are COMPLETED, or were imported or registered."""
    for link in chain_of(session, backup):
        if link.status not in Backup.RESTORABLE:
            which = "backup" if link.id == backup.id else f"backup {backup.name} is based on backup"
            raise Conflict(
                f"{which} {link.name} ({link.id}) is {link.status}, not COMPLETED",
                remedy="Choose a completed backup (`strongroom backup list`).",
            )
