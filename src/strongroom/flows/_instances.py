"""Requests about instances: create, adopt, restore in place, start, stop, reset, delete."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.agent.models import ServerDefinition
from strongroom.catalog import Backup, Host, Instance, Job, now, quotas
from strongroom.catalog.find import chain_of, find_backup, find_instance, unfinished_jobs
from strongroom.catalog.queries import in_order
from strongroom.datastores import DatabaseSpec, UserSpec
from strongroom.errors import Cancelled, Conflict, InvalidRequest, NotFound, TooLarge
from strongroom.flows import _jobs, _outcomes
from strongroom.flows._backups import check_name, refuse_unless_restorable
from strongroom.flows._control import Control
from strongroom.flows._jobs import new_job, refuse_if_busy, refuse_if_node
from strongroom.flows._source import require_source

GB = 1024**3
DEFAULT_VOLUME = 10
"""GB of a new instance that names no size."""


def request_instance(
    control: Control,
    project: str,
    *,
    name: str,
    flavor: str | None = None,
    volume_size: int | None = None,
    datastore: str | None = None,
    version: str | None = None,
    version_number: str | None = None,
    backup: str | None = None,
    databases: Sequence[DatabaseSpec] = (),
    users: Sequence[UserSpec] = (),
    adopt: ServerDefinition | None = None,
    echo: dict[str, Any] | None = None,
) -> tuple[Instance, Job]:
    """Create an instance: empty, from a backup, or by adopting a running server. Everything but the name has a default.

    Raises InvalidRequest, NotFound, Conflict, TooLarge, QuotaExceeded.
    """
    check_name(name, "instance")
    settings = control.settings
    flavor = flavor or settings.default_flavor
    if flavor not in settings.flavors:
        raise InvalidRequest(f"flavor {flavor} cannot be found", remedy=f"Flavors are {', '.join(settings.flavors)}.")
    if volume_size is not None and volume_size < 1:
        raise InvalidRequest(f"volume size {volume_size} is not a size: it is in GB and at least 1")
    if backup is not None:
        require_source(control, project, backup)
    with control.catalog.write() as session:
        source: Backup | None = None
        if backup is not None:
            source = find_backup(session, project, backup)
            refuse_unless_restorable(session, source)
            if datastore is not None and datastore not in (source.datastore, version_id(source.datastore)):
                raise InvalidRequest(
                    f"backup {source.name} ({source.id}) is of datastore {source.datastore}; it cannot be restored to {datastore}"
                )
            datastore = source.datastore
            if version is None and version_number is None:
                version = source.series
            volume_size = volume_for(source, volume_size)
        host, found = place(
            session,
            datastore or (adopt.datastore if adopt else settings.datastores.default),
            [asked for asked in (version, version_number, adopt.series if adopt else None) if asked],
        )
        if source is not None and found["series"] != source.series:
            raise Conflict(
                f"backup {source.name} ({source.id}) is of {source.datastore} {source.series}; "
                f"{found['datastore']} {found['series']} cannot take it",
                remedy=f"Ask for --datastore-version {source.series}.",
            )
        volume_size = volume_size or DEFAULT_VOLUME
        ours = {} if adopt else {"ram": settings.flavors[flavor].ram, "volumes": volume_size}
        quotas.require(session, project, settings, {"instances": 1, **ours})
        instance = Instance(
            id=str(uuid.uuid4()),
            project=project,
            name=name,
            host=host,
            runtime="adopted" if adopt else "process",
            datastore=found["datastore"],
            series=found["series"],
            version_number=found["number"],
            flavor=flavor,
            volume_size=volume_size,
            task="BUILD",
            request=echo or {},
        )
        session.add(instance)
        job = new_job(
            session,
            project,
            "adopt" if adopt else "create",
            instance=instance,
            backup=source,
            adopt=adopt.model_dump(mode="json") if adopt else None,
        )
        if databases or users:
            control.secrets.put(
                job.id,
                {
                    "databases": [d.model_dump(mode="json") for d in databases],
                    "users": [u.model_dump(mode="json") for u in users],
                },
            )
    control.start(job)
    return instance, job


@lru_cache(256)
def version_id(*names: str) -> str:
    """Stable id of a datastore (one name) or of a version of it (datastore, series): the same on every service."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "strongroom:datastore:" + ":".join(names)))


def volume_for(source: Backup, asked: int | None) -> int:
    needed = max(1, math.ceil((source.data_size or 0) / GB))
    if asked is None:
        return max(DEFAULT_VOLUME, needed)
    if asked < needed:
        raise TooLarge(
            f"backup {source.name} ({source.id}) holds {needed} GB of data; it does not fit a volume of {asked} GB",
            remedy=f"Ask for --size {needed} or more.",
        )
    return asked


