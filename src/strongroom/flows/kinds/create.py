"""Requests about instances: create, adopt, restore in place, start, stop, reset, delete."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from strongroom import datastores
from strongroom.agent.models import ServerDefinition
from strongroom.catalog import Backup, Instance, Job, quotas
from strongroom.catalog.find import chain_of, find_backup, find_instance, unfinished_jobs
from strongroom.datastores import DatabaseSpec, UserSpec
from strongroom.errors import Cancelled, Conflict, InvalidRequest, TooLarge
from strongroom.flows import outcomes
from strongroom.flows.backups.chains import check_name, refuse_unless_restorable
from strongroom.flows.backups.sources import require_source
from strongroom.flows.hosts.placement import GB, Need, place, with_fresh_facts
from strongroom.flows.hosts.versions import version_id
from strongroom.flows.jobs import cancel_job, new_job, refuse_if_busy, refuse_if_node
from strongroom.flows.records import refuse_if_protected
from strongroom.flows.site import Site
from strongroom.flows.status import move_instance

ROOM = 512 * 1024**2
"""Bytes of disk that an empty instance needs to begin with; its volume is a limit, not a reservation."""
DEFAULT_VOLUME = 10
"""GB of a new instance that names no size."""


@with_fresh_facts
def request_instance(
    site: Site,
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
    host: str | None = None,
    tablespaces: Mapping[str, str] | None = None,
    echo: dict[str, Any] | None = None,
) -> tuple[Instance, Job]:
    """Create an instance: empty, from a backup, or by adopting a running server. Everything but the name has a default.

    ``host`` is where it goes; without it, where there is most room. ``tablespaces`` are directories for those of the backup.

    Raises InvalidRequest, NotFound, Conflict, TooLarge, QuotaExceeded.
    """
    check_name(name, "instance")
    settings = site.settings
    flavor = settings.find_flavor(flavor or settings.default_flavor)
    if volume_size is not None and volume_size < 1:
        raise InvalidRequest(f"volume size {volume_size} is not a size: it is in GB and at least 1")
    if backup is not None:
        require_source(site, project, backup)
    with site.catalog.write() as session:
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
        where = _host_to_adopt_on(site, host) if adopt else host
        need = Need(
            datastore or (adopt.datastore if adopt else settings.datastores.default),
            [asked for asked in (version, version_number, adopt.series if adopt else None) if asked],
            ram=0 if adopt else settings.flavors[flavor].ram,
            room=0 if adopt else (source.data_size or 0 if source else 0) or ROOM,
            hosts=[where] if where else [],
        )
        host, found = place(session, site, need)
        if source is not None and found["series"] != source.series:
            raise Conflict(
                f"backup {source.name} ({source.id}) is of {source.datastore} {source.series}; "
                f"{found['datastore']} {found['series']} cannot take it",
                remedy=f"Ask for --datastore-version {source.series}.",
            )
        datastores.get(found["datastore"]).check_new(databases, users)
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
            tablespaces=dict(tablespaces) if tablespaces else None,
        )
        if databases or users:
            site.secrets.put(
                job.id,
                {
                    "databases": [d.model_dump(mode="json") for d in databases],
                    "users": [u.model_dump(mode="json") for u in users],
                },
            )
    site.start(job)
    return instance, job


def _host_to_adopt_on(site: Site, host: str | None) -> str | None:
    """A server that runs is where it is: with several hosts it must be said. Raises InvalidRequest."""
    if host is None and len(site.agents.names) > 1:
        raise InvalidRequest("on which host the server runs is not said", remedy="Name it: --host (`strongroom host list`).")
    return host


def volume_for(source: Backup, asked: int | None) -> int:
    """GB that an instance made of the backup is to have. Raises TooLarge when that is more than was asked for."""
    needed = max(1, math.ceil((source.data_size or 0) / GB))
    if asked is None:
        return max(DEFAULT_VOLUME, needed)
    if asked < needed:
        raise TooLarge(
            f"backup {source.name} ({source.id}) holds {needed} GB of data; it does not fit a volume of {asked} GB",
            remedy=f"Ask for --size {needed} or more.",
        )
    return asked


def request_restore(site: Site, project: str, instance: str, backup: str) -> Job:
    """Restore ``backup`` in place; the data that is there now is kept aside. Raises NotFound, Conflict, InvalidRequest, Busy."""
    require_source(site, project, backup)
    with site.catalog.write() as session:
        row = find_instance(session, project, instance)
        source = find_backup(session, project, backup)
        refuse_if_busy(session, row, "restore it")
        refuse_if_node(row, "restore")
        refuse_unless_restorable(session, source)
        require_same_version(source, row)
        if not row.is_adopted:  # an adopted server has the room that its owner gave it
            volume_for(source, row.volume_size)
        move_instance(row, "RESTORE")
        job = new_job(session, project, "restore", instance=row, backup=source, chain=[b.id for b in chain_of(session, source)])
    site.start(job)
    return job


def require_same_version(source: Backup, instance: Instance) -> None:
    """Raises InvalidRequest when the backup is of another database or series than the instance."""
    if (source.datastore, source.series) != (instance.datastore, instance.series):
        raise InvalidRequest(
            f"backup {source.name} ({source.id}) is of {source.datastore} {source.series}; "
            f"instance {instance.name} is {instance.datastore} {instance.series}",
            remedy="Restore it to a new instance of its own version.",
        )


Action = Literal["start", "stop", "restart", "discard_old", "activate"]
TASK: dict[Action, str | None] = {
    "start": "REBOOT",
    "stop": "REBOOT",
    "restart": "REBOOT",
    "discard_old": None,
    "activate": "REBOOT",
}


def request_action(site: Site, project: str, instance: str, kind: Action) -> Job:
    """Start, stop, restart or activate the server, or drop the data that restores have put aside.

    Raises NotFound, Busy; Conflict when a server is to be activated that is not isolated.
    """
    with site.catalog.write() as session:
        row = find_instance(session, project, instance)
        refuse_if_busy(session, row, kind.replace("_", " "))
        refuse_if_node(row, kind.replace("_", " "))
        if kind == "activate" and not row.isolated:
            raise Conflict(f"instance {row.name} ({row.id}) is not isolated; there is nothing to activate")
        move_instance(row, TASK[kind] or row.task)
        job = new_job(session, project, kind, instance=row)
    site.start(job)
    return job


def request_reset(site: Site, project: str, instance: str) -> None:
    """Give up whatever is being done to the instance, so that it can be used, or deleted, again.

    Its jobs end as cancelled at once, whether or not anybody is there to stop their work; running backups fail. Raises NotFound.
    """
    with site.catalog.write() as session:
        row = find_instance(session, project, instance)
        for job in unfinished_jobs(session, instance_id=row.id):
            job.cancel = True
            why = Cancelled(f"{job.kind} job {job.id} was given up: the status of instance {row.name} ({row.id}) was reset")
            outcomes.settle(session, job, why.to_dict())
        move_instance(row, None)


def request_delete_instance(site: Site, project: str, instance: str) -> Job:
    """Stop and remove the server and its data; running jobs on it are cancelled; its backups stay. Raises NotFound, Protected."""
    with site.catalog.write() as session:
        row = find_instance(session, project, instance)
        refuse_if_node(row, "delete")
        refuse_if_protected([row])
        for job in unfinished_jobs(session, instance_id=row.id):
            if job.kind == "delete_instance":
                return job
            cancel_job(session, job)
        move_instance(row, "SHUTDOWN")
        job = new_job(session, project, "delete_instance", instance=row)
    site.start(job)
    return job
