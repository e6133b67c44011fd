"""Changes of instances, backups and clusters that need no job: their names, and their protection from deletion."""

from __future__ import annotations

import re
from collections.abc import Iterable

from strongroom.catalog import Backup, Cluster, Instance, now
from strongroom.catalog.find import find_cluster
from strongroom.errors import Busy, InvalidRequest, Protected
from strongroom.flows.site import Site
from strongroom.sections import CONTAINER_PATTERN

Record = Instance | Backup | Cluster
NOUNS: dict[type[Record], str] = {Instance: "instance", Backup: "backup", Cluster: "cluster"}


def change_record(row: Record, *, name: str | None = None, protected: bool | None = None) -> None:
    """Set what is given.

    Raises Busy for the protection of something that is being deleted: the deletion would not stop.
    """
    if protected and _is_being_deleted(row):
        raise Busy(f"{NOUNS[type(row)]} {row.name} ({row.id}) is being deleted; it is too late to protect it")
    if name:
        row.name = name
    if protected is not None:
        row.protected = protected
    row.updated = now()


def _is_being_deleted(row: Record) -> bool:
    if isinstance(row, Backup):
        return row.status == "DELETING"
    return row.task == ("DELETING" if isinstance(row, Cluster) else "SHUTDOWN")


def change_cluster(site: Site, project: str, cluster: str, *, name: str | None, protected: bool | None) -> Cluster:
    """Rename a cluster, or change its protection. Raises NotFound, Conflict, Busy."""
    with site.catalog.write() as session:
        row = find_cluster(session, project, cluster)
        change_record(row, name=name, protected=protected)
    return row


def refuse_if_protected(rows: Iterable[Record]) -> None:
    """Raise Protected if one of the rows is protected."""
    for row in rows:
        if row.protected:
            noun = NOUNS[type(row)]
            raise Protected(
                f"{noun} {row.name} ({row.id}) is protected from deletion",
                remedy=f"Remove the protection first: `strongroom {noun} unprotect {row.id}`.",
            )


def check_name(name: str, noun: str) -> None:
    """Trove's rule: 1 to 255 characters, one of them a letter or digit. Raises InvalidRequest."""
    if not 1 <= len(name) <= 255 or not any(c.isalnum() for c in name):
        raise InvalidRequest(
            f"the name of the {noun} has {len(name)} characters; it must have 1 to 255, with at least one letter or digit"
        )
    if any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise InvalidRequest(f"the name of the {noun} contains control characters")


def check_container(name: str) -> None:
    """Raise InvalidRequest if ``name`` is not a valid name of a container."""
    if not re.fullmatch(CONTAINER_PATTERN, name):
        raise InvalidRequest(
            f"The value is not allowed: {name!r} is not a valid name of a container",
            remedy="Use 1 to 255 letters, digits and @%_+=:,.- and begin with a letter or digit.",
        )
