"""Labels: the name and the protection that people gave a backup, kept in the store too, for the day when the catalog is lost."""

from __future__ import annotations

import structlog

from strongroom.artifact import Label, Location, delete_labels, load_label, put_label
from strongroom.catalog import Backup
from strongroom.errors import InvalidRequest, StorageError, StorageNotFound
from strongroom.flows.backups.sources import location_of
from strongroom.flows.records import check_name
from strongroom.storage import Store

log = structlog.get_logger()


def store_label(store: Store, backup: Backup) -> None:
    """Store the name and the protection of the backup beside its manifest, if there is one. Raises StorageError."""
    location = location_of(backup)
    if not _has_manifest(store, location):
        return
    put_label(store, Label(id=location.id, container=location.container, name=backup.name, protected=backup.protected))
    if not _has_manifest(store, location):  # deleted meanwhile
        delete_labels(store, location)


def take_over_label(row: Backup, store: Store) -> None:
    """Give a backup that the catalog finds in the store its last name and its protection. What cannot be read is left out."""
    location = location_of(row)
    try:
        label = load_label(store, location)
        if label is not None:
            row.protected = label.protected
            check_name(label.name, "backup")
            row.name = label.name
    except (StorageError, InvalidRequest) as error:
        log.warning("cannot read the label of a backup", backup=location.prefix, reason=error.message)


def _has_manifest(store: Store, location: Location) -> bool:
    try:
        store.head(location.manifest)
    except StorageNotFound:
        return False
    return True
