"""Removes the log that no backup needs any more, and the log of deleted databases with their last backup."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

import structlog
from sqlalchemy import delete, select
from sqlalchemy.exc import DBAPIError

from strongroom.archive import (
    LogLocation,
    Removed,
    SeriesLocation,
    delete_log,
    list_records,
    list_series,
    load_head,
    load_segment,
    load_series,
    load_trimmed,
    remove_trimmed,
    trim_log,
)
from strongroom.artifact import Manifest, list_artifacts
from strongroom.catalog import Backup, Instance, LogArchive, Removal, now
from strongroom.errors import ArtifactError, StorageError, StrongroomError
from strongroom.flows.recovery.location import open_log
from strongroom.flows.retention.brakes import find_brake
from strongroom.flows.retention.clocks import find_jump, load_readings, read_clocks
from strongroom.flows.retention.facts import read_present
from strongroom.flows.retention.holdings import Holdings, load_holdings
from strongroom.flows.retention.turn import CHANGED_POLICY_WAITS
from strongroom.flows.site import Site
from strongroom.protection.logs import count_removable, find_log_start
from strongroom.storage import Store

log = structlog.get_logger()


def sweep_logs(site: Site) -> None:
    """Remove old log from all log archives. An error affects only one. Impossible if stores require the token of a user."""
    if site.settings.storage.by_token:
        return
    with site.catalog.read() as session:
        if site.watch.jump or find_jump(load_readings(session), read_clocks()):  # the clock cannot be trusted
            return
        instances = list(session.scalars(select(Instance).where(Instance.id.in_(select(LogArchive.instance_id)))))
    for instance in instances:
        try:
            _sweep(site, instance)
        except StrongroomError as error:
            log.warning("cannot remove old log", instance=instance.name, error=error.code, reason=error.message)
        except DBAPIError:
            raise
        except Exception:
            log.exception("cannot remove old log", instance=instance.name)


def _sweep(site: Site, instance: Instance) -> None:
    with site.catalog.read() as session:
        holdings = load_holdings(session, instance.cluster_id or instance.id)
        row = session.get(LogArchive, instance.id)
    if row is None:
        return
    store, where = open_log(site, instance)
    if instance.deleted is not None and row.released and not holdings.backups:
        _require_known_backups(site, store, instance)
        removed = delete_log(store, where)
        with site.catalog.write() as session:
            session.execute(delete(LogArchive).where(LogArchive.instance_id == instance.id))
        _record(site, instance, holdings, removed, "its database was deleted, and its last backup was removed")
        return
    start = _find_start(site, holdings)
    if start is not None and (beginning := find_new_beginning(store, where, start)) is not None:
        _require_known_backups(site, store, instance)
        trim_log(store, where, *beginning, at=int(now().timestamp() * 1_000_000))
    removed = remove_trimmed(store, where)  # also what an interrupted sweep has left
    reason = "no backup that the policy keeps for the recovery window needs it"
    _record(site, instance, holdings, removed, f"{reason}: written before {start:%Y-%m-%d %H:%M} UTC" if start else reason)


def _require_known_backups(site: Site, store: Store, instance: Instance) -> None:
    """Raise StorageError if the store has backups of the instance that the catalog does not know: they may need the log."""
    if next(iter(store.folders()), None) is None:
        raise StorageError("the store shows nothing", remedy="Check that it is mounted, and that it is the right store.")
    with site.catalog.read() as session:
        known = set(session.scalars(select(Backup.id)))
    for found in list_artifacts(store, without=known):
        if isinstance(found, Manifest) and found.instance_id == instance.id:
            raise StorageError(
                f"the store has backup {found.id} of {instance.name}, which the catalog does not know",
                remedy="Run `strongroom catalog rebuild`.",
            )


def _find_start(site: Site, holdings: Holdings) -> datetime | None:
    """Log before this moment may be removed; None: all log is kept. Raises StorageError if the store cannot be read completely.

    The same brakes apply as to backups: without a policy, within a day after a change of the policy, and while a brake stops
    retention of the database, or a job reads one of its backups, all log is kept.
    """
    at = now()
    if holdings.policy is None or holdings.policy_since > at - CHANGED_POLICY_WAITS:
        return None
    if any(backup.id in holdings.in_use and backup.status in Backup.RESTORABLE for backup in holdings.backups):
        return None  # a restore may read the log, too
    spec = holdings.policy.spec
    present = read_present(site, holdings.backups)
    history = holdings.to_history(present)
    with site.catalog.read() as session:
        brake = find_brake(session, holdings, history, (), jump=site.watch.jump)
    if brake is not None:
        log.info("old log is kept", database=holdings.database and holdings.database.name, reason=brake.message)
        return None
    kept = {backup.id for backup in holdings.backups}  # also expired ones: they can be restored until they are removed
    starts = [find_log_start(each, kept, spec.rules, at) for each in (history, holdings.to_history(present, with_deleted=True))]
    return min((start for start in starts if start is not None), default=None) if None not in starts else None


def find_new_beginning(store: Store, where: LogLocation, start: datetime) -> tuple[int, int] | None:
    """The series and the number of the first segment that stay; None if all stay. Reads only a few records.

    Raises ArtifactError for a damaged record, StorageError.
    """
    trimmed = load_trimmed(store, where)
    series = [each for each in list_series(store, where) if trimmed is None or each.number >= trimmed.series]
    if not series:
        return None
    stays = _find_series(store, series, start)
    first = trimmed.first if trimmed is not None and trimmed.series == stays.number else 0
    numbers = [number for number in list_records(store, stays) if number >= first]

    def read_time(place: int) -> datetime:
        return _read_time(load_segment(store, stays, numbers[place]).record.written)

    gone = count_removable(len(numbers), read_time, start)
    beginning = stays.number, numbers[gone] if gone else first
    present = (trimmed.series, trimmed.first) if trimmed is not None else (series[0].number, 0)
    return beginning if beginning > present else None


def _find_series(store: Store, series: Sequence[SeriesLocation], start: datetime) -> SeriesLocation:
    """The first series that is not entirely before ``start``: all of a series was written before the next one began."""
    for location, following in pairwise(series):
        try:
            if _read_time(load_series(store, following).record.started) >= start:
                return location
            last = load_head(store, location).segment
            if last is not None and _read_time(last.written) >= start:  # the clock was wrong when the following one began
                return location
        except ArtifactError:  # nobody knows when it began
            return location
    return series[-1]


def _read_time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def _record(site: Site, instance: Instance, holdings: Holdings, removed: Removed, reason: str) -> None:
    """Record the removal as that of a backup is."""
    if not removed.objects:
        return
    log.info("removed old log", instance=instance.name, objects=removed.objects, bytes=removed.bytes)
    policy = holdings.policy
    with site.catalog.write() as session:
        session.add(
            Removal(
                backup_id=str(uuid.uuid4()),
                project=instance.project,
                database_id=instance.cluster_id or instance.id,
                name=f"log of {instance.name}"[:255],
                instance_name=instance.name,
                kind="log",
                stored_size=removed.bytes,
                created=now(),
                removed=now(),
                reason=reason,
                policy=policy.name if policy else "",
                policy_changed_by=policy.updated_by if policy else "",
            )
        )
