"""Describes a server for callers, from what is known already: cheap."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from strongroom.agent.models import OldData, ServerState, ServerView
from strongroom.agent.registry import ServerRecord
from strongroom.agent.runtimes import Home
from strongroom.agent.runtimes.lifecycle import Lifecycle
from strongroom.agent.servers.copies import Isolation
from strongroom.agent.servers.health import Health
from strongroom.agent.swap.outside import leftovers
from strongroom.agent.swap.swap import around
from strongroom.errors import StrongroomError
from strongroom.system.disks import measure_disk_usage, measure_free_space

log = structlog.get_logger()

WINDOW = timedelta(minutes=10)
"""Restarts of a server that died are counted within it."""


def list_previous_data(record: ServerRecord) -> list[Path]:
    """Previous data, and new data on which the server did not start; also those of outside directories."""
    outside = (path for place, jobs in record.staged.items() for path in leftovers(place, jobs, "old", "failed"))
    return sorted({*around(record, "old", "failed"), *outside})


class Views:
    """``job_on`` returns the job that runs on a server."""

    def __init__(self, home: Home, lifecycle: Lifecycle, job_on: Callable[[str], str | None]) -> None:
        self._home = home
        self._lifecycle = lifecycle
        self._job_on = job_on
        self._old_bytes: dict[Path, int] = {}
        self._isolated = Isolation()

    def view(self, record: ServerRecord, health: Health, *, swapping: bool) -> ServerView:
        """What is known of the server."""
        definition = record.definition
        running = self._lifecycle.is_running(record)
        healthy = health.healthy and (running or record.is_adopted)
        has_data = record.data_dir.is_dir()
        return ServerView(
            id=record.id,
            name=definition.name,
            datastore=definition.datastore,
            series=definition.series,
            version_number=health.version_number or self._installed_number(record),
            runtime=definition.runtime,
            wanted=record.wanted,
            state="swapping" if swapping else _state(record, health, running=running, has_data=has_data),
            healthy=healthy,
            detail=health.detail if healthy else (record.failed or health.detail),
            address=record.address,
            port=record.port,
            socket=record.socket,
            data_dir=record.data_dir,
            data_bytes=health.sizes.data_bytes,
            wal_bytes=health.sizes.wal_bytes,
            free_bytes=measure_free_space(record.data_dir if has_data else self._home.instances),
            lineage=self._lineage(record) if has_data else None,
            pid=record.process.pid if running and record.process is not None else None,
            restarts=record.restarts_since(datetime.now(UTC) - WINDOW),
            old_data=self._old_data(record),
            isolated=self._isolated(record.data_dir),
            galera=health.galera,
            member=record.member,
            data_epoch=record.data_epoch,
            job=self._job_on(record.id),
        )

    def _installed_number(self, record: ServerRecord) -> str:
        try:
            return self._home.describe_server(record).version.number
        except StrongroomError:
            return record.definition.series

    def _lineage(self, record: ServerRecord) -> str | None:
        try:
            return self._home.get_datastore(record).servers.ensure_lineage(record.data_dir)
        except FileNotFoundError:
            return None  # a swap moves it just now
        except (StrongroomError, OSError) as error:
            log.warning("lineage cannot be read", server=record.id, reason=str(error))
            return None

    def _old_data(self, record: ServerRecord) -> list[OldData]:
        found = []
        for path in list_previous_data(record):
            if path not in self._old_bytes:
                self._old_bytes[path] = measure_disk_usage(path)
            try:
                since = datetime.fromtimestamp(path.lstat().st_ctime, UTC)
            except OSError:
                continue
            of_data = path.parent == record.data_dir.parent and path.name.startswith(f"{record.data_dir.name}.")
            name = path.name if of_data else str(path)
            found.append(OldData(name=name, bytes=self._old_bytes[path], since=since))
        return found


def _state(record: ServerRecord, health: Health, *, running: bool, has_data: bool) -> ServerState:
    if not has_data:
        return "new"
    if health.healthy and (running or record.is_adopted):
        return "running"
    if running and health.hindered:
        return health.hindered
    if record.is_adopted:
        return "starting" if running else "stopped"
    if running:
        return "starting"
    if record.failed is not None:
        return "failed"
    return "starting" if record.wanted == "running" else "stopped"
