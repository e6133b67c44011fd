"""The list of backups: columns, filters, trees of chains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from strongroom.cli.filters import Filters
from strongroom.cli.output.columns import Column, Exact, Id, Look, When
from strongroom.cli.output.remarks import note
from strongroom.cli.output.tables import Format
from strongroom.cli.output.values import escape, format_count, format_duration, format_ratio, format_size
from strongroom.cli.session import Session
from strongroom.errors import Conflict, NotFound

Backup = Mapping[str, Any]


class Ratio(Column):
    """The ratio of the sizes of the stream and of the stored data."""

    def raw(self, item: Mapping[str, Any]) -> Any:
        raw, stored = item.get("raw_size"), item.get("stored_size")
        return round(raw / stored, 2) if raw and stored else None

    def text(self, item: Mapping[str, Any], _look: Look) -> str:
        return format_ratio(item.get("raw_size"), item.get("stored_size"))


class State(Column):
    """How closely a backup was verified and when, or why not to rely on it."""

    def raw(self, item: Mapping[str, Any]) -> Any:
        if item.get("unrestorable_reason"):
            return "not restorable"
        if item.get("damaged_pages"):
            return "damaged pages"
        verified = item.get("verified")
        return verified["level"] if verified else None

    def text(self, item: Mapping[str, Any], look: Look) -> str:
        state, verified = self.raw(item), item.get("verified")
        if state is None:
            return "never" if item["status"] in ("COMPLETED", "RESTORED") else ""
        if verified and state == verified["level"]:
            return escape(f"{state} {look.moment(verified['at'])}" if verified["ok"] else "damaged")
        return escape(str(state))


class Status(Column):
    """The status, unless the backup was deleted or has expired and waits to be removed."""

    def text(self, item: Mapping[str, Any], look: Look) -> str:
        if item["status"] in ("COMPLETED", "RESTORED") and item.get("sweep_at"):
            return "deleted" if item.get("trashed") else "expired"
        return super().text(item, look)


class Expires(Exact):
    """When a backup that was deleted, or that no rule keeps, is removed from the store."""

    def text(self, item: Mapping[str, Any], look: Look) -> str:
        if not item.get("sweep_at"):
            return ""
        return f"{'deleted, ' if item.get('trashed') else ''}{super().text(item, look)}"


LIST = [
    Column("Name", "name"),
    Column("Instance", "instance_name", rank=1),
    Column("Kind", "kind", rank=3),
    Status("Status", "status"),
    Column("Data", "data_size", format_size, right=True, rank=7),
    Column("Stored", "stored_size", format_size, right=True, rank=2),
    Ratio("Ratio", "ratio", right=True, rank=9),
    Column("Time", "seconds", format_duration, right=True, rank=8),
    State("Verified", "state"),
    Column("Protected", "protected", rank=10),
    Column("Held", "hold.reason", rank=11),
    Expires("Expires", "sweep_at", rank=4),
    Id("Parent", "parent_id", rank=6),
    When("Created", "created"),
    Id("ID", "id"),
]


def list_backups(
    session: Session,
    filters: Filters,
    *,
    instance: str | None,
    chain: str | None,
    unverified: bool,
    tree: bool,
    all_projects: bool,
) -> None:
    """Print the selected backups. Raises NotFound if there is neither the instance nor a backup of it."""
    if chain is not None:
        root = session.client.get("backups", chain, trashed="true")["backup"]["chain_id"]
        filters = replace(filters, fields=(*filters.fields, ("chain_id", (root,))))
    columns = [Column("Project", "project_id"), *LIST] if all_projects else LIST
    everywhere = {"all_projects": True, "trashed": "true"} if all_projects else {"trashed": "true"}
    found = filters.apply(
        _filter_unverified(unverified, session.client.items("backups", instance_id=instance, limit=filters.page, **everywhere)),
        columns,
    )
    if not found and instance is not None and not session.client.exists("instances", instance):
        named = [b for b in session.client.items("backups", **everywhere) if instance in (b["instance_name"], b["instance_id"])]
        if not named:
            raise NotFound(f"there is no instance {instance}, and no backup of one", remedy="See `strongroom instance list`.")
        if len({b["instance_id"] for b in named}) > 1:
            known = ", ".join(sorted({f"{b['instance_id']}" for b in named}))
            raise Conflict(
                f"there are backups of several deleted instances named {instance}: {known}", remedy="Specify one of these ids."
            )
        found = filters.apply(_filter_unverified(unverified, named), columns)
    if tree and session.output.format is Format.table:
        found = list(_order_as_tree(found))
    session.output.rows(found, columns, noun="backups")
    if found and session.output.format is Format.table:
        note(_format_total(found))


def _filter_unverified(unverified: bool, backups: Iterable[Backup]) -> Iterator[Backup]:
    """The backups; with ``unverified``, without those that a verification found good."""
    return (b for b in backups if not (unverified and b["verified"] and b["verified"]["ok"]))


def _order_as_tree(backups: Sequence[Backup]) -> Iterator[Backup]:
    """Each full backup, newest first, with its descendants below it, oldest first; side branches come first and deeper."""
    ids = {backup["id"] for backup in backups}
    children: dict[str | None, list[Backup]] = {}
    for backup in reversed(backups):
        children.setdefault(backup["parent_id"] if backup["parent_id"] in ids else None, []).append(backup)
    waiting = [(backup, 0) for backup in children.get(None, [])]
    while waiting:
        backup, depth = waiting.pop()
        yield {**backup, "name": f"{'  ' * (depth - 1)}└ {backup['name']}" if depth else backup["name"]}
        below, level = children.get(backup["id"], []), max(depth, 1)
        waiting += [(child, level) for child in below[:1]] + [(child, level + 1) for child in reversed(below[1:])]


def _format_total(backups: Sequence[Backup]) -> str:
    stored = sum(backup["stored_size"] or 0 for backup in backups)
    good = sum(1 for backup in backups if backup["restorable"])
    verified = sum(1 for backup in backups if backup["verified"] and backup["verified"]["ok"])
    damaged = sum(1 for backup in backups if backup.get("damaged_pages"))
    harm = f", {damaged} of a damaged database" if damaged else ""
    marked = sum(1 for backup in backups if backup.get("sweep_at"))
    going = f", {marked} deleted or expired" if marked else ""
    count = format_count(len(backups), "backup")
    return f"{count} ({format_size(stored)} in the store), {good} restorable, {verified} verified{harm}{going}."