def place(
    session: Session, datastore: str, wanted: Sequence[str], number: int = 0, hosts: Sequence[str] = ()
) -> tuple[str, dict[str, Any]]:
    """The host with most room among those (of ``hosts``, if any are named) that have the version, and the version as its agent
    describes it. ``number`` of a node in its cluster: they go to one host after the other.
    """
    candidates: list[tuple[int, str, dict[str, Any]]] = []
    known: set[str] = set()
    datastores: set[str] = set()
    for host in session.scalars(select(Host).where(Host.name.in_(hosts)) if hosts else select(Host)):
        for found in host.view.get("versions", []):
            known.add(f"{found['datastore']} {found['series']}")
            datastores |= {found["datastore"], version_id(found["datastore"])}
            names = (found["series"], found["number"], version_id(found["datastore"], found["series"]))
            if datastore in (found["datastore"], version_id(found["datastore"])) and all(asked in names for asked in wanted):
                candidates.append((host.view.get("free_bytes", 0), host.name, found))
    if candidates:
        newest = max(in_order(found["series"]) for *_, found in candidates)
        best = sorted((c for c in candidates if in_order(c[2]["series"]) == newest), key=lambda c: (-c[0], c[1]))
        _, name, found = best[number % len(best)]
        return name, found
    remedy = (
        f"Installed: {', '.join(sorted(known))}." if known else "No database is installed on any host: see `strongroom check`."
    )
    if datastore not in datastores:
        raise NotFound(f"datastore {datastore} cannot be found", remedy=remedy)
    raise InvalidRequest(f"version {' '.join(wanted)} of datastore {datastore} cannot be found", remedy=remedy)


def request_restore(control: Control, project: str, instance: str, backup: str) -> Job:
    """Restore ``backup`` in place; the data that is there now is kept aside. Raises NotFound, Conflict, InvalidRequest, Busy."""
    require_source(control, project, backup)
    with control.catalog.write() as session:
        row = find_instance(session, project, instance)
        source = find_backup(session, project, backup)
        refuse_if_busy(session, row, "restore it")
        refuse_if_node(row, "restore")
        refuse_unless_restorable(session, source)
        if (source.datastore, source.series) != (row.datastore, row.series):
            raise InvalidRequest(
                f"backup {source.name} ({source.id}) is of {source.datastore} {source.series}; "
                f"instance {row.name} is {row.datastore} {row.series}",
                remedy="Restore it to a new instance of its own version.",
            )
        if row.runtime == "process":  # an adopted server has the room that its owner gave it
            volume_for(source, row.volume_size)
        row.task = "RESTORE"
        row.updated = now()
        job = new_job(session, project, "restore", instance=row, backup=source, chain=[b.id for b in chain_of(session, source)])
    control.start(job)
    return job


Action = Literal["start", "stop", "restart", "discard_old"]
TASK: dict[Action, str | None] = {"start": "REBOOT", "stop": "REBOOT", "restart": "REBOOT", "discard_old": None}


def request_action(control: Control, project: str, instance: str, kind: Action) -> Job:
    """Start, stop or restart the server, or drop the data that restores have put aside. Raises NotFound, Busy."""
    with control.catalog.write() as session:
        row = find_instance(session, project, instance)
        refuse_if_busy(session, row, kind.replace("_", " "))
        refuse_if_node(row, kind.replace("_", " "))
        row.task = TASK[kind] or row.task
        row.updated = now()
        job = new_job(session, project, kind, instance=row)
    control.start(job)
    return job


def request_reset(control: Control, project: str, instance: str) -> None:
    """Give up whatever is being done to the instance, so that it can be used, or deleted, again.

    Its jobs end as cancelled at once, whether or not anybody is there to stop their work; running backups fail. Raises NotFound.
    """
    with control.catalog.write() as session:
        row = find_instance(session, project, instance)
        for job in unfinished_jobs(session, instance_id=row.id):
            job.cancel = True
            why = Cancelled(f"{job.kind} job {job.id} was given up: the status of instance {row.name} ({row.id}) was reset")
            _outcomes.settle(session, job, why.to_dict())
        row.task = None
        row.updated = now()


def request_delete_instance(control: Control, project: str, instance: str) -> Job:
    """Stop and remove the server and its data; running jobs on it are cancelled; its backups stay. Raises NotFound."""
    with control.catalog.write() as session:
        row = find_instance(session, project, instance)
        refuse_if_node(row, "delete")
        for job in unfinished_jobs(session, instance_id=row.id):
            if job.kind == "delete_instance":
                return job
            _jobs.cancel(session, job)
        row.task = "SHUTDOWN"
        row.updated = now()
        job = new_job(session, project, "delete_instance", instance=row)
    control.start(job)
    return job
