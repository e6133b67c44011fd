"""Reads which backups the stores contain: rows of the catalog are no proof."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import structlog
from sqlalchemy import select

from strongroom.catalog import Backup, now
from strongroom.errors import StorageError, StorageNotFound, StrongroomError
from strongroom.flows.backups.sources import location_of
from strongroom.flows.retention.memory import Place
from strongroom.flows.site import Site
from strongroom.protection.status import FACTS_AGE
from strongroom.storage import Store

log = structlog.get_logger()

_THREADS = 8
_MOST_HEADS = 500
"""Number of manifests that one refresh checks, in addition to listing all artifacts."""


def place_of(site: Site, backup: Backup) -> Place:
    """The store and container of the backup's artifact."""
    return (backup.project if site.settings.storage.by_project else "", backup.container)


def read_present(site: Site, backups: Iterable[Backup]) -> frozenset[str]:
    """Ids of the backups whose manifest is in the store now. Raises StorageError if any of them cannot be checked.

    A missing container is an error, too: the store may not be mounted, or may be a different one.
    """
    own = [backup for backup in backups if backup.source is None and backup.status not in Backup.RUNNING]
    containers: dict[Place, Store] = {}
    for backup in own:
        if backup.status in Backup.RESTORABLE:
            containers.setdefault(place_of(site, backup), site.stores.holding(backup))
    for (_, container), store in containers.items():
        _list_folders(store, container)
    with ThreadPoolExecutor(_THREADS) as threads:
        found = list(threads.map(lambda backup: _has_manifest(site.stores.holding(backup), backup), own))
    return frozenset(backup.id for backup, is_there in zip(own, found, strict=True) if is_there)


def refresh_facts(site: Site) -> None:
    """List all containers with backups, and check some manifests, so that each is checked once a day.

    If something cannot be read, the earlier result stays, with its time.
    """
    facts = site.watch.facts
    own = (Backup.deleted.is_(None), Backup.status == "COMPLETED", Backup.source.is_(None))
    with site.catalog.read() as session:
        places = list(session.execute(select(Backup.project, Backup.container).where(*own).distinct()))
        following = select(Backup).where(*own, Backup.id > facts.cursor).order_by(Backup.id).limit(_MOST_HEADS)
        some = list(session.scalars(following))
    done: set[Place] = set()
    for project, container in places:
        place = (project if site.settings.storage.by_project else "", container)
        if place in done:
            continue
        done.add(place)
        at = now()
        try:
            folders = frozenset(_list_folders(site.stores.of_project(project), container))
        except StrongroomError as error:
            log.warning("cannot read the store", container=container, error=error.code, reason=error.message)
            with facts.lock:
                facts.failed[container, error.code] = facts.failed.get((container, error.code), 0) + 1
        else:
            with facts.lock:
                facts.read[place], facts.folders[place] = at, folders
    try:
        present = read_present(site, some)
    except StrongroomError as error:
        log.warning("cannot read manifests", error=error.code, reason=error.message)
        return
    with facts.lock:
        facts.missing -= present
        facts.missing |= {backup.id for backup in some} - present
        facts.cursor = some[-1].id if len(some) == _MOST_HEADS else ""


def find_facts(site: Site, backups: Iterable[Backup]) -> tuple[frozenset[str], datetime | None]:
    """Ids of the backups last found in the store, and when all their containers had been read; None if they were not yet.

    A backup that is newer than the list counts as found: its manifest was read back when it was recorded.
    """
    places: dict[Place, list[Backup]] = {}
    for backup in backups:
        if backup.source is None and backup.status in Backup.RESTORABLE:
            places.setdefault(place_of(site, backup), []).append(backup)
    facts = site.watch.facts
    present: set[str] = set()
    times: list[datetime | None] = []
    with facts.lock:
        for place, inside in places.items():
            read = facts.read.get(place)
            latest = max(backup.updated for backup in inside)
            times.append(read or (latest if now() - latest < FACTS_AGE else None))
            listed = {b.id for b in inside if read is None or b.id in facts.folders[place] or b.updated >= read}
            present |= listed - facts.missing
    if any(time is None for time in times):
        return frozenset(present), None
    return frozenset(present), min((time for time in times if time is not None), default=now())


def _list_folders(store: Store, container: str) -> set[str]:
    folders = set(store.folders(container))
    if not folders and container not in set(store.folders()):
        raise StorageError(
            f"the store does not show container {container}",
            remedy="See that the store is mounted, and that it is the one the backups were written to.",
        )
    return folders


def _has_manifest(store: Store, backup: Backup) -> bool:
    try:
        store.head(location_of(backup).manifest)
    except StorageNotFound:
        return False
    return True
