"""Labels: the name, the protection and the hold that users gave a backup, also kept in the store, in case the catalog is lost."""

from __future__ import annotations

import re

import structlog

from strongroom.artifact import Label, LabelHold, Location, delete_labels, load_label, put_label
from strongroom.catalog import Backup, Hold
from strongroom.errors import InvalidRequest, StorageError, StorageNotFound
from strongroom.flows.backups.sources import location_of
from strongroom.flows.records import check_name
from strongroom.storage import Store

log = structlog.get_logger()


def store_label(store: Store, backup: Backup, hold: Hold | None) -> None:
    """Store the name, the protection and the hold of the backup beside its manifest, if there is one. Raises StorageError."""
    location = location_of(backup)
    if not _has_manifest(store, location):
        return
    held = LabelHold(reason=hold.reason, held_by=hold.held_by, since=hold.created, until=hold.until) if hold is not None else None
    label = Label(id=location.id, container=location.container, name=backup.name, protected=backup.protected, hold=held)
    put_label(store, label)
    if not _has_manifest(store, location):  # deleted meanwhile
        delete_labels(store, location)


def take_over_label(row: Backup, store: Store) -> Hold | None:
    """Give a backup that the catalog finds in the store its last name and its protection, and return its hold, if it has one.

    What cannot be read is left out.
    """
    location = location_of(row)
    hold: Hold | None = None
    try:
        label = load_label(store, location)
        if label is not None:
            row.protected = label.protected
            hold = _make_hold(row, label.hold) if label.hold is not None else None
            check_name(label.name, "backup")
            row.name = label.name
    except (StorageError, InvalidRequest) as error:
        log.warning("cannot read the label of a backup", backup=location.prefix, reason=error.message)
    return hold


def _make_hold(row: Backup, held: LabelHold) -> Hold:
    """The hold of a label. Control characters are left out: anyone may have written it, and PostgreSQL refuses NUL."""
    reason, held_by = (re.sub(r"[\x00-\x1f\x7f]", "", text) for text in (held.reason, held.held_by))
    return Hold(backup_id=row.id, reason=reason, until=held.until, held_by=held_by[:255], created=held.since)


def _has_manifest(store: Store, location: Location) -> bool:
    try:
        store.head(location.manifest)
    except StorageNotFound:
        return False
    return True
